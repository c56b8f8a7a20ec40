import Foundation
import Glibc
import Synchronization
import Testing

@testable import Stack

@Suite("A whole stack", .timeLimit(.minutes(5)))
struct StackDaemonTests {
    /// Says that it is ready as the real services do, and leaves a process behind that nobody else would stop.
    private static let service = """
        trap 'rm -f "$READY_FILE"; exit 0' TERM
        setsid sh -c 'echo $$ >"$STATE/stray.$0"; while :; do sleep 0.1; done' $$ &
        while :; do
            printf '{"pid":%s}' $$ >"$READY_FILE.new" && mv "$READY_FILE.new" "$READY_FILE"
            round=0
            while [ $round -lt 50 ]; do sleep 0.1; round=$((round + 1)); done
        done
        """

    @Test("It starts in order, follows its endpoints, changes its workers, restarts what dies and leaves nothing behind")
    func life() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.appendingPathComponent("home").path)
            let executables = folder.appendingPathComponent("bin")
            try makeServices(in: executables, script: Self.service)
            let stop = Mutex(false)
            try home.makeFolders()
            try StackRequest(workers: 1).write(home)
            let daemon = StackDaemon(home: home, logger: quiet) {
                try StackPlan.prepare(home: home, environment: Command.plainEnvironment, checkout: nil, executables: executables)
            }
            async let life: Void = daemon.run { stop.withLock { $0 } }

            let first = try await ready(home, workers: 1)
            #expect(try FileLock.isHeld(home.lockFile))
            let second = StackDaemon(home: home, logger: quiet) { throw StackError(.refused, "must not be asked") }
            let error = await #expect(throws: StackError.self) { try await second.run { true } }
            #expect(error?.message.contains("runs already") == true)

            let request = StackRequest(workers: 3)
            try request.write(home)
            let wider = try await ready(home, workers: 3)
            #expect(wider.pids.router == first.pids.router)
            #expect(wider.pids.workers.contains(first.pids.workers[0]))
            #expect(try await eventually("the request is acknowledged") { StackStatus.read(home)?.request } == request.id)

            let router = try #require(first.pids.router)
            kill(router, SIGKILL)
            let healed = try await eventually("another router") {
                let endpoints = try Endpoints.read(home)
                return endpoints.pids.router.map { $0 != router } == true ? endpoints : nil
            }
            #expect(healed.pids.broker == first.pids.broker)

            let strays = try strays(home)
            #expect(strays.count >= 6)
            let all = [healed.pids.broker, healed.pids.orthanc, healed.pids.router, healed.pids.ingest, healed.pids.monitor].compactMap {
                $0
            }
            stop.withLock { $0 = true }
            try await life
            for pid in all + wider.pids.workers + strays { _ = try await eventually("\(pid) is gone") { isAlive(pid) ? nil : true } }
            #expect(try Endpoints.read(home).pids == Endpoints.Pids())
        }
    }

    @Test("A plan that cannot be made is told to whoever waits")
    func badPlan() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.path)
            let daemon = StackDaemon(home: home, logger: quiet) {
                try StackPlan.prepare(
                    home: home,
                    environment: ["ORTHANC_STABLE_AGE": "never"],
                    checkout: nil,
                    executables: folder,
                )
            }
            try home.makeFolders()
            await #expect(throws: StackError.self) { try await daemon.run { false } }
            #expect(StackStatus.read(home)?.failure?.contains("ORTHANC_STABLE_AGE is 'never'") == true)
        }
    }

    private func ready(_ home: StackHome, workers: Int) async throws -> Endpoints {
        try await eventually("a stack with \(workers) workers is ready", within: .seconds(120)) {
            guard let status = StackStatus.read(home), status.children.count == 6 + workers,
                status.children.allSatisfy({ $0.state == .ready })
            else { return nil }
            return try Endpoints.read(home)
        }
    }

    private func strays(_ home: StackHome) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: home.state.path)
            .filter { $0.hasPrefix("stray.") }
            .compactMap { try? String(contentsOf: home.state.appendingPathComponent($0), encoding: .utf8) }
            .compactMap { pid_t($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
    }
}
