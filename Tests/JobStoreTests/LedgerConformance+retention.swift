import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

extension LedgerConformance {
    private func cutoffs(_ time: Date) -> RetentionCutoffs {
        RetentionCutoffs(runs: time, messages: time, audit: time, deadMessages: time)
    }

    /// Purges until nothing is left to do.
    private func purge(_ ledger: any LedgerEngine, _ cutoffs: RetentionCutoffs, rows: Int = 50) async throws -> [PurgeStep] {
        var steps: [PurgeStep] = []
        repeat {
            steps.append(try await ledger.write { try $0.purge(cutoffs, rows: rows) })
            try #require(steps.count < 10_000, "purging does not end")
        } while !steps[steps.count - 1].isDone
        return steps
    }

    /// A run that ended at `time`, with a fact, an attempt that left an artifact, and a pending message.
    private func insertEnded(
        _ number: UInt64, key: String? = nil, origin: String = "event", at time: Date, _ ledger: any LedgerTransaction
    ) throws {
        let start = dispatched(number, at: time)
        try insert(start, key: key, origin: origin, at: time, ledger)
        var run = start.run
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: time)
        try ledger.startAttempt(run.jobID(0), attempt: 1, token: 1, worker: "w", params: nil, at: time)
        let artifact = JobExit.Artifact(name: "report", path: "out/\(number).txt", kind: "text")
        let exit = JobExit(outcome: .succeeded, kind: .completed, artifacts: [artifact], startedAt: time, finishedAt: time)
        try ledger.endAttempt(run.jobID(0), attempt: 1, token: 1, ending: .exit(exit), at: time)
        _ = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: time)
        _ = run.apply(.cancelAll(actor: "op"), at: time)
        try #require(run.state == .cancelled && run.finishedAt == time)
        try ledger.update(run, from: start.run)
        _ = try fact(ledger, "run.cancelled", run: run.id, at: time)
        _ = try ledger.appendOutbox(
            OutboxMessage(kind: .dead, job: run.jobID(1), attempt: 1, dispatch: 0, channel: "gpu", priority: .default))
    }

    @Test("What is old and has ended goes whole; what is young or active stays", arguments: LedgerEngineKind.allCases)
    func retention(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let active = dispatched(3, at: now - 100)
            try await ledger.write { transaction in
                try insertEnded(1, at: now - 100, transaction)
                try insertEnded(2, at: now, transaction)
                try insert(active, at: now - 100, transaction)
                _ = try fact(transaction, "job.dispatched", run: active.run.id, at: now - 100)
            }
            let steps = try await purge(ledger, cutoffs(now - 50))
            #expect(steps.map(\.runs).reduce(0, +) == 1)
            let (gone, young, kept) = (try await loaded(id(1), ledger), try await loaded(id(2), ledger), try await loaded(id(3), ledger))
            #expect(gone == nil && young != nil && kept == active)
            let outbox = try await ledger.write { try $0.pendingOutbox() }
            #expect(outbox.map(\.message.job.run) == [id(2)])

            let expired = try await ledger.write { try $0.expiredRuns(limit: 9) }
            #expect(expired == [ExpiredRun(id: id(1), dcmpath: "dicom/\(id(1))", artifacts: ["out/1.txt"])])
            try await ledger.write { try $0.forgetExpiredRuns([id(1)]) }
            let left = try await ledger.write { try $0.expiredRuns(limit: 9) }
            #expect(left.isEmpty)

            let again = try await purge(ledger, cutoffs(now - 50))
            #expect(again.map(\.rows) == [0])
        }
    }

    @Test("An event that was dealt with and deleted starts nothing when it comes again", arguments: LedgerEngineKind.allCases)
    func settledEvents(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            try await ledger.write { transaction in
                try insertEnded(1, key: "a", at: now - 100, transaction)
                _ = try transaction.recordEvent(event("filtered", filtered: Reason("modality", "Not CT.")), at: now - 100)
                _ = try transaction.recordEvent(event("young", filtered: Reason("modality", "Not CT.")), at: now)
            }
            _ = try await purge(ledger, cutoffs(now - 50))
            let (a, hasRun, young, filtered) = try await ledger.write { transaction in
                (
                    try transaction.recordEvent(event("a"), at: now), try transaction.hasRun(dedupeKey: "a"),
                    try transaction.recordEvent(event("young"), at: now).isNew, try transaction.hasRun(dedupeKey: "filtered")
                )
            }
            #expect(a.sequence == nil && !a.isNew && hasRun)
            #expect(!young && !filtered)
        }
    }

    @Test("An event that waits for its run is never old enough", arguments: LedgerEngineKind.allCases)
    func unplannedEvent(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let reason = Reason("planning-failed", "No Python.")
            _ = try await ledger.write {
                try $0.recordPlanningFailure(of: event("waits"), reason: reason, counts: true, at: now - 100)
            }
            _ = try await purge(ledger, cutoffs(now - 50))
            let waiting = try await ledger.write { try $0.unplannedEvents(limit: 9) }
            #expect(waiting.map(\.event.snapshot) == ["waits"])
            try await ledger.write { try $0.abandonPlanning(of: event("waits"), reason: reason, at: now - 100) }
            let steps = try await purge(ledger, cutoffs(now - 50))
            #expect(steps.first?.rows ?? 0 > 0)
        }
    }

    @Test("An event stays as long as a run of it", arguments: LedgerEngineKind.allCases)
    func sharedEvent(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            try await ledger.write { transaction in
                try insertEnded(1, key: "a", at: now - 100, transaction)
                // Planned again from the same event.
                let sequence = try #require(try transaction.recordEvent(event("a"), at: now).sequence)
                try transaction.insertRun(
                    dispatched(2, at: now), event: sequence, dedupeKey: "command:1", origin: "reprocess:\(id(1))", filteredHeaders: nil,
                    decisions: [], at: now)
            }
            _ = try await purge(ledger, cutoffs(now - 50))
            let (gone, source) = try await ledger.write { (try $0.loadRun(id(1)), try $0.event(of: id(2))?.event) }
            #expect(gone == nil && source?.snapshot == "a")
            let kept = try await loaded(id(2), ledger)
            #expect(kept != nil)
        }
    }

    @Test("A step is small, however much is old", arguments: LedgerEngineKind.allCases)
    func smallSteps(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            for start in stride(from: 1 as UInt64, to: 120, by: 40) {
                try await ledger.write { transaction in
                    for number in start..<(start + 40) {
                        try insertEnded(number, at: now - 100, transaction)
                        _ = try fact(transaction, "channel.paused", at: now - 100)
                        _ = try transaction.claimMessage(id: "c\(number)", kind: "command", at: now - 100)
                        try transaction.recordAction(actor: "op", action: "a", target: "t", outcome: "done", at: now - 100)
                        try transaction.park(ParkedMessage(queue: "q", routingKey: "q", reason: "r", body: [1]), at: now - 100)
                    }
                }
            }
            let steps = try await purge(ledger, cutoffs(now - 50), rows: 60)
            #expect(steps.map(\.runs).reduce(0, +) == 120)
            // A run with all that belongs to it is never divided.
            #expect(steps.allSatisfy { $0.rows < 60 + 40 && $0.runs <= 12 }, "\(steps.map(\.rows))")
            let claimed = try await ledger.write { try $0.claimMessage(id: "c7", kind: "command", at: now) }
            #expect(claimed, "its age has passed")
            let expired = try await ledger.write { try $0.expiredRuns(limit: 500) }
            #expect(expired.count == 120)
        }
    }
}
