import Foundation
import Testing

@testable import Jobs

@Suite struct ExplanationTests {
    static let now = Date(timeIntervalSince1970: 1_700_000_000)
    static let pairs = JobState.allCases.flatMap { state in
        state.reasons.sorted { $0.rawValue < $1.rawValue }.map { RunAudit.Standing(state: state, reason: $0) }
    }

    /// parent -> child, and the child is asked about.
    static func run(_ state: JobState, _ reason: JobReason, subject: String? = nil, parent: JobState = .running) -> Run {
        func job(_ name: String, _ edges: [Dependency], _ state: JobState, _ reason: Reason) -> Job {
            Job(
                definition: JobDefinition(
                    name: name, service: "s", stage: .services, entry: "m.f", channel: "gpu", priority: .low,
                    retry: RetryPolicy(max: 5)),
                dependencies: edges, priority: .low, state: state, reason: reason)
        }
        var run = Run(
            id: RunID(milliseconds: 1, random: (2, 3)), state: .active, reason: nil, finishedAt: nil,
            concern: Reason("pre-callback-failed", "The callback of deid failed."),
            jobs: [
                job("parent", [], parent, Reason(.running, "")),
                job("child", [Dependency(parent: 0, origin: .declared)], state, Reason(reason, "raw text", subject: subject)),
            ])
        run.jobs[1].attempt = 3
        run.jobs[1].failures = 2
        run.jobs[1].crashes = 3
        run.jobs[1].worker = "w1"
        run.jobs[1].queuedAt = now - 100
        run.jobs[1].startedAt = now - 50
        run.jobs[1].finishedAt = now - 10
        run.jobs[1].notBefore = now + 40
        run.jobs[1].failure = JobExit.Failure(type: "ValueError", message: "secret")
        return run
    }

    static func explain(_ run: Run, _ change: (inout JobSurroundings) -> Void = { _ in }) -> Explanation {
        var surroundings = JobSurroundings(now: now, workersOfChannel: 2)
        change(&surroundings)
        return run.explain(job: 1, surroundings: surroundings)
    }

    @Test(arguments: pairs)
    func everyStateWithEveryReasonHasAnAnswerOfItsOwn(_ standing: RunAudit.Standing) {
        let run = Self.run(standing.state, standing.reason, subject: "someone")
        let answer = Self.explain(run)
        #expect(answer.code != .unexpected)
        #expect(answer.sentence.hasSuffix("."))
        #expect(!answer.sentence.contains("raw text"), "\(answer.sentence)")
        #expect(!answer.sentence.contains("secret"), "\(answer.sentence)")
    }

    @Test(arguments: JobState.allCases)
    func aReasonThatDoesNotBelongToAStateIsCalledSo(_ state: JobState) {
        for reason in JobReason.allCases where !state.reasons.contains(reason) {
            #expect(Self.explain(Self.run(state, reason)).code == .unexpected, "\(state) \(reason)")
        }
    }

    @Test func noTwoStandingsOfAQueuedJobSoundTheSame() {
        let sentences = JobState.ready.reasons.map { Self.explain(Self.run(.ready, $0, subject: "x")).sentence }
        #expect(Set(sentences).count == sentences.count)
    }

    @Test func aWaitingJobNamesWhatItWaitsFor() {
        let answer = Self.explain(Self.run(.waiting, .waitingForDependencies))
        #expect(answer.sentence == "Waits for parent (running).")
        #expect(answer.subjects == [.init(kind: .job, id: "00000000010000000200000003.0", name: "parent")])
    }

    @Test func aPausedChannelNamesWhoAndSince() {
        let answer = Self.explain(Self.run(.dispatched, .queued)) {
            $0.pause = Pause(.channel("gpu"), by: "zoe", at: Self.now)
            $0.workersOfChannel = 0
        }
        #expect(answer.code == .channelPaused)
        #expect(answer.sentence == "Channel gpu was paused by zoe at 2023-11-14 22:13:20 UTC: the job starts when the channel is resumed.")
        #expect(answer.since == Self.now)
        #expect(answer.subjects == [.init(kind: .channel, id: "gpu"), .init(kind: .person, id: "zoe")])
    }

    @Test func aPausedServiceNamesWhoAndSince() {
        let answer = Self.explain(Self.run(.ready, .servicePaused)) { $0.pause = Pause(.service("s"), by: "zoe", at: Self.now) }
        #expect(answer.code == .servicePaused)
        #expect(answer.sentence == "Service s was paused by zoe at 2023-11-14 22:13:20 UTC: the job starts when the service is resumed.")
        #expect(answer.subjects == [.init(kind: .service, id: "s"), .init(kind: .person, id: "zoe")])
    }

    @Test func aChannelThatNobodyServesIsNamed() {
        for (state, reason) in [(JobState.dispatched, JobReason.queued), (.ready, .workerLost), (.dispatched, .raised)] {
            let answer = Self.explain(Self.run(state, reason)) { $0.workersOfChannel = 0 }
            #expect(answer.code == .noWorker)
            #expect(answer.sentence.hasPrefix("No worker serves channel gpu"))
        }
    }

    @Test func aBlockedBrokerIsTold() {
        let answer = Self.explain(Self.run(.ready, .ready)) {
            $0.brokerBlocked = "low on disk"
            $0.brokerBlockedSince = Self.now
        }
        #expect(answer.sentence == "RabbitMQ takes no messages since 2023-11-14 22:13:20 UTC (low on disk), so no job can start.")
    }

    @Test func aRetryTellsWhichAndWhen() {
        let answer = Self.explain(Self.run(.retrying, .retrying))
        #expect(answer.sentence == "Attempt 2 failed (ValueError); retry 2 of 5 comes at 2023-11-14 22:14:00 UTC.")
        #expect(answer.until == Self.now + 40)
        // Due: now it is the channel that matters.
        let due = Self.explain(Self.run(.retrying, .retrying)) {
            $0.now = Self.now + 60
            $0.workersOfChannel = 0
        }
        #expect(due.code == .noWorker)
    }

    @Test func ageingIsTold() {
        var run = Self.run(.dispatched, .raised)
        run.jobs[1].priority = .high
        #expect(
            Self.explain(run).sentence
                == "Waited so long that ageing raised it from low; it waits for a worker of channel gpu, priority high.")
    }

    @Test func runningNamesTheWorkerTheTimeAndTheLimit() {
        let answer = Self.explain(Self.run(.running, .running))
        #expect(answer.sentence == "Attempt 3 runs on worker w1 since 2023-11-14 22:12:30 UTC.")
        #expect(answer.until == Self.now - 50 + 3600)
        let stopping = Self.explain(Self.run(.running, .stopping, subject: "zoe"))
        #expect(stopping.sentence == "zoe asked to cancel it; worker w1 has been told and has not reported its end yet.")
    }

    @Test func aDeadJobTellsHowManyWorkersItCost() {
        let answer = Self.explain(Self.run(.dead, .crashLimit))
        #expect(
            answer.sentence
                == "3 workers were lost while they ran it, the last one w1 at 2023-11-14 22:13:10 UTC: retry it when the cause is known.")
    }

    @Test func aSkippedJobNamesWhereTheChainBegan() {
        var run = Self.run(.skipped, .dependencySkipped)
        run.jobs[1].reason.subject = run.jobID(0).rawValue
        run.jobs[0].state = .skipped
        run.jobs.insert(run.jobs[0], at: 0)
        run.jobs[0].definition.name = "root"
        run.jobs[0].state = .failed
        run.jobs[1].reason = Reason(.dependencyFailed, "", subject: run.jobID(0).rawValue)
        run.jobs[2].reason.subject = run.jobID(1).rawValue
        let answer = run.explain(job: 2, surroundings: JobSurroundings(now: Self.now, workersOfChannel: 1))
        #expect(answer.sentence == "It needs job parent, which was skipped, behind which is job root.")
        #expect(answer.subjects.map(\.name) == ["parent", "root"])
    }

    @Test func aDeclinedDependencyIsExplainedByItsDecision() {
        let run = Self.run(.skipped, .dependencyNotAccepted, subject: "a")
        let declined = Decision(
            job: "a", service: "brain", stage: .services, verdict: .declined,
            reason: Reason("declined", "Its callback declined this study."))
        let answer = Self.explain(run) { $0.decisions = [declined] }
        #expect(answer.sentence == "Skipped, because job a, which it depends on, was declined by its callback.")
        #expect(answer.subjects == [.init(kind: .service, id: "brain")])
        let disabled = Decision(
            job: "a", service: "brain", stage: .services, verdict: .declined, reason: Reason("disabled", "It is disabled in its settings."))
        #expect(
            Self.explain(run) { $0.decisions = [disabled] }.sentence
                == "Skipped, because job a, which it depends on, is not part of this run (It is disabled in its settings).")
    }

    @Test func heldBackNamesTheStoringJob() {
        var run = Self.run(.skipped, .heldBack, parent: .failed)
        run.jobs[1].reason.subject = run.jobID(0).rawValue
        let answer = Self.explain(run)
        #expect(
            answer.sentence
                == "Cleaning up is held back, because job parent did not carry its results out: retry that one, and this one follows.")
    }

    @Test func aCancelledJobNamesWho() {
        #expect(
            Self.explain(Self.run(.cancelled, .cancelled, subject: "zoe")).sentence
                == "Cancelled by zoe at 2023-11-14 22:13:10 UTC, while attempt 3 ran.")
    }

    /// The start of an attempt that is over says nothing about the next one.
    @Test func aJobCancelledBetweenAttemptsHasBegunBefore() {
        var run = Self.run(.cancelled, .cancelled, subject: "zoe")
        run.jobs[1].startedAt = nil
        #expect(Self.explain(run).sentence.hasSuffix("before attempt 3 had begun."))
    }
}

/// Asks after every change, of every job.
private struct AskingReducer: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        var effects = run.apply(input, at: now)
        for index in run.jobs.indices {
            let answer = run.explain(job: index, surroundings: JobSurroundings(now: now, workersOfChannel: 1))
            if answer.code == .unexpected { effects.append(.refused(Reason("unexplained", answer.sentence))) }
        }
        return effects
    }
}

private struct PlainReducer: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] { run.apply(input, at: now) }
}

@Suite struct ReachTests {
    /// The table of states and reasons is neither too short nor too long: the scripts reach all of it, and nothing beyond it.
    @Test func everyStandingIsReachedAndExplained() throws {
        var seen: Set<RunAudit.Standing> = []
        var refusals: Set<String> = []
        for seed: UInt64 in 0..<1500 {
            let (_, outcome) = Simulation.random(seed: seed, with: AskingReducer.self)
            #expect(outcome.violation == nil)
            seen.formUnion(outcome.seen)
            refusals.formUnion(outcome.refusals)
        }
        // What a plan begins with, no input leads to.
        let initial: Set<JobReason> = [.waitingForDependencies, .dependencyNotAccepted, .planningFailed]
        let missing = ExplanationTests.pairs.filter { !seen.contains($0) && !initial.contains($0.reason) }
        #expect(missing.isEmpty, "\(missing)")
        let known: Set<String> = [
            "superseded", "too-early", "waiting", "leased", "done", "channel-paused", "service-paused", "held-back",
            "nothing-to-cancel", "nothing-to-discard", "nothing-to-retry", "nothing-to-rerun", "nothing-to-change", "skipped-again",
            "running", "descendant-running", "run-active", "stale-result",
        ]
        // The rarest, a claim that finds cleaning up held back, is in one script of a thousand.
        var seed: UInt64 = 1500
        while seed < 15_000, !refusals.isSuperset(of: known) {
            let (_, outcome) = Simulation.random(seed: seed, with: PlainReducer.self)
            #expect(outcome.violation == nil)
            refusals.formUnion(outcome.refusals)
            seed += 1
        }
        #expect(refusals == known)
    }
}
