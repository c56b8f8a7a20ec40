import Foundation
import Testing

@testable import Jobs

@Suite struct RunCommandTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// job0 -> job1 -> job2, and what `change` makes of it.
    func chain(_ change: (inout SimulatedPlan) -> Void = { _ in }) -> Run {
        var plan = SimulatedPlan(entries: [
            .init(stage: .export), .init(edges: [.init(parent: 0, isLenient: false)]), .init(edges: [.init(parent: 1, isLenient: false)]),
        ])
        change(&plan)
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan.plan)
        _ = run.apply(.start, at: now)
        return run
    }

    func claim(_ run: inout Run, _ job: Int, dispatch: Int? = nil) -> [RunEffect] {
        let attempt = run.jobs[job].attempt
        let input = RunInput.claim(
            job: job, attempt: attempt, dispatch: dispatch, worker: "w", id: UUID().uuidString)
        return run.apply(input, at: now + 7200)
    }

    func finish(_ run: inout Run, _ job: Int, _ outcome: JobExit.Outcome = .succeeded) {
        _ = claim(&run, job)
        #expect(run.jobs[job].state == .running)
        let exit = JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now)
        _ = run.apply(.result(job: job, attempt: run.jobs[job].attempt, token: run.jobs[job].token, exit: exit), at: now)
    }

    func refusal(_ effects: [RunEffect]) -> String? {
        for effect in effects {
            if case .refused(let reason) = effect { return reason.code }
            if case .deny(let reason) = effect { return reason.code }
        }
        return nil
    }

    // MARK: Priority

    @Test func waitingRaisesAJobLevelByLevel() {
        var run = chain { $0.entries[0].priority = .medium }
        for (level, dispatch) in [(Priority.default, 1), (.high, 2), (.urgent, 3)] {
            _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: dispatch), at: now)
            let effects = run.apply(.aged(job: 0, attempt: 1, dispatch: dispatch), at: now)
            #expect(effects.contains(.hint(job: 0, attempt: 1, dispatch: dispatch + 1, delay: nil, pause: 0)))
            #expect(run.jobs[0].priority == level)
            // A copy of the same suspicion.
            #expect(run.apply(.aged(job: 0, attempt: 1, dispatch: dispatch), at: now).isEmpty)
        }
        _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 4), at: now)
        #expect(run.jobs[0].cause == .raised)
        #expect(run.apply(.aged(job: 0, attempt: 1, dispatch: 4), at: now).isEmpty)
        #expect(run.jobs[0].definition.priority == .medium)
        // The first hint is as good as the last one.
        let granted = claim(&run, 0, dispatch: 1)
        #expect(granted.contains(.grant(job: 0, attempt: 1, token: 1)))
    }

    @Test func aRetryThatIsDueAgesToo() {
        var run = chain { $0.entries[0].retries = 1 }
        finish(&run, 0, .failed)
        #expect(run.apply(.aged(job: 0, attempt: 2, dispatch: 1), at: now).isEmpty)
        let effects = run.apply(.aged(job: 0, attempt: 2, dispatch: 1), at: now + 60)
        #expect(effects.contains(.hint(job: 0, attempt: 2, dispatch: 2, delay: nil, pause: 0)))
        #expect(run.jobs[0].state == .ready)
        #expect(run.jobs[0].priority == .high)
    }

    @Test func aLoweredPriorityHoldsAgainstHintsThatStandHigher() {
        var run = chain()
        _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 1), at: now)
        let effects = run.apply(.setPriority(job: 0, priority: .low, actor: "zoe"), at: now)
        #expect(effects.contains(.hint(job: 0, attempt: 1, dispatch: 2, delay: nil, pause: 0)))
        let old = refusal(claim(&run, 0, dispatch: 1))
        #expect(old == "superseded")
        let new = claim(&run, 0, dispatch: 2)
        #expect(new.contains(.grant(job: 0, attempt: 1, token: 1)))
    }

    @Test func priorityIsSetOnWhatHasNotBegun() {
        var run = chain { $0.entries[0].retries = 1 }
        #expect(run.apply(.setPriority(job: 1, priority: .urgent, actor: "zoe"), at: now) == [.jobChanged(job: 1)])
        let same = refusal(run.apply(.setPriority(job: 1, priority: .urgent, actor: "zoe"), at: now))
        #expect(same == "nothing-to-change")
        finish(&run, 0, .failed)
        // It waits for its retry: the new hint arrives when the old one would.
        let effects = run.apply(.setPriority(job: 0, priority: .high, actor: "zoe"), at: now)
        let pause = RetryDelay.fiveSeconds.pause(job: run.jobID(0), attempt: 1)
        let found = effects.contains {
            if case .hint(0, 2, 2, .fiveSeconds, let left) = $0 { abs(left - pause) < 0.001 } else { false }
        }
        #expect(found)
        #expect(run.jobs[0].state == .retrying)
        _ = claim(&run, 0)
        let running = refusal(run.apply(.setPriority(job: 0, priority: .low, actor: "zoe"), at: now))
        #expect(running == "running")
    }

    @Test func retriesOfDifferentJobsComeBackAtDifferentTimes() {
        let run = RunID(milliseconds: 1, random: (2, 3))
        let pauses = (0..<100).map { RetryDelay.tenMinutes.pause(job: JobID(run: run, index: $0), attempt: 1) }
        #expect(Set(pauses).count == 100)
        #expect(pauses.allSatisfy { (480...600).contains($0) })
        #expect((pauses.min() ?? 0) < 495)
        #expect((pauses.max() ?? 0) > 585)
        #expect(RetryDelay.tenMinutes.pause(job: JobID(run: run, index: 7), attempt: 1) == pauses[7])
    }

    // MARK: Rerun and retry

    @Test func rerunTakesWhatComesAfterAndLeavesWhatCameBefore() {
        var run = chain()
        for job in 0...2 { finish(&run, job) }
        _ = run.apply(.rerun(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .ready, .waiting])
        #expect(run.jobs.map(\.attempt) == [1, 2, 2])
        #expect(run.jobs[2].cause == .rerun)
        for job in 1...2 { finish(&run, job) }
        #expect(run.state == .succeeded)
    }

    @Test func nothingIsRerunUnderAWorkerThatRuns() {
        var run = chain()
        for job in 0...1 { finish(&run, job) }
        let waiting = refusal(run.apply(.rerun(job: 2, actor: "zoe"), at: now))
        #expect(waiting == "nothing-to-rerun")
        _ = claim(&run, 2)
        let before = run
        let running = refusal(run.apply(.rerun(job: 1, actor: "zoe"), at: now))
        #expect(running == "descendant-running")
        #expect(run == before)
    }

    /// A hole that this test found: its edge to the parent was satisfied by an attempt that no longer counts.
    @Test func aRetriedChildWaitsForAParentThatIsBeingRepeated() {
        var run = chain { $0.entries[1].edges[0].isLenient = true }
        finish(&run, 0, .failed)
        finish(&run, 1, .failed)
        _ = run.apply(.retry(job: 0, actor: "zoe"), at: now)
        #expect(run.jobs.map(\.state) == [.ready, .failed, .skipped])
        _ = run.apply(.retry(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs.map(\.state) == [.ready, .waiting, .waiting])
    }

    @Test func aRetryThatWouldBeSkippedAgainIsRefusedAndNamesTheCause() {
        var run = chain()
        finish(&run, 0, .failed)
        let before = run
        let effects = run.apply(.retry(job: 1, actor: "zoe"), at: now)
        #expect(refusal(effects) == "skipped-again")
        #expect(effects.contains { if case .refused(let reason) = $0 { reason.subject == run.jobID(0).rawValue } else { false } })
        #expect(run == before)
    }

    /// A hole: a lost worker's finalizer looked as if it had never begun, and a retry went on with deleted files.
    @Test func aFinalizerThatLostItsWorkerHasBegunAllTheSame() {
        var run = chain {
            $0.entries[2] = .init(
                stage: .post, edges: [.init(parent: 0, isLenient: true), .init(parent: 1, isLenient: true)], isFinalizer: true)
        }
        finish(&run, 0)
        finish(&run, 1, .failed)
        _ = claim(&run, 2)
        _ = run.apply(.leaseExpired(job: 2, token: run.jobs[2].token), at: now)
        let early = refusal(run.apply(.retry(job: 1, actor: "zoe"), at: now))
        #expect(early == "run-active")
        finish(&run, 2, .failed)
        // Cleaning up once more does not bring the files back either.
        _ = run.apply(.retry(job: 2, actor: "zoe"), at: now)
        finish(&run, 2)
        _ = run.apply(.retry(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs.map(\.state) == [.ready, .waiting, .waiting])
        #expect(!run.hasBegunCleaning)
    }

    @Test func whatComesAfterAFinalizerIsReopenedWithIt() {
        var run = chain {
            $0.entries[1] = .init(stage: .post, edges: [.init(parent: 0, isLenient: true)], isFinalizer: true)
            $0.entries[2].stage = .post
        }
        finish(&run, 0)
        finish(&run, 1, .failed)
        #expect(run.jobs[2].state == .skipped)
        _ = run.apply(.retry(job: 1, actor: "zoe"), at: now)
        #expect(run.jobs.map(\.state) == [.succeeded, .ready, .waiting])
    }

    @Test func aCancelledRunningJobRemembersWhoAsked() {
        var run = chain()
        _ = claim(&run, 0)
        _ = run.apply(.cancel(job: 0, actor: "zoe"), at: now)
        #expect(run.jobs[0].cause == .stopping)
        _ = run.apply(.cancel(job: 0, actor: "max"), at: now)
        _ = run.apply(.leaseExpired(job: 0, token: 1), at: now)
        #expect(run.jobs[0].state == .cancelled)
        #expect(run.jobs[0].reason.subject == "zoe")
    }

    /// The worker handed the job back; a copy of its old claim must not take it again, for nobody listens to the answer.
    @Test func aClaimIsGoodForOneLease() {
        var run = chain()
        let input = RunInput.claim(job: 0, attempt: 1, worker: "w", id: "c1")
        _ = run.apply(input, at: now)
        let exit = JobExit(outcome: .released, kind: .released, startedAt: now, finishedAt: now)
        _ = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
        #expect(run.jobs[0].state == .ready)
        let again = refusal(run.apply(input, at: now))
        #expect(again == "superseded")
    }

    /// At once it would come back to the same worker, again and again.
    @Test func whatAWorkerHasNotTheMeansForIsOfferedAgainLater() throws {
        var run = chain()
        _ = claim(&run, 0)
        let lack = JobExit.Failure(type: "NotHere", message: "it wants 2 GPUs and this worker has none (WORKER_GPUS)")
        let exit = JobExit(outcome: .released, kind: .resources, failure: lack, startedAt: now, finishedAt: now)
        let effects = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
        let pauses = effects.compactMap { effect in
            if case .hint(_, _, _, let delay, let pause) = effect { return "\(delay?.seconds ?? 0) \(pause)" } else { return nil }
        }
        #expect(pauses == ["30 30.0"])
        #expect(run.jobs[0].state == .ready)
        #expect(run.jobs[0].cause == .notHere)
        #expect(run.jobs[0].attempt == 1)
        #expect(run.jobs[0].failures == 0)
        // The reason stays when the message is on its way, and any worker may take it.
        _ = run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: run.jobs[0].dispatch), at: now)
        #expect(run.jobs[0].state == .dispatched)
        #expect(run.jobs[0].cause == .notHere)
        #expect(run.jobs[0].reason.text.contains("this worker has none"))
        let claim = RunInput.claim(job: 0, attempt: 1, worker: "other", id: "c9")
        let isGranted = run.apply(claim, at: now).contains { if case .grant = $0 { true } else { false } }
        #expect(isGranted)
    }

    @Test func aPlanThatWaitsForItselfStartsNothing() {
        let definition = JobDefinition(name: "a", service: "s", stage: .services, entry: "m.f")
        for parent in [-1, 0, 1, 7] {
            let plan = RunPlan(jobs: [.init(definition: definition, dependencies: [Dependency(parent: parent, origin: .declared)])])
            var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan)
            _ = run.apply(.start, at: now)
            #expect(run.state == .failed)
            #expect(run.reason?.code == "plan-without-order")
        }
    }

    @Test func aDefinitionOfBeforeOnLeaseLossIsReadable() throws {
        let text =
            #"{"name":"a","service":"s","stage":"pre","kind":"python","entry":"m.f","params":null,"channel":"default","#
            + #""priority":2,"timeout":60,"retry":{"max":0,"delay":30,"backoff":"constant"},"isFinalizer":false,"isStoring":false}"#
        let definition = try JSONDecoder().decode(JobDefinition.self, from: Data(text.utf8))
        #expect(definition.onLeaseLoss == .keep)
        #expect(definition.command == [])
        #expect(definition.resources == .none)
        #expect(definition.environment == nil)
        #expect(definition.preload)
        var kill = definition
        kill.onLeaseLoss = .kill
        kill.kind = .command
        kill.command = ["a", "b"]
        kill.resources = JobResources(memory: 5, gpus: 1)
        kill.environment = "torch"
        kill.preload = false
        #expect(try JSONDecoder().decode(JobDefinition.self, from: JSONEncoder().encode(kill)) == kill)
    }
}
