import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Synchronization
import Testing

@testable import Router

/// The router's decisions against a real ledger, without a broker.
@Suite struct RouterTransactionTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)
    let runID = RunID(milliseconds: 7, random: (1, 1))

    final class Bench: Sendable {
        let ledger: Ledger
        let folder: URL

        init() throws {
            folder = FileManager.default.temporaryDirectory.appending(path: "router-\(UUID().uuidString)")
            ledger = try Ledger(folder: folder)
        }

        deinit { try? FileManager.default.removeItem(at: folder) }

        /// Commits inputs as one batch, as a router that has just started would: with nothing in memory.
        @discardableResult
        func commit(_ inputs: RouterInput..., at now: Date) async throws -> [AfterCommit] {
            try await ledger.write { ledger in
                var transaction = RouterTransaction(ledger: ledger, now: now)
                for input in inputs { try transaction.handle(input) }
                return transaction.after
            }
        }
    }

    func delivery() -> AMQPDelivery { AMQPDelivery(body: []) }

    func event(_ snapshot: String = "s1", filtered: Reason? = nil) -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: "abc", snapshot: snapshot, observedAt: now, filtered: filtered,
            series: [.init(id: "x", instances: 2)], headers: ["id": "abc"])
    }

    func planned(_ id: RunID? = nil) -> PlannedRun {
        let id = id ?? runID
        func entry(_ name: String, after parents: [Int]) -> RunPlan.Entry {
            .init(
                definition: JobDefinition(name: name, service: "s", stage: .services, entry: "s.\(name)"),
                dependencies: parents.map { Dependency(parent: $0, origin: .declared) })
        }
        return PlannedRun(
            id: id,
            plan: RunPlan(jobs: [entry("a", after: []), entry("b", after: [0])], addedParams: ["a": ["k": 1]]),
            context: RunContext(
                source: JobSource(server: "orthanc", level: .study, resourceID: "abc", series: [], dcmpath: "dicom/\(id)"),
                headers: ["id": "abc", "dcmpath": .string("dicom/\(id)")], addedParams: ["a": ["k": 1]]))
    }

    func granted(_ after: [AfterCommit]) -> JobOrder? {
        for case .answerClaim(_, .go(let order)) in after { return order }
        return nil
    }

    func refusal(_ after: [AfterCommit]) -> Reason? {
        for case .answerClaim(_, .no(let reason)) in after { return reason }
        return nil
    }

    func hints(_ after: [AfterCommit]) -> [OutboxMessage] {
        after.compactMap { if case .send(let row) = $0 { row.message } else { nil } }
    }

    func claim(_ job: Int, attempt: Int = 1, id: String = UUID().uuidString) -> RouterInput {
        .claim(ClaimMessage(job: JobID(run: runID, index: job), attempt: attempt, worker: "w1", id: id), delivery())
    }

    func result(_ order: JobOrder, _ outcome: JobExit.Outcome = .succeeded) -> RouterInput {
        let exit = JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now)
        return .result(ResultMessage(job: order.job, attempt: order.attempt, token: order.token, worker: "w1", exit: exit), delivery())
    }

    @Test func anEventBecomesARunOnceHoweverOftenItIsDelivered() async throws {
        let bench = try Bench()
        let first = try await bench.commit(.event(event(), planned(), delivery()), at: now)
        #expect(hints(first).map(\.job) == [JobID(run: runID, index: 0)])
        // W4: committed, not acknowledged, delivered again and planned again under another id.
        let other = RunID(milliseconds: 8, random: (2, 2))
        let second = try await bench.commit(.event(event(), planned(other), delivery()), at: now)
        #expect(hints(second).isEmpty)
        let found1 = try await bench.ledger.write { try $0.loadRun(other) }
        #expect(found1 == nil)
    }

    @Test func aFilteredEventIsRecordedAndMakesNoRun() async throws {
        let bench = try Bench()
        let after = try await bench.commit(.event(event(filtered: Reason("modality", "US is not supported")), nil, delivery()), at: now)
        #expect(hints(after).isEmpty)
        #expect(after.contains { if case .publish(let fact) = $0 { fact.kind == "event.filtered" } else { false } })
        #expect(after.contains { if case .acknowledge = $0 { true } else { false } })
    }

    @Test func aClaimGetsTheWholeOrderAndTheSecondClaimIsRefused() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        // W9: the claim comes before the relay has heard the confirmation.
        let after = try await bench.commit(claim(0), claim(0), at: now)
        let order = try #require(granted(after))
        #expect(order.token == 1)
        #expect(order.headers["dcmpath"]?.string == "dicom/\(runID)")
        #expect(order.addedParams["a"]?["k"]?.integer == 1)
        #expect(refusal(after)?.code == "leased")
    }

    func result(_ order: JobOrder, asking id: String, channels: [String] = ["default"], isWithdrawn: Bool? = nil) -> RouterInput {
        let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
        return .result(
            ResultMessage(
                job: order.job, attempt: order.attempt, token: order.token, worker: "w1", exit: exit,
                next: .init(id: id, channels: channels, isWithdrawn: isWithdrawn)),
            delivery())
    }

    @Test func aResultThatAsksIsAnsweredWithTheChildInPlaceOfItsHint() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        #expect(order.leadsOn == true)
        let after = try await bench.commit(result(order, asking: "q"), at: now)
        let next = try #require(granted(after))
        #expect(next.job == JobID(run: runID, index: 1) && next.token == 1 && next.leadsOn == false && next.inputs == 1)
        #expect(next.headers["dcmpath"]?.string == "dicom/\(runID)")
        #expect(hints(after).isEmpty)
        #expect(after.contains { if case .extendLease(next.job, 1) = $0 { true } else { false } })
        let run = try #require(try await bench.ledger.write { try $0.loadRun(runID) }?.run)
        #expect(run.jobs.map(\.state) == [.succeeded, .running] && run.jobs[1].worker == "w1")
        // The answer got lost: the same question has the same answer, and nothing else happens.
        let again = try await bench.commit(result(order, asking: "q"), at: now)
        #expect(granted(again) == next && hints(again).isEmpty)
        // Another question about the same result gets nothing.
        #expect(refusal(try await bench.commit(result(order, asking: "other"), at: now))?.code == "nothing-follows")
        // Its end is a result as any other; a late copy of the question finds nothing.
        try await bench.commit(result(next), at: now)
        #expect(refusal(try await bench.commit(result(order, asking: "q"), at: now))?.code == "nothing-follows")
    }

    @Test func aQuestionThatIsTakenBackGivesTheChildBackAtOnceAndCountsAsNoLostWorker() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        // The worker has ended, or was cut off, before it heard the answer; its two messages come one behind the other.
        let next = try #require(granted(try await bench.commit(result(order, asking: "q"), at: now)))
        let after = try await bench.commit(result(order, asking: "q", channels: [], isWithdrawn: true), at: now)
        #expect(granted(after) == nil && hints(after).map(\.job) == [next.job])
        let run = try #require(try await bench.ledger.write { try $0.loadRun(runID) }?.run)
        #expect(run.jobs[1].state == .ready && run.jobs[1].crashes == 0 && run.jobs[1].attempt == 1)
        // Whoever claims it now has it; late copies take nothing away.
        let claimed = try #require(granted(try await bench.commit(claim(1), at: now)))
        for isWithdrawn in [nil, true] {
            let late = try await bench.commit(result(order, asking: "q", isWithdrawn: isWithdrawn), at: now)
            #expect(granted(late) == nil && hints(late).isEmpty)
        }
        try await bench.commit(result(claimed), at: now)
        let done = try #require(try await bench.ledger.write { try $0.loadRun(runID) }?.run)
        #expect(done.jobs.map(\.state) == [.succeeded, .succeeded])
    }

    @Test func aResultThatTakesBackAQuestionThatNeverCameCountsAsAnyOther() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        let after = try await bench.commit(result(order, asking: "q", channels: [], isWithdrawn: true), at: now)
        #expect(granted(after) == nil && hints(after).map(\.job) == [JobID(run: runID, index: 1)])
    }

    @Test(arguments: ["other channel", "paused", "more urgent waits"])
    func aResultThatAsksIsAnsweredNoAndTheChildGetsItsHint(_ why: String) async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        if why == "paused" { try await bench.ledger.write { try $0.setPaused(.channel("default"), by: "op", at: now) } }
        if why == "more urgent waits" {
            let other = RunID(milliseconds: 8, random: (2, 2))
            let sent = try await bench.commit(.event(event("s2"), planned(other), delivery()), at: now)
            try await bench.commit(.confirmed(sent.compactMap { if case .send(let row) = $0 { row } else { nil } }), at: now)
            let raise = CommandMessage(
                id: "c", action: .setPriority, target: "\(JobID(run: other, index: 0))", actor: "op", at: now,
                priority: "high")
            let raised = try await bench.commit(.command(raise, delivery()), at: now)
            try await bench.commit(.confirmed(raised.compactMap { if case .send(let row) = $0 { row } else { nil } }), at: now)
        }
        let after = try await bench.commit(result(order, asking: "q", channels: [why == "other channel" ? "gpu" : "default"]), at: now)
        #expect(granted(after) == nil && refusal(after)?.code == "nothing-follows")
        #expect(hints(after).map(\.job) == [JobID(run: runID, index: 1)])
    }

    @Test func aResultStartsTheChildAndItsRepetitionDoesNothing() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        // A batch with both copies, as after a reconnect.
        let after = try await bench.commit(result(order), result(order), at: now)
        #expect(hints(after).map(\.job.index) == [1])
        #expect(after.count { if case .acknowledge = $0 { true } else { false } } == 2)
        // By this the child knows whether its input is still the one it once kept something of.
        let child = try #require(granted(try await bench.commit(claim(1), at: now)))
        #expect(order.inputs == 0)
        #expect(child.inputs == 1)
    }

    @Test func aConfirmationAfterTheClaimDoesNotTakeTheJobBack() async throws {
        let bench = try Bench()
        let created = try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let rows = created.compactMap { if case .send(let row) = $0 { row } else { nil } }
        try await bench.commit(claim(0), at: now)
        try await bench.commit(.confirmed(rows), at: now)
        let loaded = try await bench.ledger.write { try $0.loadRun(runID) }
        let stored = try #require(loaded)
        #expect(stored.run.jobs[0].state == .running)
        let found2 = try await bench.ledger.write { try $0.pendingOutbox() }
        #expect(found2.isEmpty)
    }

    @Test func aClaimForARunNobodyKnowsIsAnsweredAndAcknowledged() async throws {
        let bench = try Bench()
        let after = try await bench.commit(claim(0), at: now)
        #expect(refusal(after)?.code == "unknown")
        #expect(after.contains { if case .acknowledge = $0 { true } else { false } })
    }

    @Test func aRenewalKeepsTheLeaseAndSaysWhatToStop() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        let worker = WorkerInfo(id: "w1", host: "h", pid: 1, version: "1", slots: 1, channels: ["default"], startedAt: now)
        func renewal(token: Int) -> RouterInput {
            .renewal(
                RenewMessage(
                    worker: worker,
                    leases: [.init(job: order.job, attempt: order.attempt, token: token, progress: .init(fraction: 0.5, text: "half"))]),
                delivery())
        }
        func reply(_ after: [AfterCommit]) -> RenewReply? {
            for case .answerRenewal(_, let reply) in after { return reply }
            return nil
        }
        let kept = try await bench.commit(renewal(token: order.token), at: now)
        #expect(reply(kept) == RenewReply())
        #expect(kept.contains { if case .extendLease = $0 { true } else { false } })
        let lost = reply(try await bench.commit(renewal(token: order.token + 1), at: now))?.lost
        #expect(lost == [.init(job: order.job, token: order.token + 1)])
        let command = CommandMessage(id: "c", action: .cancelRun, target: runID.rawValue, actor: "op", at: now)
        let cancelled = try await bench.commit(.command(command, delivery()), at: now)
        #expect(cancelled.contains { if case .stop(let message) = $0 { message.token == order.token } else { false } })
        #expect(reply(try await bench.commit(renewal(token: order.token), at: now))?.cancel == [.init(job: order.job, token: order.token)])
    }

    @Test func theLastProgressComesWithTheResult() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        guard case .result(var message, let answer) = result(order) else { return }
        message.progress = .init(fraction: 1, text: "8 of 8")
        try await bench.commit(.result(message, answer), at: now)
        let reader = LedgerReader(path: Ledger.file(in: bench.folder).path)
        let detail = try await reader.job(order.job.description)
        #expect(detail?.attempts.last?.progress == LedgerProgress(fraction: 1, text: "8 of 8"))
    }

    @Test func aWorkerIsToldToDrainAndToGoOn() async throws {
        let bench = try Bench()
        try await bench.ledger.write { [now] in
            let worker = WorkerInfo(id: "w1.abc", host: "h", pid: 1, version: "1", slots: 1, channels: ["default"], startedAt: now)
            try $0.saveWorker(worker, busy: 0, at: now)
        }
        for (action, told) in [(CommandMessage.Action.drainWorker, ControlMessage.Action.drain), (.resumeWorker, .undrain)] {
            let command = CommandMessage(id: action.rawValue, action: action, target: "w1.abc", actor: "op", at: now)
            let after = try await bench.commit(.command(command, delivery()), at: now)
            let messages = after.compactMap { if case .stop(let message) = $0 { message } else { nil } }
            #expect(messages == [ControlMessage(action: told, worker: "w1.abc")])
            // Once, however often it is delivered.
            let again = try await bench.commit(.command(command, delivery()), at: now)
            #expect(!again.contains { if case .stop = $0 { true } else { false } })
        }
    }

    @Test func aPausedChannelAnswersNoUntilItIsResumed() async throws {
        let bench = try Bench()
        func command(_ action: CommandMessage.Action) -> RouterInput {
            .command(CommandMessage(id: action.rawValue, action: action, target: "default", actor: "op", at: now), delivery())
        }
        try await bench.commit(.event(event(), planned(), delivery()), command(.pauseChannel), at: now)
        #expect(refusal(try await bench.commit(claim(0), at: now))?.code == "channel-paused")
        let resumed = try await bench.commit(command(.resumeChannel), at: now)
        #expect(hints(resumed).map(\.dispatch) == [2])
        #expect(granted(try await bench.commit(claim(0), at: now)) != nil)
    }

    @Test func aResumptionTakesALimitedNumberOfRunsAtATimeAndBeginsAnewAfterACrash() async throws {
        let bench = try Bench()
        func command(_ action: CommandMessage.Action) -> RouterInput {
            .command(CommandMessage(id: action.rawValue, action: action, target: "default", actor: "op", at: now), delivery())
        }
        let count = 2 * RouterTransaction.resumptionLimit + 1
        let runs = (1...count).map { RunID(milliseconds: UInt64($0), random: (1, 1)) }
        try await bench.commit(command(.pauseChannel), at: now)
        for run in runs {
            let claim = ClaimMessage(job: JobID(run: run, index: 0), attempt: 1, worker: "w1", id: "\(run)")
            try await bench.commit(.event(event("\(run)"), planned(run), delivery()), .claim(claim, delivery()), at: now)
        }
        var sent: [RunID] = []
        func follow(_ after: [AfterCommit]) async throws {
            sent += hints(after).map(\.job.run)
            #expect(hints(after).count <= RouterTransaction.resumptionLimit)
            for case .resume(let channel, let last) in after {
                try await follow(try await bench.commit(.resumed(channel, after: last), at: now))
            }
        }
        // The router dies after the first portion; what the next one does first sends the rest.
        let first = try await bench.commit(command(.resumeChannel), at: now)
        sent += hints(first).map(\.job.run)
        #expect(sent.count == RouterTransaction.resumptionLimit)
        try await follow(try await bench.commit(.resumed(.channel("default"), after: nil), at: now))
        #expect(Set(sent) == Set(runs))
        #expect(sent.count == count, "each once")
        // Paused again: nothing is sent.
        let claim = ClaimMessage(job: JobID(run: runs[0], index: 0), attempt: 1, worker: "w1", id: "late")
        let pause = RouterInput.command(
            CommandMessage(id: "again", action: .pauseChannel, target: "default", actor: "op", at: now), delivery())
        let paused = try await bench.commit(pause, .claim(claim, delivery()), .resumed(.channel("default"), after: nil), at: now)
        #expect(hints(paused).isEmpty)
    }

    @Test func anOldLeasesEndLeavesTheNewLeaseAlone() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let old = try #require(granted(try await bench.commit(claim(0), at: now)))
        // One batch: the job is handed back, a copy of its hint is claimed, and the old lease's end has been found meanwhile.
        let after = try await bench.commit(
            result(old, .released), claim(0), .leaseExpired(.init(job: old.job, token: old.token)), at: now)
        let new = try #require(granted(after))
        var table = LeaseTable(duration: .seconds(30))
        let start = ContinuousClock.now
        table.extend(old.job, token: old.token, at: start)
        for action in after {
            switch action {
            case .extendLease(let job, let token): table.extend(job, token: token, at: start)
            case .releaseLease(let lease): table.release(lease)
            default: continue
            }
        }
        #expect(table.expired(at: start + .seconds(30)) == [.init(job: new.job, token: new.token)])
    }

    @Test func aCommandIsCarriedOutOnce() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let order = try #require(granted(try await bench.commit(claim(0), at: now)))
        try await bench.commit(result(order, .failed), at: now)
        let retry = RouterInput.command(
            CommandMessage(id: "c", action: .retryJob, target: order.job.rawValue, actor: "op", at: now), delivery())
        #expect(hints(try await bench.commit(retry, at: now)).map(\.attempt) == [2])
        #expect(hints(try await bench.commit(retry, at: now)).isEmpty)
    }

    @Test func reprocessingMakesARunOfItsOwnFromTheSameEvent() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let other = RunID(milliseconds: 9, random: (3, 3))
        let command = CommandMessage(id: "c", action: .reprocessRun, target: runID.rawValue, actor: "op", at: now)
        let after = try await bench.commit(.reprocessed(command, .run(planned(other)), delivery()), at: now)
        #expect(hints(after).map(\.job.run) == [other])
        let found3 = try await bench.ledger.write { try $0.loadRun(other) }
        #expect(found3 != nil)
    }

    @Test func whatWasNotConfirmedIsThereForTheNextRouter() async throws {
        let bench = try Bench()
        // W5: committed, and the router dies before it publishes.
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let rows = try await bench.ledger.write { try $0.pendingOutbox() }
        #expect(rows.map(\.message.job) == [JobID(run: runID, index: 0)])
    }

    @Test func anExpiredLeaseSendsTheJobAgainAndFencesTheOldWorker() async throws {
        let bench = try Bench()
        try await bench.commit(.event(event(), planned(), delivery()), at: now)
        let lost = try #require(granted(try await bench.commit(claim(0), at: now)))
        let after = try await bench.commit(.leaseExpired(.init(job: lost.job, token: lost.token)), at: now)
        #expect(hints(after).map(\.attempt) == [2])
        let next = try #require(granted(try await bench.commit(claim(0, attempt: 2), at: now)))
        #expect(next.token > lost.token)
        try await bench.commit(result(lost), at: now)
        let loaded = try await bench.ledger.write { try $0.loadRun(runID) }
        let stored = try #require(loaded)
        #expect(stored.run.jobs[0].state == .running)
    }
}
