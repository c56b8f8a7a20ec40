import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline
import Testing

extension LedgerConformance {
    @Test("A service is paused apart from its channels; who and since when stay those of the first", arguments: LedgerEngineKind.allCases)
    func pausedServices(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let work = stored()
            try await ledger.write { transaction in
                try transaction.replaceServices([ServiceRecord(name: "s", jobs: [work.run.jobs[1].definition], problems: [])], at: now)
                try transaction.setPaused(.service("s"), by: "zoe", at: now)
                try transaction.setPaused(.service("s"), by: "op", at: now + 9)
                try transaction.setPaused(.channel("s"), by: "op", at: now)
            }
            let (paused, known, unknown) = try await ledger.write {
                (try $0.pausedWork(), try $0.isServiceKnown("s"), try $0.isServiceKnown("other"))
            }
            #expect(paused == PausedWork(channels: ["s"], services: ["s"]) && known && !unknown)
            let service = try #require(try await reader.services().first)
            #expect(service.pause == Pause(.service("s"), by: "zoe", at: now))
            // Another registry: the pause is still there, and can be found.
            try await ledger.write { try $0.replaceServices([], at: now) }
            let gone = try await reader.services()
            #expect(gone.map(\.name) == ["s"] && gone.first?.pause != nil && gone.first?.problems.count == 1)
            try await ledger.write { try $0.setPaused(.service("s"), by: nil, at: now) }
            let left = try await ledger.write { try $0.pausedWork() }
            let none = try await reader.services()
            #expect(left == PausedWork(channels: ["s"]) && none.isEmpty)
        }
    }

    @Test("Held jobs are found by their service", arguments: LedgerEngineKind.allCases)
    func readyJobsOfAService(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            try await ledger.write { transaction in
                for number in 1...3 {
                    var stored = stored(UInt64(number))
                    _ = stored.run.apply(.start, at: now)
                    let order = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
                    _ = stored.run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now)
                    _ = stored.run.apply(.result(job: 0, attempt: 1, token: 1, exit: order), at: now)
                    try insert(stored, transaction)
                }
            }
            let (all, behind, built) = try await ledger.write {
                (
                    try $0.runsWithReadyJobs(of: .service("s"), after: nil, limit: 2),
                    try $0.runsWithReadyJobs(of: .service("s"), after: id(2), limit: 9),
                    try $0.runsWithReadyJobs(of: .service(""), after: nil, limit: 9)
                )
            }
            #expect(all == [id(1), id(2)] && behind == [id(3)] && built.isEmpty)
        }
    }

    @Test("Params that were changed come back, and each attempt keeps those that it ran with", arguments: LedgerEngineKind.allCases)
    func changedParams(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            var failed = dispatched(1, at: now)
            for (job, outcome) in [(0, JobExit.Outcome.succeeded), (1, .failed)] {
                _ = failed.run.apply(.claim(job: job, attempt: 1, worker: "w", id: "c\(job)"), at: now)
                let kind: JobExit.Kind = outcome == .failed ? .exception : .completed
                let exit = JobExit(outcome: outcome, kind: kind, startedAt: now, finishedAt: now)
                _ = failed.run.apply(.result(job: job, attempt: 1, token: 1, exit: exit), at: now)
            }
            let before = failed
            _ = failed.run.apply(.retry(job: 1, actor: "op", params: ["k": ["deep": [1, 2.5, .null, "ü"]]]), at: now)
            let changed = failed.run
            try await ledger.write { transaction in
                try insert(before, transaction)
                try transaction.startAttempt(before.run.jobID(1), attempt: 1, token: 1, worker: "w", params: nil, at: now)
                try transaction.update(changed, from: before.run)
                try transaction.startAttempt(
                    before.run.jobID(1), attempt: 2, token: 2, worker: "w", params: changed.jobs[1].changedParams, at: now)
            }
            let run = try await loaded(before.run.id, ledger)?.run
            #expect(run == changed)
            let detail = try #require(try await reader.job(before.run.jobID(1).rawValue))
            #expect(detail.params == changed.jobs[1].changedParams && detail.definition.params == .null)
            #expect(detail.attempts.map(\.params) == [nil, changed.jobs[1].changedParams])
            try await ledger.write { try $0.update(before.run, from: changed) }
            let planned = try await loaded(before.run.id, ledger)?.run
            #expect(planned == before.run)
        }
    }

    @Test("Discarded jobs leave the lists and counts of the dead, and come back", arguments: LedgerEngineKind.allCases)
    func discarded(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            var runs: [Run] = []
            for number in 1...3 {
                var stored = dispatched(UInt64(number), at: now)
                _ = stored.run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now)
                let exit = JobExit(outcome: .failed, kind: .gone, startedAt: now, finishedAt: now, isRetriable: false)
                _ = stored.run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
                runs.append(stored.run)
                let dead = stored
                try await ledger.write { try insert(dead, $0) }
            }
            let (dead, discarded) = (LedgerJobFilter(states: [.dead]), LedgerJobFilter(states: [.dead], discarded: true))
            func counts() async throws -> [Int] {
                let totals = try await reader.totals()
                let channel = try await reader.channels(at: now).first { $0.name == "gpu" }
                return [
                    totals.jobs(.dead), totals.discarded, channel?.counts[.dead] ?? 0,
                    try await reader.brokenJobs(dead, limit: 9).items.count, try await reader.brokenJobs(discarded, limit: 9).items.count,
                    try await reader.matches(dead, limit: 9).count, try await reader.matches(discarded, limit: 9).count,
                ]
            }
            #expect(try await counts() == [3, 0, 3, 3, 0, 3, 0])
            let mark = try await reader.marks(of: [runs[1].jobID(0).rawValue], areRuns: false)
            var second = runs[1]
            _ = second.apply(.discard(job: 0, actor: "zoe"), at: now + 5)
            let (gone, first) = (second, runs[1])
            try await ledger.write { try $0.update(gone, from: first) }
            #expect(try await counts() == [2, 1, 2, 2, 1, 2, 1])
            let found = try #require(try await reader.brokenJobs(discarded, limit: 9).items.first)
            #expect(found.job.id == gone.jobID(0).rawValue && found.job.discarded == Discard(actor: "zoe", at: now + 5))
            let changed = try await reader.marks(of: [gone.jobID(0).rawValue], areRuns: false)
            #expect(changed != mark, "a bulk operation sees that somebody was here")
            let stored = try await loaded(gone.id, ledger)?.run
            #expect(stored == gone)
            var retried = gone
            _ = retried.apply(.retry(job: 0, actor: "op"), at: now + 6)
            let alive = retried
            try await ledger.write { try $0.update(alive, from: gone) }
            #expect(try await counts() == [2, 0, 2, 2, 0, 2, 0])
        }
    }

    @Test("One command takes the oldest of many messages, and all up to a number are counted", arguments: LedgerEngineKind.allCases)
    func manyParked(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let message = ParkedMessage(queue: "q", routingKey: "q", reason: "r", body: [1])
            let past = ParkedMessage(queue: "q", routingKey: "q", reason: "r", body: [1], unrepeatable: "Ask again.")
            try await ledger.write { transaction in
                try transaction.park(past, at: now)
                for _ in 0...ParkedSelection.most { try transaction.park(message, at: now) }
            }
            let last = Int64(ParkedSelection.most + 1)
            let first = try await reader.deadMessagesToDecide(upTo: last)
            #expect(first.all == ParkedSelection.most + 1 && first.requeueable == ParkedSelection.most)
            let shown = try await reader.deadMessage(1)
            #expect(shown?.hasBody == false && shown?.problem == "Ask again." && shown?.size == 1)
            let requeued = try await ledger.write { try $0.requeueParked(.upTo(last + 1), by: "zoe", at: now) }
            let left = try await reader.deadMessagesToDecide(upTo: .max)
            let newest = try await reader.deadMessage(last + 1)
            #expect(requeued == ParkedSelection.most && left.all == 2 && left.requeueable == 1 && newest?.state == .parked)
            let discarded = try await ledger.write { try $0.discardParked(.upTo(last + 1), by: "zoe", at: now) }
            #expect(discarded == 2)
        }
    }

    @Test(
        "The bodies of what nobody could read have a limit together; what comes then is listed without",
        arguments: LedgerEngineKind.allCases)
    func heldBodies(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let message = ParkedMessage(queue: "q", routingKey: "q", reason: "r", body: [1, 2])
            try await ledger.write { try $0.park(message, at: now) }
            let queue = try DatabaseQueue(path: Ledger.file(in: folder).path)
            let held = try await queue.write { db in
                let held = try Int.fetchOne(db, sql: "SELECT held FROM dead_message")
                try db.execute(sql: "UPDATE dead_message SET held = ?", arguments: [ParkedMessage.longestBodies - 2])
                return held
            }
            try queue.close()
            #expect(held == 2)
            try await ledger.write { transaction in
                try transaction.park(message, at: now)
                try transaction.park(message, at: now)
            }
            let full = try await reader.deadMessages(limit: 9).items
            #expect(full.map(\.hasBody) == [false, true, true] && full[0].problem?.contains(PipelineQueue.dead) == true)
            try await ledger.write { transaction in
                _ = try transaction.discardParked(.one(1), by: "zoe", at: now)
                try transaction.park(message, at: now)
            }
            let after = try await reader.deadMessage(4)
            #expect(after?.hasBody == true)
        }
    }

    @Test("A parked message is there until it was decided about, whole", arguments: LedgerEngineKind.allCases)
    func parked(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let message = ParkedMessage(
                queue: "dcm.ingest.v1", routingKey: "study.stable", reason: "not a JSON document", messageID: "m", type: "t",
                properties: ["contentType": "x", "headers": ["a": 1]], body: [0, 0xff, 0x7b])
            let long = ParkedMessage(
                queue: "q", routingKey: "q", reason: "r", body: [UInt8](repeating: 1, count: ParkedMessage.longestBody + 1))
            try await ledger.write { transaction in
                for _ in 1...4 { try transaction.park(message, at: now) }
                try transaction.park(long, at: now)
            }
            let all = try await reader.deadMessages(limit: 9).items
            #expect(all.map(\.sequence) == [5, 4, 3, 2, 1] && all.map(\.hasBody) == [false, true, true, true, true])
            #expect(all[0].size == ParkedMessage.longestBody + 1 && all[4].routingKey == "study.stable" && all[4].state == .parked)
            let body = try await reader.body(ofDeadMessage: 1)
            #expect(body == [0, 0xff, 0x7b])

            let asked = try await ledger.write {
                [
                    try $0.requeueParked(.one(2), by: "zoe", at: now), try $0.requeueParked(.one(2), by: "op", at: now),
                    try $0.discardParked(.one(2), by: "op", at: now), try $0.requeueParked(.one(5), by: "op", at: now),
                    try $0.requeueParked(.upTo(3), by: "op", at: now), try $0.discardParked(.one(4), by: "op", at: now),
                ]
            }
            #expect(asked == [1, 0, 0, 0, 2, 1])
            // An operator's wish outlives what retention forgets.
            let past = now + 99_999
            let cutoffs = RetentionCutoffs(runs: now - 1, messages: now - 1, audit: now - 1, deadMessages: past)
            _ = try await ledger.write { try $0.purge(cutoffs, rows: 100) }
            let waiting = try await ledger.write { try $0.messagesToRequeue(after: 0, limit: 9).map { ($0.sequence, $0.message) } }
            #expect(waiting.map(\.0) == [1, 2, 3] && waiting.allSatisfy { $0.1 == message })
            try await ledger.write { transaction in
                try transaction.settleRequeued(1, problem: nil)
                try transaction.settleRequeued(2, problem: "no such queue")
            }
            let open = try await reader.deadMessages(limit: 9).items
            #expect(open.map(\.sequence) == [3, 2] && open.map(\.state) == [.requeueing, .parked])
            #expect(open[1].problem == "no such queue" && open[1].hasBody)
            let decided = try await reader.deadMessages(limit: 9, decided: true).items
            #expect(decided.map(\.sequence) == [1] && decided[0].state == .requeued && !decided[0].hasBody && decided[0].decidedBy == "op")
            let totals = try await reader.totals()
            #expect(totals.deadMessages == 2 && totals.deadMessagesEver == 5)
        }
    }
}
