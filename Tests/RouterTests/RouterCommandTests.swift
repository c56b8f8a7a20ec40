import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Router

/// Commands, ageing, failed planning and facts against a real ledger, without a broker.
@Suite struct RouterCommandTests {
    let job = JobID(run: RouterBench.runID, index: 0).rawValue

    func started() async throws -> RouterBench {
        let bench = try RouterBench()
        let after = try await bench.commit(.event(RouterBench.event(), RouterBench.planned(), RouterBench.delivery()))
        try await bench.commit(.confirmed(after.rows))
        return bench
    }

    // MARK: Commands

    @Test func aPriorityIsSetAndSentAgainAtItsNewPlace() async throws {
        let bench = try await started()
        let after = try await bench.commit(RouterBench.command(.setPriority, job, priority: "urgent"))
        #expect(after.hints.map(\.priority) == [.urgent])
        #expect(after.outcome == "done")
        let stored = try await bench.job(0)
        #expect(stored?.priority == .urgent)
        #expect(stored?.definition.priority == .default)
        // The old place in the queue is given up.
        let stale = try await bench.commit(RouterBench.claim(0, dispatch: 1))
        #expect(stale.granted == nil)
        let fresh = try await bench.commit(RouterBench.claim(0, dispatch: 2))
        #expect(fresh.granted != nil)
    }

    @Test(arguments: [nil, "", "fast", "9"])
    func aPriorityThatIsNoneIsRefusedWithTheWordsThatAre(priority: String?) async throws {
        let bench = try await started()
        let after = try await bench.commit(RouterBench.command(.setPriority, job, priority: priority))
        #expect(after.hints.isEmpty)
        #expect(after.outcome?.contains("urgent, high, default, medium, low") == true)
    }

    @Test func aRerunTakesASucceededJobAndWhatComesAfterIt() async throws {
        let bench = try await started()
        for index in 0...1 {
            let order = try #require(try await bench.commit(RouterBench.claim(index)).granted)
            try await bench.commit(RouterBench.result(order))
        }
        let after = try await bench.commit(RouterBench.command(.rerunJob, job))
        #expect(after.outcome == "done")
        #expect(after.hints.map(\.job.index) == [0])
        #expect(after.hints.map(\.attempt) == [2])
        let child = try await bench.job(1)
        #expect(child?.state == .waiting)
    }

    @Test(arguments: CommandMessage.Action.allCases)
    func everyCommandForNothingIsRefusedAndLeavesATrace(action: CommandMessage.Action) async throws {
        let bench = try RouterBench()
        let target = [.pauseChannel, .resumeChannel].contains(action) ? "NOT A CHANNEL" : "no such thing"
        let after = try await bench.commit(RouterBench.command(action, target, priority: "high"))
        #expect(after.outcome?.hasPrefix("refused") == true, "\(after.outcome ?? "none")")
    }

    // MARK: Ageing

    @Test func aJobThatWaitsLongMovesUpLevelByLevel() async throws {
        let bench = try await started()
        var now = RouterBench.now
        var levels: [Priority] = []
        for _ in 0..<5 {
            now += 600
            let cutoff = now - 599
            let old = try await bench.ledger.write { try $0.agedHints(before: cutoff, limit: 10) }
            for hint in old {
                let after = try await bench.commit(.aged(hint), at: now)
                levels += after.hints.map(\.priority)
                try await bench.commit(.confirmed(after.rows), at: now)
            }
        }
        #expect(levels == [.high, .urgent])
        let order = try #require(try await bench.commit(RouterBench.claim(0, dispatch: 1), at: now).granted)
        #expect(order.attempt == 1)
    }

    @Test func aRepeatedSweepRaisesNothingTwice() async throws {
        let bench = try await started()
        let now = RouterBench.now + 1000
        let old = try await bench.ledger.write { try $0.agedHints(before: now, limit: 10) }
        let hint = try #require(old.first)
        let after = try await bench.commit(.aged(hint), .aged(hint), at: now)
        #expect(after.hints.map(\.priority) == [.high])
    }

    // MARK: Retries

    @Test func aRetryWaitsForItsOwnTimeInItsDelayQueue() async throws {
        let bench = try RouterBench()
        let policy = RetryPolicy(max: 1, delay: 30)
        try await bench.commit(.event(RouterBench.event(), RouterBench.planned(retry: policy), RouterBench.delivery()))
        let order = try #require(try await bench.commit(RouterBench.claim(0)).granted)
        let after = try await bench.commit(RouterBench.result(order, .failed))
        let message = try #require(after.hints.first)
        let pause = try #require(message.pause)
        #expect((24...30).contains(pause))
        let sent = OutboxRelay.publishing(message)
        #expect(sent.exchange == PipelineExchange.retry)
        #expect(sent.routingKey == "default.30s")
        let expiration = try #require(sent.properties.expiration.flatMap(Int.init))
        #expect((24_000...30_000).contains(expiration))
    }

    // MARK: Planning that fails

    @Test func anEventThatCannotBePlannedIsInTheLedgerBeforeItIsAcknowledged() async throws {
        let bench = try RouterBench()
        let reason = Reason("planning-failed", "Planning failed: no Python.")
        let after = try await bench.commit(.unplanned(RouterBench.event(), reason, RouterBench.delivery()))
        #expect(after.contains { if case .acknowledge = $0 { true } else { false } })
        #expect(after.contains { if case .planLater = $0 { true } else { false } })
        #expect(after.facts.map(\.kind) == ["event.received", "event.unplanned"])
        // The next router finds it, with its attempts and its reason.
        let found = try await bench.ledger.write { try $0.unplannedEvents(limit: 10) }
        #expect(found.map(\.event) == [RouterBench.event()])
        #expect(found.map(\.attempts) == [1])
        #expect(found.map(\.reason) == [reason])
        try await bench.commit(.event(RouterBench.event(), RouterBench.planned(), nil))
        let left = try await bench.ledger.write { try $0.unplannedEvents(limit: 10) }
        #expect(left.isEmpty)
    }

    @Test func anEventThatIsGivenUpIsAFailedRunThatSaysWhy() async throws {
        let bench = try RouterBench()
        let reason = Reason("planning-given-up", "It could not be planned in 10 attempts.")
        var planned = RouterBench.planned()
        planned.plan = RunPlan(failure: reason)
        let after = try await bench.commit(.event(RouterBench.event(), planned, nil))
        #expect(after.facts.map(\.kind).contains("run.failed"))
        let stored = try await bench.ledger.write { try $0.loadRun(RouterBench.runID) }
        #expect(stored?.run.state == .failed)
        #expect(stored?.run.reason?.text.contains("10 attempts") == true)
    }

    @Test func pausesBetweenAttemptsGrowAndEnd() {
        #expect((1...4).map { RouterConfiguration().planningPause(after: $0) } == [5, 10, 20, 40])
        #expect(RouterConfiguration().planningPause(after: 100) == 600)
    }

    // MARK: Facts

    @Test func factsAreNumberedWithoutGapsAlsoOverATransactionThatFails() async throws {
        struct Failure: Error {}
        let bench = try RouterBench()
        var numbers: [Int64] = []
        for round in 0..<6 {
            let event = RouterBench.event("s\(round)")
            let planned = RouterBench.planned(RunID(milliseconds: UInt64(100 + round), random: (1, 1)))
            if round.isMultiple(of: 2) {
                // Everything is written, and then the disk says no: nobody has seen these numbers.
                let fails: () async throws -> Void = {
                    try await bench.ledger.write { ledger in
                        var transaction = RouterTransaction(ledger: ledger, now: RouterBench.now)
                        try transaction.handle(.event(event, planned, nil))
                        throw Failure()
                    }
                }
                await #expect(throws: Failure.self) { try await fails() }
            }
            let after = try await bench.commit(.event(event, planned, nil))
            numbers += after.facts.map(\.sequence)
        }
        #expect(numbers == Array(1...Int64(numbers.count)))
        // What a crash kept from the broker is in the ledger: whoever resumes reads it there, after the last number that he has seen.
        let reader = LedgerReader(path: Ledger.file(in: bench.folder).path)
        let resumed = try await reader.facts(after: 3, limit: 1000)
        #expect(resumed.map(\.sequence) == Array(4...Int64(numbers.count)))
    }

    @Test func theBrokersTroubleIsInTheLedger() async throws {
        let bench = try RouterBench()
        let after = try await bench.commit(.broker(BrokerState(.blocked, reason: "low on memory", since: RouterBench.now)))
        #expect(after.facts.map(\.kind) == ["broker.blocked"])
        let reader = LedgerReader(path: Ledger.file(in: bench.folder).path)
        let state = try await reader.pipelineState()
        #expect(state.brokerBlockedReason == "low on memory")
        #expect(state.brokerBlockedSince == RouterBench.now)
    }

    @Test func aChannelWithoutWorkersIsAFact() async throws {
        let bench = try RouterBench()
        let after = try await bench.commit(.channel("gpu", isServed: false), .channel("gpu", isServed: true))
        #expect(after.facts.map(\.kind) == ["channel.unserved", "channel.served"])
        #expect(after.facts.first?.data["channel"] == "gpu")
    }
}
