import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry
import Synchronization
import Testing

@testable import Bootstrap
@testable import Router

/// What becomes of a batch that the ledger does not take as a whole.
@Suite(.timeLimit(.minutes(1))) struct RouterCommitTests {
    /// A ledger that refuses its next writes.
    final class TroubledLedger: LedgerEngine {
        let ledger: Ledger
        private let troubles = Mutex<[any Error & Sendable]>([])

        init(_ ledger: Ledger) { self.ledger = ledger }

        func refuse(_ errors: [any Error & Sendable]) { troubles.withLock { $0 = errors } }

        func write<Value: Sendable>(_ body: @Sendable @escaping (any LedgerTransaction) throws -> Value) async throws -> Value {
            if let trouble = troubles.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { throw trouble }
            return try await ledger.write(body)
        }
    }

    struct Trouble: Error {}

    func service(_ ledger: any LedgerEngine, _ folder: URL) throws -> RouterService {
        var logger = Logger(label: "router-test")
        logger.logLevel = .critical
        // Nobody listens on port 1.
        let broker = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: "amqp://127.0.0.1:1/")], connectionName: "router-test"),
            topology: PipelineTopology.router(channels: []), logger: logger)
        let python = PythonHostConfiguration(python: "/nowhere/python3", hostPath: folder, root: folder, environment: [:])
        let planner = EventPlanner(
            catalog: ServiceCatalogSource(registry: folder, settings: folder.appending(path: "settings.json")),
            callbacks: CallbackHost(configuration: python, logger: logger), logger: logger)
        let context = ServiceContext(name: "router", settings: .environment(), logger: logger)
        return RouterService(
            broker: broker, ledger: ledger, planner: planner, configuration: RouterConfiguration(), readiness: context.readiness,
            logger: logger)
    }

    func running(_ bench: RouterBench) async throws -> JobOrder {
        let event = RouterInput.event(RouterBench.event(), RouterBench.planned(), RouterBench.delivery())
        return try #require(try await bench.commit(event, RouterBench.claim(0)).granted)
    }

    func renewal(_ orders: [(job: JobID, token: Int)]) -> RouterInput {
        let info = WorkerInfo(id: "w1", host: "h", pid: 1, version: "1", slots: 1, channels: ["default"], startedAt: RouterBench.now)
        let leases = orders.map { RenewMessage.Lease(job: $0.job, attempt: 1, token: $0.token) }
        return .renewal(RenewMessage(worker: info, leases: leases), RouterBench.delivery())
    }

    func reply(_ committed: [RouterService.Committed]) -> RenewReply? {
        for case .answerRenewal(_, let reply) in committed.flatMap(\.after) { return reply }
        return nil
    }

    @Test func aHintThatIsClaimedInTheBatchOfItsConfirmationNeverCountsAsWaiting() async throws {
        let bench = try RouterBench()
        let started = try await bench.commit(.event(RouterBench.event(), RouterBench.planned(), RouterBench.delivery()))
        #expect(started.rows.count == 1)
        let batch = RouterInput.confirmationsLast([
            .confirmed(started.rows), RouterBench.claim(0), .forgetWorkers(seenBefore: RouterBench.now),
        ])
        guard case .claim = batch[0], case .forgetWorkers = batch[1], case .confirmed = batch[2], batch.count == 3 else {
            Issue.record("the order of the batch is wrong")
            return
        }
        let after = try await bench.commit(batch[0], batch[1], batch[2])
        #expect(after.granted != nil)
        #expect(after.facts.map(\.kind) == ["job.running"])
        let job = try await bench.job(0)
        #expect(job?.state == .running)
        let left = try await bench.ledger.write { try $0.pendingOutbox().count }
        #expect(left == 0)
    }

    @Test func aLeaseThatWasRenewedInTheSameBatchDoesNotEndEvenInputByInput() async throws {
        let bench = try RouterBench()
        let order = try await running(bench)
        let ledger = TroubledLedger(bench.ledger)
        let service = try service(ledger, bench.folder)
        ledger.refuse([Trouble()])
        let batch = [renewal([(order.job, order.token)]), .leaseExpired(.init(job: order.job, token: order.token))]
        let committed = await service.commit(batch, RunCache())
        #expect(reply(committed) == RenewReply())
        let job = try await bench.job(0)
        #expect(job?.state == .running)
        #expect(job?.token == order.token)
        // Without a renewal it ends.
        ledger.refuse([Trouble()])
        _ = await service.commit([.leaseExpired(.init(job: order.job, token: order.token))], RunCache())
        let ended = try await bench.job(0)
        #expect(ended?.state == .ready)
    }

    @Test func aLeaseIsLostOnlyWhenItsOwnRowCannotBeTaken() async throws {
        let bench = try RouterBench()
        let order = try await running(bench)
        let ledger = TroubledLedger(bench.ledger)
        let service = try service(ledger, bench.folder)
        let other = (job: JobID(run: RunID(milliseconds: 8, random: (2, 2)), index: 0), token: 1)
        // The batch, then the message, then its first lease.
        ledger.refuse([Trouble(), Trouble(), Trouble()])
        let committed = await service.commit([renewal([other, (order.job, order.token)])], RunCache())
        #expect(reply(committed)?.lost == [.init(job: other.job, token: other.token)])
        let extended = committed.flatMap(\.after).contains { $0.extends(.init(job: order.job, token: order.token)) }
        #expect(extended)
    }
}
