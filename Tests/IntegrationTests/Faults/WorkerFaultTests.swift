import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Testing

/// Workers that are killed and stopped in the middle of a job.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct WorkerFaultTests {
    /// W12, W15: a worker is cut off for longer than its lease, another one takes over, and the first one comes back with its result.
    @Test func aStoppedWorkersJobIsTakenOverAndItsLateResultIsRefused() async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router)
            let stopped = try await pipeline.start(.worker, "worker-1")
            try pipeline.hold("first")
            let snapshot = try await pipeline.publish(.short)
            let run = try await pipeline.run(of: snapshot)
            let lost = try await pipeline.started("first", run)
            // The job's own process goes on, and ends below; only the worker does not hear of it.
            stopped.process.signal(SIGSTOP)
            try await pipeline.start(.worker, "worker-2")
            let second = try await pipeline.started("first", run, after: lost.token)
            #expect(second.attempt == lost.attempt + 1)
            try pipeline.release("first")
            let ended = try await pipeline.ended(snapshot)
            let resumed = Date()
            stopped.process.signal(SIGCONT)
            // Its renewal or its result is refused, and it works again.
            _ = try await until("the worker that was stopped is seen again") {
                let workers = try await pipeline.ledger.workers()
                return workers.contains { $0.id.hasPrefix("worker-1.") && $0.seenAt > resumed && $0.busy == 0 } ? true : nil
            }
            let afterwards = try await pipeline.ledger.run(ended.run.id)
            let again = try #require(afterwards)
            try await pipeline.check(again, HistoryCheck(golden: .short, mayLoseAttempts: true))
            let first = again.job("first")?.id
            let attempts = again.attempts.filter { $0.jobID == first }
            #expect(attempts.map(\.outcome) == ["lost", "succeeded"])
            #expect(attempts.first?.lostReason?.code == "worker-lost")
        }
    }

    /// W24: three workers die with a job; it is put aside with the reason, and a person brings it back.
    @Test func aJobThatThreeWorkersDiedWithIsDeadUntilAPersonRetriesIt() async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router)
            try pipeline.hold("first")
            let snapshot = try await pipeline.publish(.short)
            let run = try await pipeline.run(of: snapshot)
            var token = 0
            for number in 1...3 {
                let worker = try await pipeline.start(.worker, "worker-\(number)")
                token = try await pipeline.started("first", run, after: token).token
                await worker.kill()
            }
            let dead = try await pipeline.ended(snapshot)
            let job = try #require(dead.job("first"))
            #expect(job.state == .dead)
            #expect(job.reason.code == "crash-limit")
            #expect(job.crashes == 3)
            #expect(dead.job("second")?.state == .skipped)
            let listed = try await pipeline.ledger.brokenJobs(LedgerJobFilter(states: [.dead]), limit: 10).items.map(\.job.id)
            #expect(listed == [job.id])

            try pipeline.release("first")
            try await pipeline.start(.worker, "worker-4")
            try await pipeline.command(.retryJob, job.id)
            let ended = try await until("the run has succeeded") {
                let run = try await pipeline.ledger.run(dead.run.id)
                return run?.run.state == .succeeded ? run : nil
            }
            #expect(ended.jobs.allSatisfy { $0.state == .succeeded })
            let starts = try pipeline.history.entries.filter { $0.kind == .start && $0.job == "first" }
            #expect(starts.count == 4)
        }
    }
}
