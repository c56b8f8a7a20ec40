import Foundation
import GRDB
import Jobs
import Pipeline
import Testing

@testable import JobStore

@Suite struct LedgerTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// A ledger in a folder of its own, removed afterwards.
    func withLedger(_ body: (Ledger, URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ledger-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try await body(Ledger(folder: folder), folder)
    }

    func event(_ snapshot: String = "snapshot") -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: "abc", snapshot: snapshot, observedAt: now,
            series: [EventMessage.Series(id: "s1", instances: 3)], refusedSeries: ["s2": Reason("modality", "not CT")],
            headers: ["id": "abc", "tags": ["PatientName": "Test^<script>\u{0}"]])
    }

    func stored(_ seed: UInt64 = 1) -> StoredRun {
        let id = RunID(milliseconds: seed, random: (seed, seed))
        let plan = RunPlan(jobs: [
            .init(
                definition: JobDefinition(name: "export", service: "", stage: .export, kind: .export, entry: "", timeout: .never),
                dependencies: []),
            .init(
                definition: JobDefinition(
                    name: "work", service: "s", stage: .services, entry: "s.work", params: ["a": [1, .null]], channel: "gpu",
                    priority: .urgent,
                    retry: RetryPolicy(max: 2, delay: 30)),
                dependencies: [Dependency(parent: 0, origin: .stage)]),
        ])
        let source = JobSource(
            server: "orthanc", level: .study, resourceID: "abc", series: [.init(id: "s1", instances: 3)], dcmpath: "dicom/\(id)")
        var headers = event().headers.object ?? [:]
        headers["dcmpath"] = .string(source.dcmpath)
        return StoredRun(
            run: Run(id: id, plan: plan), context: RunContext(source: source, headers: .object(headers), addedParams: ["work": ["x": 1]]))
    }

    func insert(_ stored: StoredRun, key: String, _ ledger: any LedgerTransaction) throws {
        let sequence = try #require(try ledger.recordEvent(event(key), at: now).sequence)
        try ledger.insertRun(
            stored, event: sequence, dedupeKey: key, origin: "event", filteredHeaders: nil,
            decisions: [Decision(job: "work", service: "s", stage: .services, verdict: .accepted, reason: Reason("accepted", "yes"))],
            at: now)
    }

    @Test func aRunComesBackAsItWasWritten() async throws {
        try await withLedger { ledger, _ in
            var stored = stored()
            _ = stored.run.apply(.start, at: now)
            let written = stored
            try await ledger.write { try insert(written, key: "k", $0) }
            let found1 = try await ledger.write { try $0.loadRun(written.run.id) }
            #expect(found1 == written)

            var run = stored.run
            _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c", isPaused: false), at: now)
            let exit = JobExit(
                outcome: .succeeded, kind: .completed, failure: nil, result: ["files": 3], startedAt: now, finishedAt: now)
            _ = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
            let (old, new) = (stored.run, run)
            try await ledger.write { try $0.update(new, from: old) }
            let found2 = try await ledger.write { try $0.loadRun(new.id)?.run }
            #expect(found2 == new)
        }
    }

    @Test func aSnapshotIsRecordedOnce() async throws {
        try await withLedger { ledger, _ in
            let event = event()
            let first = try await ledger.write { try $0.recordEvent(event, at: now) }
            let second = try await ledger.write { try $0.recordEvent(event, at: now) }
            #expect(first.isNew && !second.isNew)
            #expect(first.sequence == second.sequence)
        }
    }

    @Test func twoRunsOfOneKeyAreImpossible() async throws {
        try await withLedger { ledger, _ in
            let (first, second) = (stored(1), stored(2))
            try await ledger.write { try insert(first, key: "k", $0) }
            await #expect(throws: (any Error).self) { try await ledger.write { try insert(second, key: "k", $0) } }
            let found3 = try await ledger.write { try $0.loadRun(second.run.id) }
            #expect(found3 == nil)
        }
    }

    @Test func aTransactionThatThrowsLeavesNothing() async throws {
        struct Stop: Error {}
        try await withLedger { ledger, _ in
            let stored = stored()
            await #expect(throws: Stop.self) {
                try await ledger.write { transaction in
                    try insert(stored, key: "k", transaction)
                    throw Stop()
                }
            }
            let found = try await ledger.write { try $0.loadRun(stored.run.id) }
            #expect(found == nil)
        }
    }

    @Test func outboxRowsStayUntilTheyAreConfirmed() async throws {
        try await withLedger { ledger, _ in
            let job = JobID(run: stored().run.id, index: 1)
            let message = OutboxMessage(
                kind: .hint, job: job, attempt: 1, dispatch: 1, channel: "gpu", priority: .high, delay: .twoMinutes,
                reason: Reason("r", "text"))
            let row = try await ledger.write { try $0.appendOutbox(message) }
            let found4 = try await ledger.write { try $0.pendingOutbox() }
            #expect(found4 == [row])
            // The same hint twice would be two truths.
            await #expect(throws: (any Error).self) { try await ledger.write { try $0.appendOutbox(message) } }
            try await ledger.write { try $0.removeOutbox(row.id) }
            let found5 = try await ledger.write { try $0.pendingOutbox() }
            #expect(found5.isEmpty)
        }
    }

    @Test func aCommandCountsOnce() async throws {
        try await withLedger { ledger, _ in
            let isNew = try await ledger.write { [now] ledger in
                try (0..<2).map { _ in try ledger.claimMessage(id: "c1", kind: "command", at: now) }
            }
            #expect(isNew == [true, false])
        }
    }

    @Test func aSecondWriterIsRefusedUntilTheFirstEnds() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ledger-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var first: Ledger? = try Ledger(folder: folder)
        #expect(first != nil)
        let error = #expect(throws: LedgerError.self) { try Ledger(folder: folder) }
        #expect(error?.code == .locked)
        first = nil
        _ = try Ledger(folder: folder)
    }

    @Test func commitsReachTheDisk() async throws {
        try await withLedger { ledger, _ in
            let (synchronous, journal) = try await ledger.write { ledger -> (Int?, String?) in
                let ledger = try #require(ledger as? SQLiteTransaction)
                return (try ledger.row("PRAGMA synchronous")?[0], try ledger.row("PRAGMA journal_mode")?[0])
            }
            #expect(synchronous == 2)
            #expect(journal == "wal")
        }
    }

    @Test func overdueHintsAreFound() async throws {
        try await withLedger { ledger, _ in
            var stored = stored()
            _ = stored.run.apply(.start, at: now)
            _ = stored.run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 1), at: now)
            let (written, before) = (stored, self.stored())
            try await ledger.write { ledger in
                try insert(before, key: "k", ledger)
                try ledger.update(written.run, from: before.run)
            }
            let (none, counts, overdue) = try await ledger.write { [now] ledger in
                (
                    try ledger.overdueHints(of: "default", priority: .default, before: now, limit: 10), try ledger.expectedHints(at: now),
                    try ledger.overdueHints(of: "default", priority: .default, before: now + 1, limit: 10)
                )
            }
            #expect(none.isEmpty)
            #expect(counts == ["default": 1])
            #expect(overdue.map(\.job) == [JobID(run: written.run.id, index: 0)])
            #expect(overdue.map(\.dispatch) == [1])
        }
    }

    @Test func factsAreNumberedWithoutGaps() async throws {
        try await withLedger { ledger, _ in
            let numbers = try await ledger.write { ledger in
                try (0..<5).map { _ in try ledger.appendFact(kind: "run.created", run: nil, job: nil, data: [:], at: now).sequence }
            }
            #expect(numbers == Array(numbers[0]...(numbers[0] + 4)))
        }
    }

    @Test func channelsArePausedAndResumed() async throws {
        try await withLedger { ledger, _ in
            try await ledger.write { try $0.setPaused("gpu", by: "op", at: now) }
            let found7 = try await ledger.write { try $0.pausedChannels() }
            #expect(found7 == ["gpu"])
            try await ledger.write { try $0.setPaused("gpu", by: nil, at: now) }
            let found8 = try await ledger.write { try $0.pausedChannels() }
            #expect(found8.isEmpty)
            let found9 = try await ledger.write { try $0.channels() }
            #expect(found9 == ["gpu"])
        }
    }
}
