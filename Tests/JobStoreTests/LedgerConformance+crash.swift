import Foundation
import Glibc
import JobStore
import Jobs
import Testing

// A process that is killed: the tests run these bodies in a process of their own.

extension LedgerConformance {
    /// What the other process does until it is killed: runs with all that belongs to them, one a commit, each acknowledged once it is
    /// committed.
    private func writeRuns(_ ledger: any LedgerEngine, _ folder: URL, during: @Sendable @escaping (UInt64) -> Void) async throws {
        let acknowledged = folder.appending(path: "acknowledged")
        for number in (1 as UInt64)... {
            let stored = dispatched(number, at: now)
            try await ledger.write { transaction in
                try insert(stored, transaction)
                _ = try fact(transaction, run: stored.run.id)
                during(number)
                _ = try transaction.appendOutbox(
                    OutboxMessage(
                        kind: .hint, job: stored.run.jobID(0), attempt: 1, dispatch: 1, channel: "gpu", priority: .default))
                _ = try fact(transaction, run: stored.run.id)
            }
            try Data("\(number)".utf8).write(to: acknowledged, options: .atomic)
        }
    }

    /// Every acknowledged run is there whole; the one after them is there whole or not at all; nothing else is.
    private func checkRuns(_ ledger: any LedgerEngine, _ folder: URL) async throws -> UInt64 {
        let text = (try? String(contentsOf: folder.appending(path: "acknowledged"), encoding: .utf8)) ?? "0"
        let acknowledged = try #require(UInt64(text))
        var last: UInt64 = 0
        while let found = try await loaded(id(last + 1), ledger) {
            last += 1
            #expect(found == dispatched(last, at: now), "run \(last)")
        }
        #expect(last == acknowledged || last == acknowledged + 1)
        let (outbox, next) = try await ledger.write { (try $0.pendingOutbox(), try fact($0)) }
        #expect(outbox.map(\.message.job.run) == (0..<last).map { id($0 + 1) })
        #expect(next == Int64(2 * last + 1), "facts without gaps")
        return acknowledged
    }

    @Test("Killed in the middle of a transaction: what was committed is there, what was not is not", arguments: LedgerEngineKind.allCases)
    func killedInATransaction(engine: LedgerEngineKind) async throws {
        try await engine.withFolder { folder in
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            let path = folder.path
            await #expect(processExitsWith: .signal(SIGKILL)) { [engine = engine as LedgerEngineKind, path = path as String] in
                let folder = URL(filePath: path)
                try await LedgerConformance().writeRuns(engine.open(folder), folder) { if $0 == 7 { kill(getpid(), SIGKILL) } }
            }
            let acknowledged = try await checkRuns(engine.open(folder), folder)
            #expect(acknowledged == 6)
        }
    }

    @Test("Killed at any moment", arguments: LedgerEngineKind.allCases, [3, 40, 170])
    func killedAtAnyMoment(engine: LedgerEngineKind, milliseconds: Int) async throws {
        try await engine.withFolder { folder in
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            let path = folder.path
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [engine = engine as LedgerEngineKind, path = path as String, milliseconds = milliseconds as Int] in
                let folder = URL(filePath: path)
                let ledger = try engine.open(folder)
                DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(milliseconds)) { kill(getpid(), SIGKILL) }
                try await LedgerConformance().writeRuns(ledger, folder) { _ in }
            }
            _ = try await checkRuns(engine.open(folder), folder)
        }
    }

    @Test("The next writer takes over when the first one is killed", arguments: LedgerEngineKind.allCases)
    func takeover(engine: LedgerEngineKind) async throws {
        try await engine.withFolder { folder in
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            let path = folder.path
            async let holder: Void = Self.holdUntilKilled(engine, path)
            let pid = try await Self.pid(in: folder.appending(path: "pid"))
            let error = #expect(throws: LedgerError.self) { _ = try engine.open(folder) }
            #expect(error?.code == .locked)
            kill(pid, SIGKILL)
            await holder
            let ledger = try engine.open(folder)
            let run = try await loaded(id(1), ledger)
            #expect(run == dispatched(1, at: now))
        }
    }

    private static func holdUntilKilled(_ engine: LedgerEngineKind, _ path: String) async {
        await #expect(processExitsWith: .signal(SIGKILL)) { [engine = engine as LedgerEngineKind, path = path as String] in
            let folder = URL(filePath: path)
            let ledger = try engine.open(folder)
            let suite = LedgerConformance()
            try await ledger.write { try suite.insert(suite.dispatched(1, at: suite.now), $0) }
            try Data("\(getpid())".utf8).write(to: folder.appending(path: "pid"), options: .atomic)
            try await Task.sleep(for: .seconds(600))
            withExtendedLifetime(ledger) {}
        }
    }

    private static func pid(in file: URL) async throws -> pid_t {
        let deadline = ContinuousClock.now + .seconds(120)
        while ContinuousClock.now < deadline {
            if let text = try? String(contentsOf: file, encoding: .utf8), let pid = pid_t(text) { return pid }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Stop()
    }
}
