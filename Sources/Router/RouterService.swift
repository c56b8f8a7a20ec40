import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import Registry
import ServiceLifecycle

/// The only writer of the ledger: takes events, claims, results and commands, commits what they change in batches, and only then
/// acknowledges, answers and publishes.
struct RouterService: Service {
    let broker: AMQPClient
    let ledger: any LedgerEngine
    let planner: EventPlanner
    let configuration: RouterConfiguration
    let readiness: ReadinessFile
    let logger: Logger

    let inputs = BatchQueue<RouterInput>()
    let outbox = BatchQueue<OutboxRow>()
    let hints: HintWatch
    let echoes = EchoClock()
    /// Planning can take long, and a cancel must not wait behind it.
    let reprocessing = AsyncStream<Reprocess>.makeStream()
    /// Rung when an event waits to be planned out of line.
    let planning = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
    /// Rung when messages that nobody could read are to be sent to their queues again.
    let requeueing = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    struct Reprocess: Sendable {
        var command: CommandMessage
        var delivery: AMQPDelivery
    }

    init(
        broker: AMQPClient, ledger: any LedgerEngine, planner: EventPlanner, configuration: RouterConfiguration, readiness: ReadinessFile,
        logger: Logger
    ) {
        self.broker = broker
        self.ledger = ledger
        self.planner = planner
        self.configuration = configuration
        self.readiness = readiness
        self.logger = logger
        hints = HintWatch(configuration.rhythm.hints)
    }

    /// How many inputs one COMMIT carries.
    private static let batchLimit = 64
    /// Who has not heard anything for longer may have missed renewals.
    static let deafAfter = Duration.seconds(RouterTransaction.leaseSeconds) / 3

    /// The clock's echoes come more often, so the loop never sleeps longer.
    private static let vitalsInterval = Duration.seconds(5)

    func run() async throws {
        let leases = try await recover()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await OutboxRelay(broker: broker, rows: outbox, inputs: inputs, logger: logger).run() }
            group.addTask { await work(leases) }
            group.addTask {
                defer {
                    outbox.finish()
                    inputs.finish()
                }
                await cancelWhenGracefulShutdown { await listen(leases) }
            }
            try await group.waitForAll()
        }
    }

    /// What the last router left: rows that were committed and perhaps not sent, and jobs that run somewhere.
    private func recover() async throws -> LeaseBook {
        let (rows, running, channels) = try await ledger.write { ledger in
            (try ledger.pendingOutbox(), try ledger.runningAttempts(), try ledger.channels())
        }
        outbox.append(contentsOf: rows)
        let leases = LeaseBook(duration: .seconds(RouterTransaction.leaseSeconds), longestGap: Self.deafAfter)
        for attempt in running { leases.extend(attempt.job, token: attempt.token) }
        // It may have ended in the middle of a resumption. Every job has a channel, so this finds those of a resumed service too.
        for channel in channels { inputs.append(.resumed(.channel(channel), after: nil)) }
        logger.info("recovered", metadata: ["outbox.rows": "\(rows.count)", "jobs.running": "\(running.count)"])
        return leases
    }

    /// The loop: take what has piled up, commit it, carry out what follows.
    private func work(_ leases: LeaseBook) async {
        var cache = RunCache()
        var vitals = VitalsMessage()
        var saidVitals = ContinuousClock.now
        while let taken = await inputs.next(upTo: Self.batchLimit) {
            let batch = RouterInput.confirmationsLast(
                taken.filter { input in
                    if case .leaseExpired(let lease) = input { leases.hasExpired(lease) } else { true }
                })
            guard !batch.isEmpty else { continue }
            let began = ContinuousClock.now
            let results = await commit(batch, cache)
            // The clock's own echoes write nothing.
            if batch.contains(where: { !$0.isEcho }) { vitals.add(batch.count, began.duration(to: .now) / .seconds(1)) }
            for committed in results {
                cache.keep(committed.runs)
                committed.after.forEach { carryOut($0, leases) }
            }
            if saidVitals.duration(to: .now) > Self.vitalsInterval {
                saidVitals = .now
                broker.publishTransient(.vitals(vitals))
            }
        }
    }

    private func carryOut(_ action: AfterCommit, _ leases: LeaseBook) {
        switch action {
        case .acknowledge(let delivery): delivery.ack()
        case .answerClaim(let claim, let reply): answer(claim, ClaimReply.type, reply)
        case .answerRenewal(let renewal, let reply): answer(renewal, RenewReply.type, reply)
        case .send(let row): outbox.append(row)
        case .publish(let fact): broker.publishTransient(.fact(fact))
        case .stop(let message): broker.publishTransient(.control(message))
        case .extendLease(let job, let token): leases.extend(job, token: token)
        case .releaseLease(let lease): leases.release(lease)
        case .heard(let sent): inputs.append(contentsOf: leases.heard(until: sent).map { .leaseExpired($0) })
        case .planLater: planning.continuation.yield()
        case .resume(let target, let last): inputs.append(.resumed(target, after: last))
        case .requeue: requeueing.continuation.yield()
        }
    }

    func answer(_ request: AMQPDelivery, _ type: String, _ reply: some Encodable) {
        guard request.properties.replyTo != nil else { return }
        broker.reply(to: request, with: .pipeline(type: type, persistent: false), body: PipelineJSON.encode(reply))
        if type == ClaimReply.type { FaultPoint.reach(.routerClaimAnswered) }
    }
}

extension AMQPPublishing {
    /// Facts may get lost on the way: whoever watches reads the ledger, and the sequence number tells what is missing.
    static func fact(_ fact: FactMessage) -> AMQPPublishing {
        .pipeline(
            exchange: PipelineExchange.events, routingKey: fact.kind, type: FactMessage.type, body: fact,
            correlationID: fact.run?.rawValue, persistent: false, mandatory: false)
    }

    fileprivate static func vitals(_ vitals: VitalsMessage) -> AMQPPublishing {
        .pipeline(
            exchange: PipelineExchange.events, routingKey: VitalsMessage.routingKey, type: VitalsMessage.type, body: vitals,
            persistent: false, mandatory: false)
    }

    /// A worker that misses it learns the same from the answer to its next renewal.
    fileprivate static func control(_ message: ControlMessage) -> AMQPPublishing {
        .pipeline(
            exchange: PipelineExchange.control, routingKey: "", type: ControlMessage.type, body: message,
            correlationID: message.job?.run.rawValue, persistent: false, mandatory: false)
    }
}
