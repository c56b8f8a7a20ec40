import Foundation
import Glibc

/// What `up`, `down` and `status` do: they ask the daemon of a folder, or start it.
package struct StackClient: Sendable {
    package let home: StackHome

    package init(home: StackHome) {
        self.home = home
    }

    /// Whether the stack's daemon, or what it left behind, is alive.
    package var isRunning: Bool {
        get throws { try FileLock.isHeld(home.lockFile) }
    }

    /// False while the lock is only held by what a killed daemon left behind.
    package var isSupervised: Bool { daemonPid != nil }

    /// The daemon's process, if it is alive and really ours.
    private var daemonPid: pid_t? {
        guard let pid = StackStatus.read(home)?.supervisor, kill(pid, 0) == 0,
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"),
            isOurs(line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
        else { return nil }
        return pid
    }

    /// The number in an old file may by now belong to the daemon of another stack.
    private func isOurs(_ words: [String]) -> Bool {
        guard let option = words.firstIndex(of: "--home"), option + 1 < words.count,
            words[..<option].contains("supervise")
        else { return false }
        // One folder may have several names.
        return URL(fileURLWithPath: words[option + 1]).resolvingSymlinksInPath().path == home.folder.resolvingSymlinksInPath().path
    }

    /// Starts the stack, or adds what is missing in one that runs; returns when everything is ready.
    ///
    /// - Parameters:
    ///   - workers: nil keeps the number of the last time.
    ///   - daemon: how to start the daemon, with the environment that its services are to get.
    ///   - settings: to compare with what a running stack was started with.
    ///   - say: gets a line for each step.
    /// - Throws: ``StackError`` that names the service, its reason and its log. A stack that this call has started is then
    ///   stopped again; one that ran before is left alone.
    package func up(
        workers: Int?,
        daemon: Command,
        settings: StackSettings,
        say: @Sendable (String) -> Void,
    ) async throws -> Endpoints {
        try home.makeFolders()
        let turn = try await FileLock.lock(
            home.startLockFile,
            within: .seconds(300),
            orThrow: StackError(.timedOut, "Another start of the stack in \(home.folder.path) is still at work after 5 minutes."),
        )
        defer { withExtendedLifetime(turn) {} }
        let request = StackRequest(workers: try workers ?? StackRequest.read(home)?.workers ?? settings.workers() ?? 2)
        var started: ManagedProcess?
        if try isRunning, daemonPid != nil {
            compare(settings, say: say)
            try request.write(home)
        } else {
            try await waitForRemains(say: say)
            FileSystem.remove(home.statusFile)
            try request.write(home)
            started = try ManagedProcess(daemon, detached: true)
        }
        do {
            try await waitUntilReady(request, daemon: started, say: say)
        } catch {
            if started != nil { try await down(say: say) }
            throw error
        }
        return try Endpoints.read(home)
    }

    /// A daemon that was killed leaves its children to the lifeline, which takes some seconds.
    private func waitForRemains(say: @Sendable (String) -> Void) async throws {
        guard try isRunning else { return }
        say("Waiting until the processes of an earlier stack are gone")
        try await poll(
            for: .seconds(30),
            every: .milliseconds(100),
            orThrow: StackError(.timedOut, "Processes of an earlier stack in \(home.folder.path) do not end; './dcm down' stops them."),
        ) { try isRunning ? nil : true }
    }

    private func compare(_ settings: StackSettings, say: @Sendable (String) -> Void) {
        guard let running = StackStatus.read(home)?.settings else { return }
        let now = settings.comparable
        for name in Set(running.keys).union(now.keys).sorted() where running[name] != now[name] {
            say(
                "Note: \(name) is \(running[name] ?? "unset") in the running stack and \(now[name] ?? "unset") now; "
                    + "'down' and 'up' again to change it."
            )
        }
    }

    private func waitUntilReady(_ request: StackRequest, daemon: ManagedProcess?, say: @Sendable (String) -> Void) async throws {
        let start = ContinuousClock.now
        var said: [String: ChildReport.State] = [:]
        var notes = 0
        let limit = StackError(
            .timedOut,
            "The stack was not ready after 5 minutes: \(home.statusFile.path) tells what is missing.",
            logFile: home.logFile("supervisor"),
        )
        try await poll(for: .seconds(300), every: .milliseconds(50), orThrow: limit) { () -> Bool? in
            let status = StackStatus.read(home)
            if let failure = status?.failure { throw StackError(.cannotStart, failure) }
            try daemon?.checkIsRunning()
            guard let status else { return nil }
            for note in status.notes.dropFirst(notes) { say("Note: \(note)") }
            notes = max(notes, status.notes.count)
            for child in status.children where said[child.name] != child.state {
                said[child.name] = child.state
                if child.state == .ready { say(Self.line(child, after: .now - start)) }
                if child.state == .backingOff { say("  \(child.name) ended; next attempt follows") }
            }
            for name in said.keys where !status.children.contains(where: { $0.name == name }) {
                said[name] = nil
                say("  \(name) stopped")
            }
            if let broken = status.children.first(where: { $0.failures >= 3 || $0.state == .unresponsive }) {
                throw StackError(.cannotStart, broken.problem ?? "\(broken.name) does not start.")
            }
            guard status.request == request.id, status.children.allSatisfy({ $0.state == .ready }) else { return nil }
            return true
        }
    }

    private static func line(_ child: ChildReport, after time: Duration) -> String {
        let name = child.name.padding(toLength: 10, withPad: " ", startingAt: 0)
        let seconds = Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
        return "  \(name) ready  \(String(format: "%5.1f s", seconds))  pid \(child.pid.map(String.init) ?? "?")"
    }

    /// Stops every process of the stack and keeps its state.
    ///
    /// - Returns: false when there was nothing to stop.
    /// - Throws: ``StackError`` when something refuses to end.
    @discardableResult
    package func down(say: @Sendable (String) -> Void) async throws -> Bool {
        guard try isRunning else {
            forgetPids()
            return false
        }
        if let pid = daemonPid { kill(pid, SIGTERM) }
        // Workers may take their WORKER_GRACE to end what they do.
        let grace = StackStatus.read(home)?.settings["WORKER_GRACE"].flatMap(Double.init) ?? 20
        let failure = StackError(
            .timedOut,
            "The stack in \(home.folder.path) is still there \(Int(grace) + 220) s after it was told to stop.",
            logFile: home.logFile("supervisor"),
        )
        var said = Set(StackStatus.read(home)?.children.map(\.name) ?? [])
        try await poll(for: .seconds(grace + 220), every: .milliseconds(100), orThrow: failure) {
            let present = Set(StackStatus.read(home)?.children.map(\.name) ?? [])
            for name in said.subtracting(present).sorted() { say("  \(name) stopped") }
            said = present
            return try isRunning ? nil : true
        }
        forgetPids()
        return true
    }

    /// After a kill of the daemon nobody was left to write down that nothing runs.
    private func forgetPids() {
        guard var endpoints = try? Endpoints.read(home), endpoints.pids != Endpoints.Pids() else { return }
        endpoints.pids = Endpoints.Pids()
        try? endpoints.write(home)
    }
}
