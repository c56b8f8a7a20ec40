import Foundation
import Testing

@testable import Jobs

@Suite struct RunTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// export -> a -> b, and clean (a finalizer) after all.
    func chain(retry: RetryPolicy = .never) -> Run {
        func entry(_ name: String, _ stage: Stage, after parents: [Int], finalizer: Bool = false) -> RunPlan.Entry {
            RunPlan.Entry(
                definition: JobDefinition(name: name, service: "s", stage: stage, entry: "m.f", retry: retry, isFinalizer: finalizer),
                dependencies: parents.map { Dependency(parent: $0, condition: finalizer ? .finished : .succeeded, origin: .declared) })
        }
        return Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(jobs: [
                entry("export", .export, after: []), entry("a", .services, after: [0]), entry("b", .services, after: [1]),
                entry("clean", .post, after: [0, 1, 2], finalizer: true),
            ]))
    }

    func exit(_ outcome: JobExit.Outcome, retriable: Bool = true) -> JobExit {
        JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now, isRetriable: retriable)
    }

    /// Claims and ends one job.
    func finish(_ run: inout Run, _ job: Int, _ outcome: JobExit.Outcome, retriable: Bool = true) {
        let attempt = run.jobs[job].attempt
        _ = run.apply(.claim(job: job, attempt: attempt, worker: "w", id: "w"), at: now)
        #expect(run.jobs[job].state == .running)
        let token = run.jobs[job].token
        _ = run.apply(.result(job: job, attempt: attempt, token: token, exit: exit(outcome, retriable: retriable)), at: now)
    }

    @Test func onlyTheRootIsSentAtTheStart() {
        var run = chain()
        let effects = run.apply(.start, at: now)
        #expect(effects.contains(.hint(job: 0, attempt: 1, dispatch: 1, delay: nil, pause: 0)))
        #expect(effects.contains(.runChanged))
        #expect(run.jobs.map(\.state) == [.ready, .waiting, .waiting, .waiting])
    }

    @Test func aChildIsSentWhenItsParentSucceeded() {
        var run = chain()
        _ = run.apply(.start, at: now)
        finish(&run, 0, .succeeded)
        #expect(run.jobs.map(\.state) == [.succeeded, .ready, .waiting, .waiting])
        #expect(run.jobs[1].dependencies[0].satisfiedBy == 1)
    }

    @Test func aFailureSkipsWhatNeedsItAndStillCleansUp() {
        var run = chain()
        _ = run.apply(.start, at: now)
        finish(&run, 0, .succeeded)
        finish(&run, 1, .failed)
        #expect(run.jobs.map(\.state) == [.succeeded, .failed, .skipped, .ready])
        #expect(run.jobs[2].reason.code == "dependency-failed")
        #expect(run.jobs[2].reason.subject == run.jobID(1).rawValue)
        finish(&run, 3, .succeeded)
        #expect(run.state == .failed)
        #expect(run.reason?.subject == run.jobID(1).rawValue)
    }

    @Test func aFinalizerIsHeldBackWhenResultsWereNotStored() {
        var plan = RunPlan(jobs: [
            .init(definition: JobDefinition(name: "work", service: "s", stage: .services, entry: "m.f"), dependencies: []),
            .init(
                definition: JobDefinition(name: "store", service: "s", stage: .post, entry: "m.f", isStoring: true),
                dependencies: [Dependency(parent: 0, origin: .stage)]),
            .init(
                definition: JobDefinition(name: "clean", service: "s", stage: .post, entry: "m.f", isFinalizer: true),
                dependencies: [
                    Dependency(parent: 0, condition: .finished, origin: .stage),
                    Dependency(parent: 1, condition: .finished, origin: .declared),
                ]),
        ])
        plan.addedParams = [:]
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan)
        _ = run.apply(.start, at: now)
        finish(&run, 0, .succeeded)
        finish(&run, 1, .failed)
        #expect(run.jobs[2].state == .skipped)
        #expect(run.jobs[2].reason.code == "held-back")
        // When the results are stored after all, cleaning up goes on.
        _ = run.apply(.retry(job: 1, actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .ready, .waiting])
        finish(&run, 1, .succeeded)
        finish(&run, 2, .succeeded)
        #expect(run.state == .succeeded)
    }

    /// Seed 24937 of the simulation: the finalizer was ready, then a job that was tried again left results that nobody stored.
    @Test func aFinalizerIsHeldBackAtItsClaimToo() {
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(jobs: [
                .init(
                    definition: JobDefinition(name: "store", service: "s", stage: .post, entry: "m.f", isStoring: true),
                    dependencies: []),
                .init(
                    definition: JobDefinition(name: "clean", service: "s", stage: .post, entry: "m.f", isFinalizer: true),
                    dependencies: [Dependency(parent: 0, condition: .finished, origin: .declared)]),
                .init(definition: JobDefinition(name: "work", service: "s", stage: .services, entry: "m.f"), dependencies: []),
            ]))
        _ = run.apply(.start, at: now)
        _ = run.apply(.cancelAll(actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.cancelled, .ready, .cancelled])
        _ = run.apply(.retry(job: 2, actor: "op"), at: now)
        finish(&run, 2, .succeeded)
        let effects = run.apply(.claim(job: 1, attempt: 1, worker: "w", id: "late"), at: now)
        #expect(run.jobs[1].state == .skipped)
        #expect(run.jobs[1].cause == .heldBack)
        #expect(effects.contains(.deny(run.jobs[1].reason)))
        #expect(run.state.isTerminal)
    }

    @Test func aRetryAfterCleaningUpStartsTheWholeRunOver() {
        var run = chain()
        _ = run.apply(.start, at: now)
        finish(&run, 0, .succeeded)
        finish(&run, 1, .failed)
        finish(&run, 3, .succeeded)
        _ = run.apply(.retry(job: 1, actor: "op"), at: now)
        // The cleaning job deleted what the export had written.
        #expect(run.jobs.map(\.state) == [.ready, .waiting, .waiting, .waiting])
        #expect(run.jobs.map(\.attempt) == [2, 2, 1, 2])
        for job in 0...3 { finish(&run, job, .succeeded) }
        #expect(run.state == .succeeded)
    }

    @Test func aFailedAttemptWaitsInADelayQueueAndIsNotStartedEarly() {
        var run = chain(retry: RetryPolicy(max: 1, delay: 20))
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "w"), at: now)
        let effects = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit(.failed)), at: now)
        let pause = RetryDelay.thirtySeconds.pause(job: run.jobID(0), attempt: 1)
        #expect(effects.contains(.hint(job: 0, attempt: 2, dispatch: 1, delay: .thirtySeconds, pause: pause)))
        #expect((24...30).contains(pause))
        #expect(run.jobs[0].state == .retrying)
        let early = run.apply(.claim(job: 0, attempt: 2, worker: "w", id: "w"), at: now.addingTimeInterval(10))
        #expect(early.contains { if case .deny(let reason) = $0 { reason.code == "too-early" } else { false } })
        let due = run.apply(.claim(job: 0, attempt: 2, worker: "w", id: "w"), at: now.addingTimeInterval(30))
        #expect(due.contains(.grant(job: 0, attempt: 2, token: 2)))
        _ = run.apply(.result(job: 0, attempt: 2, token: 2, exit: exit(.failed)), at: now)
        #expect(run.jobs[0].state == .failed)
    }

    @Test func whatCannotSucceedGoesToTheDeadLetters() {
        var run = chain(retry: RetryPolicy(max: 5))
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "w"), at: now)
        let effects = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit(.failed, retriable: false)), at: now)
        #expect(run.jobs[0].state == .dead)
        #expect(effects.contains(.deadLetter(job: 0, attempt: 1)))
    }

    @Test func threeLostWorkersQuarantineAJob() {
        var run = chain()
        _ = run.apply(.start, at: now)
        for loss in 1...3 {
            let attempt = run.jobs[0].attempt
            _ = run.apply(.claim(job: 0, attempt: attempt, worker: "w\(loss)", id: "w\(loss)"), at: now)
            _ = run.apply(.leaseExpired(job: 0, token: run.jobs[0].token), at: now)
        }
        #expect(run.jobs[0].state == .dead)
        #expect(run.jobs[0].crashes == 3)
    }

    @Test func theSameClaimGetsTheSameAnswer() {
        var run = chain()
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c1"), at: now)
        let before = run
        // The answer got lost on its way; without this the job would wait for its lease to expire and count a crash.
        #expect(
            run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c1"), at: now) == [.grant(job: 0, attempt: 1, token: 1)]
        )
        #expect(run == before)
        // A copy of the hint is another claim, even at the same worker: it may have finished the attempt by now.
        let other = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c2"), at: now)
        #expect(other.contains { if case .deny(let reason) = $0 { reason.code == "leased" } else { false } })
    }

    @Test func aStaleResultIsRefused() {
        var run = chain()
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "slow", id: "slow"), at: now)
        _ = run.apply(.leaseExpired(job: 0, token: 1), at: now)
        _ = run.apply(.claim(job: 0, attempt: 2, worker: "next", id: "next"), at: now)
        let before = run
        let effects = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit(.succeeded)), at: now)
        #expect(run == before)
        #expect(effects.contains { if case .refused(let reason) = $0 { reason.code == "stale-result" } else { false } })
    }

    @Test func cancellingARunningJobTellsItsWorkerTwice() {
        var run = chain()
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "w"), at: now)
        #expect(run.apply(.cancelAll(actor: "op"), at: now).contains(.stop(job: 0, token: 1)))
        // Should the control message get lost, the next renewal's answer says it again.
        #expect(run.apply(.renewal(job: 0, attempt: 1, token: 1), at: now).contains(.stop(job: 0, token: 1)))
        _ = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit(.cancelled)), at: now)
        finish(&run, 3, .succeeded)
        #expect(run.state == .cancelled)
    }

    @Test func aPausedChannelHoldsItsJobsUntilItIsResumed() {
        var run = chain()
        _ = run.apply(.start, at: now)
        _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 1), at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "w", paused: PausedWork(channels: ["default"])), at: now)
        #expect(run.jobs[0].state == .ready)
        #expect(run.jobs[0].reason.code == "channel-paused")
        let effects = run.apply(.resumed(paused: .none), at: now)
        #expect(effects.contains(.hint(job: 0, attempt: 1, dispatch: 2, delay: nil, pause: 0)))
    }

    @Test func aRunThatPlanningRefusedStartsNothingNotEvenOnRetry() {
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(
                jobs: [.init(definition: JobDefinition(name: "a", service: "s", stage: .services, entry: "m.f"), dependencies: [])],
                failure: Reason("pre-callback-failed", "the anonymizer's callback failed")))
        let effects = run.apply(.start, at: now)
        #expect(run.state == .failed)
        #expect(!effects.contains { if case .hint = $0 { true } else { false } })
        _ = run.apply(.retryAll(actor: "op"), at: now)
        _ = run.apply(.retry(job: 0, actor: "op"), at: now)
        #expect(run.jobs[0].state == .skipped)
        #expect(run.state == .failed)
    }

    @Test func aRunWithoutJobsIsDeclined() {
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: RunPlan())
        _ = run.apply(.start, at: now)
        #expect(run.state == .declined)
    }

    @Test func aClaimForAPositionThatDoesNotExistIsDenied() {
        var run = chain()
        let effects = run.apply(.claim(job: 99, attempt: 1, worker: "w", id: "w"), at: now)
        #expect(effects.contains { if case .deny = $0 { true } else { false } })
    }

    // MARK: Retrying while other jobs go on

    /// export -> deid -> {a, b} -> clean (a finalizer).
    func fan() -> Run {
        func entry(_ name: String, _ stage: Stage, after parents: [Int], finalizer: Bool = false) -> RunPlan.Entry {
            RunPlan.Entry(
                definition: JobDefinition(name: name, service: "s", stage: stage, entry: "m.f", isFinalizer: finalizer),
                dependencies: parents.map { Dependency(parent: $0, condition: finalizer ? .finished : .succeeded, origin: .stage) })
        }
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)),
            plan: RunPlan(jobs: [
                entry("export", .export, after: []), entry("deid", .pre, after: [0]), entry("a", .services, after: [1]),
                entry("b", .services, after: [1]), entry("clean", .post, after: [0, 1, 2, 3], finalizer: true),
            ]))
        _ = run.apply(.start, at: now)
        return run
    }

    func claim(_ run: inout Run, _ job: Int) {
        _ = run.apply(.claim(job: job, attempt: run.jobs[job].attempt, worker: "w", id: UUID().uuidString), at: now)
    }

    func refusal(_ effects: [RunEffect]) -> String? {
        for case .refused(let reason) in effects { return reason.code }
        return nil
    }

    @Test func theExportIsNeverRepeatedWhileAServiceReadsTheDeidentifiedFiles() {
        var run = fan()
        for job in [0, 1] { finish(&run, job, .succeeded) }
        finish(&run, 2, .failed)
        finish(&run, 3, .succeeded)
        finish(&run, 4, .succeeded)
        // The whole run starts over, because its files are gone.
        _ = run.apply(.retry(job: 2, actor: "op"), at: now)
        for job in [0, 1] { finish(&run, job, .succeeded) }
        finish(&run, 2, .failed)
        claim(&run, 3)
        // A second retry concerns only what failed: b reads, and the cleaner of this pass has not started.
        _ = run.apply(.retry(job: 2, actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .succeeded, .ready, .running, .waiting])
    }

    @Test func nothingIsRetriedWhileTheCleanerRuns() {
        var run = fan()
        for job in [0, 1] { finish(&run, job, .succeeded) }
        finish(&run, 2, .failed)
        finish(&run, 3, .succeeded)
        claim(&run, 4)
        let before = run
        let code = refusal(run.apply(.retry(job: 2, actor: "op"), at: now))
        #expect(code == "run-active")
        #expect(run == before)
    }

    @Test func whatIsAboutToStartWaitsAgainForTheJobThatIsRetried() {
        var run = fan()
        for job in [0, 1] { finish(&run, job, .succeeded) }
        finish(&run, 2, .failed)
        finish(&run, 3, .succeeded)
        #expect(run.jobs[4].state == .ready)
        _ = run.apply(.retry(job: 2, actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .succeeded, .ready, .succeeded, .waiting])
        // The hint that is still under way starts nothing.
        let effects = run.apply(.claim(job: 4, attempt: 1, worker: "w", id: "late"), at: now)
        #expect(effects.contains { if case .deny(let reason) = $0 { reason.code == "waiting" } else { false } })
        finish(&run, 2, .succeeded)
        finish(&run, 4, .succeeded)
        #expect(run.state == .succeeded)
    }

    @Test func aFailedCleanerIsRetriedAlone() {
        var run = fan()
        for job in 0...3 { finish(&run, job, .succeeded) }
        finish(&run, 4, .failed)
        _ = run.apply(.retry(job: 4, actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .succeeded, .succeeded, .succeeded, .ready])
    }

    @Test func aCancelledRunIsStillCleanedUp() {
        var run = fan()
        finish(&run, 0, .succeeded)
        _ = run.apply(.cancelAll(actor: "op"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .cancelled, .cancelled, .cancelled, .ready])
        finish(&run, 4, .succeeded)
        #expect(run.state == .cancelled)
    }

    @Test func aPersonsRetryGivesAllRetriesBack() {
        var run = chain(retry: RetryPolicy(max: 1, delay: 5))
        _ = run.apply(.start, at: now)
        finish(&run, 0, .failed)
        _ = run.apply(.claim(job: 0, attempt: 2, worker: "w", id: "c2"), at: now + 60)
        _ = run.apply(.result(job: 0, attempt: 2, token: 2, exit: exit(.failed)), at: now + 60)
        #expect(run.jobs[0].state == .failed)
        finish(&run, 3, .succeeded)
        _ = run.apply(.retryAll(actor: "op"), at: now)
        finish(&run, 0, .failed)
        #expect(run.jobs[0].state == .retrying)
    }

    @Test func aConfirmationThatComesAfterThePauseDoesNotHideIt() {
        var run = chain()
        _ = run.apply(.start, at: now)
        _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c", paused: PausedWork(channels: ["default"])), at: now)
        _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 1), at: now)
        #expect(run.jobs[0].state == .ready)
        let effects = run.apply(.resumed(paused: .none), at: now)
        #expect(effects.contains(.hint(job: 0, attempt: 1, dispatch: 2, delay: nil, pause: 0)))
    }

    @Test func troubleInPlanningIsNotForgottenWhenTheJobsEndWell() {
        let concern = Reason("callback-failed", "a callback timed out", subject: "b")
        let entry = RunPlan.Entry(
            definition: JobDefinition(name: "a", service: "s", stage: .services, entry: "m.f"), dependencies: [])
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: RunPlan(jobs: [entry], concern: concern))
        _ = run.apply(.start, at: now)
        finish(&run, 0, .succeeded)
        #expect(run.state == .failed)
        #expect(run.reason == concern)
        var empty = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: RunPlan(concern: concern))
        _ = empty.apply(.start, at: now)
        #expect(empty.state == .failed)
    }
}
