import Foundation
package import Logging

/// Keeps child processes alive: starts them in their order, restarts what dies with a growing pause, stops them on request.
///
/// Each child has a task of its own, so a slow one delays nobody. Every change is told to `onChange` with the state of all.
package actor Supervisor {
    /// Pauses before a restart: the first, doubled at each failure in a row, at most the last.
    package struct Backoff: Sendable {
        package var first: Duration
        package var last: Duration

        package init(first: Duration = .milliseconds(500), last: Duration = .seconds(30)) {
            self.first = first
            self.last = last
        }

        func pause(failures: Int) -> Duration {
            min(last, first * (1 << max(0, min(failures - 1, 16))))
        }
    }

    private struct Child {
        var spec: ChildSpec
        var report: ChildReport
        var wasReady = false
        var task: Task<Void, Never>?
    }

    private let backoff: Backoff
    private let logger: Logger
    private let onChange: @Sendable ([ChildReport]) -> Void
    private var children: [String: Child] = [:]
    private var order: [String] = []

    package init(backoff: Backoff = Backoff(), logger: Logger, onChange: @escaping @Sendable ([ChildReport]) -> Void = { _ in }) {
        self.backoff = backoff
        self.logger = logger
        self.onChange = onChange
    }

    /// In the order in which they were added.
    package var reports: [ChildReport] { order.compactMap { children[$0]?.report } }

    /// Starts keeping a child; nothing when there is one of that name.
    package func add(_ spec: ChildSpec) {
        guard children[spec.name] == nil else { return }
        children[spec.name] = Child(spec: spec, report: ChildReport(name: spec.name, state: .waiting))
        order.append(spec.name)
        children[spec.name]?.task = Task { await self.keepAlive(spec) }
        onChange(reports)
    }

    /// Stops these children side by side and forgets them; returns when they are gone.
    package func remove(_ names: [String]) async {
        let tasks = names.compactMap { children[$0]?.task }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
        for name in names { children[name] = nil }
        order.removeAll { names.contains($0) }
        onChange(reports)
    }

    private func change(_ name: String, _ body: (inout ChildReport) -> Void) {
        guard var report = children[name]?.report else { return }
        let before = report
        body(&report)
        guard report != before else { return }
        if report.state != before.state { report.since = Date() }
        children[name]?.report = report
        onChange(reports)
    }

    private func keepAlive(_ spec: ChildSpec) async {
        guard await waitForPredecessors(of: spec) else { return change(spec.name) { $0.state = .stopped } }
        var failures = 0
        while !Task.isCancelled {
            var life = Life(worked: .zero, exit: nil)
            do {
                life = try await runOnce(spec)
            } catch {
                fail(spec, "\(error)")
            }
            if Task.isCancelled { break }
            failures = life.worked > .seconds(60) ? 1 : failures + 1
            // EX_CONFIG: the next attempt will end in the same way, so nobody has to wait for it.
            if life.exit == .status(78) { failures = max(failures, 3) }
            let pause = backoff.pause(failures: failures)
            change(spec.name) {
                $0.state = .backingOff
                $0.pid = nil
                $0.failures = failures
            }
            try? await Task.sleep(for: pause)
        }
        change(spec.name) {
            $0.state = .stopped
            $0.pid = nil
        }
    }

    private func fail(_ spec: ChildSpec, _ problem: String) {
        logger.error("child failed", metadata: ["child.name": "\(spec.name)", "child.problem": "\(problem)"])
        change(spec.name) { $0.problem = problem }
    }

    /// - Returns: false when cancelled before.
    private func waitForPredecessors(of spec: ChildSpec) async -> Bool {
        while !spec.after.allSatisfy({ children[$0]?.wasReady ?? true }) {
            do { try await Task.sleep(for: .milliseconds(50)) } catch { return false }
        }
        return !Task.isCancelled
    }

    private struct Life {
        /// How long the process was of use.
        var worked: Duration
        var exit: ProcessExit?
    }

    /// Starts a child and returns when it has ended.
    private func runOnce(_ spec: ChildSpec) async throws -> Life {
        try spec.prepare()
        let process = try ManagedProcess(spec.command())
        logger.info("child started", metadata: ["child.name": "\(spec.name)", "process.pid": "\(process.pid)"])
        change(spec.name) {
            $0.state = .starting
            $0.pid = process.pid
            $0.starts += 1
            $0.logFile = process.command.logFile.path
        }
        var readyAt: ContinuousClock.Instant?
        while !Task.isCancelled {
            if let exit = process.exit {
                let end = StackError(
                    .exited,
                    "\(spec.name) ended (\(exit))\(readyAt == nil ? " before it was ready" : "").",
                    logFile: process.command.logFile,
                    logStart: process.logStart,
                )
                fail(spec, end.description)
                return Life(worked: readyAt.map { .now - $0 } ?? .zero, exit: exit)
            }
            await examine(spec, process, readyAt: &readyAt)
            try? await Task.sleep(for: readyAt == nil ? .milliseconds(50) : .milliseconds(200))
        }
        let exit = await process.terminate(grace: spec.grace)
        logger.info("child stopped", metadata: ["child.name": "\(spec.name)", "process.exit": "\(exit)"])
        return Life(worked: .zero, exit: exit)
    }

    private func examine(_ spec: ChildSpec, _ process: ManagedProcess, readyAt: inout ContinuousClock.Instant?) async {
        guard readyAt == nil || spec.staysWatched else { return }
        switch await spec.readiness(process) {
        case .ready:
            if readyAt == nil {
                readyAt = .now
                logger.info("child ready", metadata: ["child.name": "\(spec.name)", "process.pid": "\(process.pid)"])
            }
            children[spec.name]?.wasReady = true
            change(spec.name) {
                $0.state = .ready
                $0.problem = nil
                $0.failures = 0
            }
        case .notYet:
            if readyAt != nil {
                late(spec, process, "\(spec.name) runs but has given no sign of life for a while.")
            } else if .now - process.startedAt > spec.startLimit {
                late(spec, process, "\(spec.name) was not ready after \(spec.startLimit.components.seconds) s.")
            }
        case .broken(let reason):
            late(spec, process, reason)
        }
    }

    /// Told once a start: the log's tail would otherwise make every look a change.
    private func late(_ spec: ChildSpec, _ process: ManagedProcess, _ reason: String) {
        guard let report = children[spec.name]?.report, report.state != .unresponsive else { return }
        let problem = StackError(.timedOut, reason, logFile: process.command.logFile, logStart: process.logStart)
        change(spec.name) { $0.state = .unresponsive }
        fail(spec, problem.description)
    }
}
