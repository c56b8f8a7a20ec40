import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Testing

/// A broker that is killed, blocked, robbed of messages and queues, and wiped.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct BrokerFaultTests {
    private static let jobs = PipelineQueue.jobs(channel: "default")

    /// Starts a router and two workers, waits until `total` runs, and checks that the run ends as it should after what `body` does.
    private func survives(ownBroker: Bool = true, _ body: (PipelineProcesses) async throws -> Void) async throws {
        try await PipelineProcesses.with(ownBroker: ownBroker) { pipeline in
            let services = [
                try await pipeline.start(.router), try await pipeline.start(.worker, "worker-1"),
                try await pipeline.start(.worker, "worker-2"),
            ]
            try pipeline.hold("total")
            let snapshot = try await pipeline.publish(.full)
            _ = try await pipeline.started("total", try await pipeline.run(of: snapshot))
            try await body(pipeline)
            let ended = try await pipeline.ended(snapshot)
            try await pipeline.check(ended, HistoryCheck(golden: .full))
            for service in services { #expect(service.process.isRunning, "\(service.process.command.name)") }
        }
    }

    @Test func aBrokerThatIsKilledAndRestartedCostsNothing() async throws {
        try await survives { pipeline in
            await pipeline.broker.kill()
            // Its result has to wait for a broker.
            try pipeline.release("total")
            try await pipeline.broker.restart()
        }
    }

    @Test func anAlarmOfTheBrokerPassesWithoutLoss() async throws {
        try await survives { pipeline in
            try await pipeline.broker.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
            try pipeline.release("total")
            // Longer than a lease: while renewals cannot be sent, nobody is to blame.
            let began = ContinuousClock.now
            _ = try await until("two leases have passed") { began.duration(to: .now) > .seconds(8) ? true : nil }
            try await pipeline.broker.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
        }
    }

    /// W8: hints that the broker had confirmed are gone.
    @Test func hintsThatWerePurgedAreSentAgain() async throws {
        try await losesHints { try await $0.broker.rabbitmqctl("purge_queue", "--vhost", $0.virtualHost, Self.jobs) }
    }

    /// W8: and so is their queue.
    @Test func aDeletedJobQueueComesBackWithItsHints() async throws {
        try await losesHints { try await $0.broker.manage("DELETE", "/queues/\($0.virtualHost)/\(Self.jobs)") }
    }

    /// Has hints lie in the queue, because no worker is there, and lets `body` lose them.
    private func losesHints(_ body: (PipelineProcesses) async throws -> Void) async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router)
            var snapshots: [String] = []
            for _ in 1...3 { snapshots.append(try await pipeline.publish(.short)) }
            for snapshot in snapshots {
                let id = try await pipeline.run(of: snapshot).run.id
                _ = try await until("the export of \(id) waits in the queue") {
                    try await pipeline.ledger.run(id)?.jobs.first?.state == .dispatched ? true : nil
                }
            }
            try await body(pipeline)
            try await pipeline.start(.worker)
            for snapshot in snapshots {
                let ended = try await pipeline.ended(snapshot)
                try await pipeline.check(ended, HistoryCheck(golden: .short))
            }
        }
    }

    @Test func aDeletedClaimsQueueComesBack() async throws {
        try await survives(ownBroker: false) { pipeline in
            try await pipeline.broker.manage("DELETE", "/queues/\(pipeline.virtualHost)/\(PipelineQueue.claims)")
            try pipeline.release("total")
        }
    }

    /// W20: a broker without memory, and a ledger that knows what it had.
    @Test func aBrokerThatHasLostItsDiskIsFilledAgain() async throws {
        try await survives { pipeline in
            await pipeline.broker.kill()
            try FileManager.default.removeItem(at: pipeline.broker.node.folder.appending(path: "mnesia"))
            try pipeline.release("total")
            try await pipeline.broker.restart()
        }
    }
}
