import Foundation
import Testing

@testable import Jobs

/// What other queues got wrong for years, each as the few steps that show it.
@Suite struct PeerHazardTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// Two parents and a join.
    func join(retries: Int = 0) -> Run {
        var plan = SimulatedPlan(entries: [
            .init(), .init(), .init(edges: [.init(parent: 0, isLenient: false), .init(parent: 1, isLenient: false)]),
        ])
        for index in plan.entries.indices { plan.entries[index].retries = retries }
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan.plan)
        _ = run.apply(.start, at: now)
        return run
    }

    func claim(_ run: inout Run, _ job: Int, by worker: String = "w") -> Int {
        let attempt = run.jobs[job].attempt
        _ = run.apply(.claim(job: job, attempt: attempt, worker: worker, id: UUID().uuidString), at: now)
        return run.jobs[job].token
    }

    func succeed(_ run: inout Run, _ job: Int, token: Int, attempt: Int? = nil) -> [RunEffect] {
        let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
        return run.apply(.result(job: job, attempt: attempt ?? run.jobs[job].attempt, token: token, exit: exit), at: now)
    }

    func hints(_ effects: [RunEffect], of job: Int) -> Int {
        effects.count { if case .hint(job, _, _, _, _) = $0 { true } else { false } }
    }

    /// RQ #739, #1615: dependents were enqueued outside the transaction in which their last parent finished, and some never were.
    @Test func parentsThatEndTogetherReleaseTheirChildOnce() {
        var run = join()
        let tokens = [claim(&run, 0), claim(&run, 1)]
        let first = succeed(&run, 0, token: tokens[0])
        let second = succeed(&run, 1, token: tokens[1])
        #expect(hints(first, of: 2) + hints(second, of: 2) == 1)
        #expect(run.jobs[2].state == .ready)
    }

    /// RQ #2006: a parent that was abandoned left its dependents deferred for ever.
    @Test func aParentWhoseWorkersAllDieDoesNotStrandItsChild() {
        var run = join()
        for _ in 1...Run.crashLimit {
            let token = claim(&run, 0)
            _ = run.apply(.leaseExpired(job: 0, token: token), at: now)
        }
        #expect(run.jobs[0].state == .dead)
        #expect(run.jobs[2].state == .skipped)
        #expect(run.jobs[2].cause == .dependencyDead)
    }

    /// Celery's chord counts parts: one part delivered twice, with another result, made the callback start early.
    @Test func oneParentReportedTwiceIsStillOneParent() {
        var run = join()
        let token = claim(&run, 0)
        _ = claim(&run, 1)
        _ = succeed(&run, 0, token: token)
        _ = succeed(&run, 0, token: token)
        _ = succeed(&run, 0, token: token + 1)
        #expect(run.jobs[2].state == .waiting)
    }

    /// Celery's chord: a worker that died between counting and calling left the callback uncalled. Ours is one transaction, so its effects
    /// are there or the result is not.
    @Test func theHintOfAChildBelongsToTheChangeThatReleasedIt() {
        var run = join()
        let tokens = [claim(&run, 0), claim(&run, 1)]
        _ = succeed(&run, 0, token: tokens[0])
        // The router died before the commit: the result comes again, to a run that knows nothing of it.
        var lost = run
        _ = succeed(&lost, 1, token: tokens[1])
        #expect(hints(succeed(&run, 1, token: tokens[1]), of: 2) == 1)
        // It died after the commit: the result comes again, and changes nothing.
        let before = run
        #expect(hints(succeed(&run, 1, token: tokens[1]), of: 2) == 0)
        #expect(run == before)
    }

    /// BullMQ #800, #1333, #3122: a failed child left its parent waiting.
    @Test func aFailureReachesEverythingBehindIt() {
        var run = join()
        let token = claim(&run, 0)
        let exit = JobExit(outcome: .failed, kind: .exception, startedAt: now, finishedAt: now)
        _ = run.apply(.result(job: 0, attempt: 1, token: token, exit: exit), at: now)
        #expect(run.jobs[2].state == .skipped)
        _ = succeed(&run, 1, token: claim(&run, 1))
        #expect(run.state == .failed)
    }

    /// River #1302: the rescuer overwrote a job that had just completed.
    @Test func aLeaseThatRunsOutTooLateChangesNothing() {
        var run = join()
        let token = claim(&run, 0)
        _ = succeed(&run, 0, token: token)
        let before = run
        _ = run.apply(.leaseExpired(job: 0, token: token), at: now)
        #expect(run == before)
    }

    /// bull #308: two workers finished the same job.
    @Test func ofTwoWorkersOneCounts() {
        var run = join()
        let slow = claim(&run, 0, by: "slow")
        _ = run.apply(.leaseExpired(job: 0, token: slow), at: now)
        let quick = claim(&run, 0, by: "quick")
        _ = succeed(&run, 0, token: slow, attempt: 1)
        #expect(run.jobs[0].state == .running)
        _ = succeed(&run, 0, token: quick)
        #expect(run.jobs[0].state == .succeeded)
        let before = run
        _ = succeed(&run, 0, token: slow, attempt: 1)
        #expect(run == before)
    }
}
