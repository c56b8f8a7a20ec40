import Foundation
import Testing

@testable import Jobs

/// What an operator does beyond cancel and retry: other params, pauses of services, discarded jobs.
@Suite struct OperatorActionTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// export -> a (service x, channel default) -> b (service y, channel gpu).
    func chain(retries: Int = 0) -> Run {
        func entry(_ name: String, _ service: String, _ channel: String, stage: Stage = .services, after parents: [Int]) -> RunPlan.Entry {
            .init(
                definition: JobDefinition(
                    name: name, service: service, stage: stage, kind: stage == .export ? .export : .python, entry: "m.\(name)",
                    params: ["level": 1, "mode": "fast"], channel: channel, retry: RetryPolicy(max: retries, delay: 5)),
                dependencies: parents.map { Dependency(parent: $0, origin: .declared) })
        }
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(jobs: [
                entry("export", "", "default", stage: .export, after: []), entry("a", "x", "default", after: [0]),
                entry("b", "y", "gpu", after: [1]),
            ]))
        _ = run.apply(.start, at: now)
        return run
    }

    @discardableResult
    func claim(_ run: inout Run, _ job: Int, paused: PausedWork = .none) -> [RunEffect] {
        run.apply(.claim(job: job, attempt: run.jobs[job].attempt, worker: "w", id: UUID().uuidString, paused: paused), at: now)
    }

    func end(_ run: inout Run, _ job: Int, _ outcome: JobExit.Outcome = .succeeded, isRetriable: Bool = true) {
        claim(&run, job)
        let exit = JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now,
            isRetriable: isRetriable)
        _ = run.apply(.result(job: job, attempt: run.jobs[job].attempt, token: run.jobs[job].token, exit: exit), at: now)
    }

    func refusal(_ effects: [RunEffect]) -> String? {
        effects.lazy.compactMap { effect in
            switch effect {
            case .refused(let reason), .deny(let reason): reason.code
            default: nil
            }
        }.first
    }

    // MARK: Other params

    @Test func aRetryWithOtherParamsLeavesThePlanAndCountsUntilItIsTakenBack() {
        var run = chain()
        end(&run, 0)
        end(&run, 1, .failed)
        #expect(run.jobs[1].order == run.jobs[1].definition)
        let planned = run.jobs[1].definition
        let other: JSONValue = ["level": 2]
        #expect(refusal(run.apply(.retry(job: 1, actor: "op", params: other), at: now)) == nil)
        #expect(run.jobs[1].definition == planned && run.jobs[1].order.params == other && run.jobs[1].params == other)
        #expect(run.jobs[1].reason.text == "Retried with other params by op.")
        // Only that one: what comes after it runs again with its own.
        #expect(run.jobs[2].state == .waiting && run.jobs[2].changedParams == nil && run.jobs[0].state == .succeeded)
        end(&run, 1, .failed)
        #expect(run.apply(.retry(job: 1, actor: "op"), at: now).contains(.jobChanged(job: 1)))
        #expect(run.jobs[1].params == other, "a retry without params goes on with what there is")
        end(&run, 1, .failed)
        _ = run.apply(.retry(job: 1, actor: "op", params: planned.params), at: now)
        #expect(run.jobs[1].changedParams == nil, "back to the plan is no change")
    }

    @Test func aRefusedRetryChangesNoParams() {
        var run = chain()
        end(&run, 0)
        let busy = run
        #expect(refusal(run.apply(.retry(job: 1, actor: "op", params: [:]), at: now)) == "nothing-to-retry")
        #expect(run == busy)
        end(&run, 1, .failed)
        // b would be skipped again, because of a.
        let failed = run
        #expect(refusal(run.apply(.retry(job: 2, actor: "op", params: ["level": 3]), at: now)) == "skipped-again")
        #expect(run == failed)
        var broken = chain()
        end(&broken, 0, .failed)
        let before = broken
        #expect(refusal(broken.apply(.retry(job: 0, actor: "op", params: ["x": 1]), at: now)) == "no-params")
        #expect(broken == before)
        #expect(refusal(broken.apply(.retry(job: 0, actor: "op"), at: now)) == nil)
    }

    @Test func aChangeIsToldByItsKeysAndNoValue() {
        let change = ParamsChange(
            from: ["same": 1, "other": "DOE^JANE", "gone": true, "inside": ["a": 1]],
            to: ["same": 1, "other": "ROE^JOHN", "new": .null, "inside": ["a": 2]])
        #expect(change.keys == ["gone", "inside", "new", "other"])
        #expect(change.words == "gone, inside, new, other")
        #expect(ParamsChange(from: .null, to: [:]).words == "none")
        let many = JSONValue.object(Dictionary(uniqueKeysWithValues: (10..<40).map { (String(repeating: "k", count: 60) + "\($0)", 1) }))
        let words = ParamsChange(from: [:], to: many).words
        #expect(words.hasSuffix(" and 10 more") && words.utf8.count < 1000)
    }

    @Test func whatAChangeIsCalledIsShortAndPrintable() {
        let long = "k" + String(repeating: "\u{301}", count: 500)
        let words = ParamsChange(from: [:], to: .object([long: 1, "a\u{0}\u{1b}[2J\nb\u{202e}": 1])).words
        #expect(words.hasPrefix("a[2Jb, ") && words.unicodeScalars.count < 60)
    }

    // MARK: By whom the job was seen

    @Test func aRetryOrADiscardOfAnAttemptThatIsOverIsRefused() {
        var run = chain()
        end(&run, 0)
        end(&run, 1, .failed)
        _ = run.apply(.retry(job: 1, actor: "op", attempt: 1), at: now)
        end(&run, 1, .failed)
        let before = run
        #expect(refusal(run.apply(.retry(job: 1, actor: "op", attempt: 1, params: ["x": 1]), at: now)) == "superseded")
        #expect(refusal(run.apply(.discard(job: 1, actor: "op", attempt: 1), at: now)) == "superseded")
        #expect(run == before)
        #expect(refusal(run.apply(.retry(job: 1, actor: "op", attempt: 2, params: ["x": 1]), at: now)) == nil)
    }

    @Test(arguments: [false, true]) func aRetryOfTheRunLeavesADiscardedJobToARetryOfItsOwn(isCleaned: Bool) {
        var run = chain()
        end(&run, 0)
        for _ in 1...3 {
            claim(&run, 1)
            _ = run.apply(.leaseExpired(job: 1, token: run.jobs[1].token), at: now)
        }
        _ = run.apply(.discard(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs[1].state == .dead && run.jobs[2].state == .skipped)
        if isCleaned { run.hasBegunCleaning = true }
        let discarded = run
        #expect(refusal(run.apply(.retryAll(actor: "op"), at: now)) == "skipped-again")
        #expect(run == discarded)
        #expect(refusal(run.apply(.retry(job: 1, actor: "op"), at: now)) == nil)
        #expect(run.jobs[1].discarded == nil && run.jobs[1].state != .dead)
    }

    /// A hole that the simulation found (DCM_SEED=74508): the files were made again, and nothing would have deleted them.
    @Test(arguments: [false, true]) func theWholeRunBringsADiscardedFinalizerBack(isRetryOfOne: Bool) {
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(jobs: [
                .init(definition: JobDefinition(name: "a", service: "x", stage: .services, entry: "m.a"), dependencies: []),
                .init(
                    definition: JobDefinition(name: "clean", service: "z", stage: .post, entry: "m.clean", isFinalizer: true),
                    dependencies: [Dependency(parent: 0, condition: .finished, origin: .declared)]),
            ]))
        _ = run.apply(.start, at: now)
        _ = run.apply(.cancelAll(actor: "op"), at: now)
        end(&run, 1, .failed, isRetriable: false)
        _ = run.apply(.discard(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs[0].state == .cancelled && run.jobs[1].state == .dead && run.hasBegunCleaning)
        #expect(refusal(run.apply(isRetryOfOne ? .retry(job: 0, actor: "op") : .retryAll(actor: "op"), at: now)) == nil)
        #expect(run.jobs[0].state == .ready && run.jobs[1].state == .waiting && run.jobs[1].discarded == nil)
    }

    // MARK: Pauses

    @Test func aPausedServiceHoldsItsJobsInAllChannelsAndNoOthers() {
        var run = chain()
        let paused = PausedWork(services: ["y"])
        #expect(refusal(claim(&run, 0, paused: paused)) == nil)
        _ = run.apply(
            .result(
                job: 0, attempt: 1, token: 1,
                exit: JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now),
                next: NextClaim(worker: "w", id: "n", floors: ["default": .low], paused: paused)), at: now)
        #expect(run.jobs[1].state == .running, "another service goes on")
        _ = run.apply(
            .result(
                job: 1, attempt: 1, token: 1,
                exit: JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now),
                next: NextClaim(worker: "w", id: "m", floors: ["gpu": .low], paused: paused)), at: now)
        #expect(run.jobs[2].state == .ready, "it is not given away as the next job")
        #expect(refusal(claim(&run, 2, paused: paused)) == "service-paused")
        #expect(run.jobs[2].reason == Reason("service-paused", "Service y is paused.", subject: "y"))
        let queued = run.jobs[2].queuedAt
        // A late confirmation, a suspicion of the sweep: nothing sends it.
        #expect(run.apply(.hintConfirmed(job: 2, attempt: 1, dispatch: 1), at: now + 9).isEmpty && run.jobs[2].state == .ready)
        #expect(run.apply(.hintLost(job: 2, attempt: 1, dispatch: 1), at: now + 9).isEmpty)
        let effects = run.apply(.resumed(paused: .none), at: now + 10)
        #expect(effects.contains(.hint(job: 2, attempt: 1, dispatch: 2, delay: nil, pause: 0)))
        #expect(run.jobs[2].queuedAt == queued, "it keeps its place")
    }

    @Test func aJobThatTwoPausesHoldWaitsForBoth() {
        var run = chain()
        end(&run, 0)
        end(&run, 1)
        #expect(refusal(claim(&run, 2, paused: PausedWork(channels: ["gpu"], services: ["y"]))) == "channel-paused")
        #expect(run.apply(.resumed(paused: PausedWork(services: ["y"])), at: now) == [.jobChanged(job: 2)])
        #expect(run.jobs[2].cause == .servicePaused)
        #expect(run.apply(.resumed(paused: PausedWork(services: ["x"])), at: now).contains { if case .hint = $0 { true } else { false } })
    }

    @Test func theBuiltInDownloadBelongsToNoService() {
        var run = chain()
        #expect(refusal(claim(&run, 0, paused: PausedWork(services: ["x", "y"]))) == nil)
    }

    // MARK: Discarded jobs

    @Test func aDeadJobIsDiscardedOnceAndARetryBringsItBack() {
        var run = chain()
        end(&run, 0)
        end(&run, 1, .failed, isRetriable: false)
        #expect(run.jobs[1].state == .dead)
        let before = run
        #expect(run.apply(.discard(job: 1, actor: "zoe"), at: now + 5) == [.discarded(job: 1)])
        #expect(run.jobs[1].discarded == Discard(actor: "zoe", at: now + 5))
        #expect(run.state == .failed && run.finishedAt == before.finishedAt && run.jobs[2] == before.jobs[2])
        let discarded = run
        #expect(refusal(run.apply(.discard(job: 1, actor: "op"), at: now + 6)) == "nothing-to-discard")
        #expect(run == discarded)
        _ = run.apply(.retry(job: 1, actor: "op"), at: now + 7)
        #expect(run.jobs[1].discarded == nil && run.jobs[1].state == .ready)
        end(&run, 1, .failed, isRetriable: false)
        #expect(run.jobs[1].state == .dead && run.jobs[1].discarded == nil, "it died again: it is on the list again")
    }

    @Test(arguments: [0, 1, 2, 7])
    func nothingElseIsDiscarded(job: Int) {
        var run = chain()
        end(&run, 0)
        end(&run, 1, .failed)
        let before = run
        #expect(refusal(run.apply(.discard(job: job, actor: "op"), at: now)) == "nothing-to-discard")
        #expect(run == before)
    }
}
