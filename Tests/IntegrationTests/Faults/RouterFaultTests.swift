import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Testing

/// Routers that are killed, stopped, doubled, starved of disk and given old ledgers.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct RouterFaultTests {
    @Test func aFixedRunEndsAsItShouldWhenNothingHappens() async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router)
            try await pipeline.start(.worker, "worker-1")
            try await pipeline.start(.worker, "worker-2")
            let run = try await pipeline.ended(try await pipeline.publish(.full))
            #expect(run.jobs.count == 30)
            try await pipeline.check(run, HistoryCheck(golden: .full))
        }
    }

    /// W18: two routers on one ledger.
    @Test func aStandbyTakesOverFromAKilledRouter() async throws {
        try await PipelineProcesses.with { pipeline in
            let first = try await pipeline.start(.router, "router-1")
            let second = try pipeline.launch(.router, "router-2")
            try await second.waitUntilLogged("stands by")
            try await pipeline.start(.worker, "worker-1")
            try await pipeline.start(.worker, "worker-2")
            try pipeline.hold("total")
            let snapshot = try await pipeline.publish(.full)
            let run = try await pipeline.run(of: snapshot)
            _ = try await pipeline.started("total", run)
            #expect(!second.log.contains("recovered"))
            await first.kill()
            try pipeline.release("total")
            let ended = try await pipeline.ended(snapshot)
            #expect(second.log.contains("recovered"))
            try await pipeline.check(ended, HistoryCheck(golden: .full))
        }
    }

    /// A router that heard nothing for longer than a lease must not blame the workers.
    @Test func noLeaseExpiresWhileTheRouterStandsStill() async throws {
        try await PipelineProcesses.with { pipeline in
            let router = try await pipeline.start(.router)
            try await pipeline.start(.worker)
            try pipeline.hold("first")
            let snapshot = try await pipeline.publish(.short)
            _ = try await pipeline.started("first", try await pipeline.run(of: snapshot))
            let began = ContinuousClock.now
            router.process.signal(SIGSTOP)
            _ = try await until("the lease would be over three times") { began.duration(to: .now) > .seconds(9) ? true : nil }
            router.process.signal(SIGCONT)
            // Two more leases, in which a sweep that blames the worker would do so.
            _ = try await until("two more leases have passed") { began.duration(to: .now) > .seconds(15) ? true : nil }
            try pipeline.release("first")
            try await pipeline.check(try await pipeline.ended(snapshot), HistoryCheck(golden: .short))
        }
    }

    /// W21: while the ledger cannot be written, nothing is acknowledged, and it goes on when there is room again.
    @Test(.enabled(if: SmallDisk.isPossible, "needs to mount a file system of its own"))
    func aFullDiskStopsTheRouterUntilThereIsRoom() async throws {
        try await PipelineProcesses.with { pipeline in
            let router = try pipeline.launch(.router, disk: SmallDisk(megabytes: 8))
            try await router.waitUntilReady()
            try await pipeline.start(.worker)
            try pipeline.hold("first")
            let snapshot = try await pipeline.publish(.short)
            _ = try await pipeline.started("first", try await pipeline.run(of: snapshot))

            let filler = router.own(pipeline.folder.appending(path: "state/filler"))
            let file = try fill(filler)
            // Some fit into what the ledger's files have already.
            let alarm = "the ledger cannot be written"
            var events = 0
            while events < 500, !router.log.contains(alarm) {
                try await pipeline.publish(.none)
                events += 1
            }
            try pipeline.release("first")
            try await router.waitUntilLogged(alarm)
            // What is not committed is not acknowledged, and nothing of it is lost or put aside.
            #expect(router.process.isRunning)
            let before = try await pipeline.ledger.runs(limit: 1000).items.count
            #expect(before < events + 1)

            try file.close()
            try FileManager.default.removeItem(at: filler)
            let ended = try await pipeline.ended(snapshot)
            try await pipeline.check(ended, HistoryCheck(golden: .short))
            _ = try await until("each event has its run") {
                let runs = try await pipeline.ledger.runs(LedgerRunFilter(states: [.declined]), limit: 1000).items.count
                return runs == events ? true : nil
            }
            let dead = try await pipeline.ledger.deadMessages(limit: 10).items
            #expect(dead.isEmpty, "nothing was wrong with these messages")
        }
    }

    /// Writes until there is no room for another byte.
    private func fill(_ path: URL) throws -> FileHandle {
        try Data().write(to: path)
        let file = try FileHandle(forWritingTo: path)
        for size in [1 << 16, 1 << 12, 1] {
            while (try? file.write(contentsOf: Data(count: size))) != nil {}
        }
        return file
    }

    /// W19: the ledger comes from a backup that knows less than the broker and the workers do.
    @Test func anOlderLedgerAnswersWhatItDoesNotKnow() async throws {
        try await PipelineProcesses.with { pipeline in
            let old = try await pipeline.start(.router)
            let before = try await pipeline.ended(try await pipeline.publish(.none))
            await old.process.terminate()
            let state = pipeline.folder.appending(path: "state")
            let backup = pipeline.folder.appending(path: "backup")
            try FileManager.default.copyItem(at: state, to: backup)

            let newer = try await pipeline.start(.router)
            let worker = try await pipeline.start(.worker)
            try pipeline.hold("first")
            let forgotten = try await pipeline.publish(.short)
            let run = try await pipeline.run(of: forgotten)
            _ = try await pipeline.started("first", run)
            // A hint that waits in the queue for a claim.
            worker.process.signal(SIGSTOP)
            let waiting = try await pipeline.run(of: try await pipeline.publish(.short))
            _ = try await until("the second run's export waits in the queue") {
                try await pipeline.ledger.run(waiting.run.id)?.jobs.first?.state == .dispatched ? true : nil
            }
            await newer.kill()
            try FileManager.default.removeItem(at: state)
            try FileManager.default.moveItem(at: backup, to: state)
            let router = try await pipeline.start(.router)
            // It ends before the worker can hear that its lease is lost, after which it would say nothing.
            try pipeline.release("first")
            _ = try await until("first has ended") {
                try pipeline.history.entries.first { $0.kind == .end && $0.run == run.run.id && $0.job == "first" }
            }
            worker.process.signal(SIGCONT)

            // A claim and a result that no run of the ledger explains; the worker goes on.
            let after = try await pipeline.ended(try await pipeline.publish(.short))
            try await pipeline.check(after, HistoryCheck(golden: .short))
            #expect(router.process.isRunning)
            #expect(worker.process.isRunning)
            let known = try await pipeline.ledger.runs(limit: 10).items.map(\.id)
            #expect(Set(known) == [before.run.id, after.run.id])
            // Nothing comes back for ever.
            let queues = [PipelineQueue.jobs(channel: "default"), PipelineQueue.claims, PipelineQueue.results]
            for queue in queues {
                _ = try await until("\(queue) is empty") { try await pipeline.client.inspect(queue).messages == 0 ? true : nil }
            }
            try await checkAudit(pipeline, forgotten: run.run.id)
        }
    }

    /// A result that came to nothing must not vanish without a trace.
    private func checkAudit(_ pipeline: PipelineProcesses, forgotten run: String) async throws {
        let facts = try await pipeline.ledger.facts(after: 0, limit: 10_000)
        #expect(facts.contains { $0.kind == "result.refused" && $0.runID == run }, "\(facts.map(\.kind))")
    }
}
