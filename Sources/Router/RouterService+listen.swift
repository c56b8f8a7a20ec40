import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

extension RouterService {
    /// Listens to every queue of the router, and looks after what no message tells. Ends when its task is cancelled.
    func listen(_ leases: LeaseBook) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await consume(PipelineQueue.ingest, prefetch: 32, planned) }
            group.addTask { await consume(PipelineQueue.claims, prefetch: 256, request) }
            group.addTask {
                await consume(PipelineQueue.results, prefetch: 256) {
                    .result(try $0.decode(ResultMessage.self, type: ResultMessage.type), $0)
                }
            }
            group.addTask { await consumeCommands() }
            group.addTask { await reprocess() }
            group.addTask { await consume(PipelineQueue.deadRecord, prefetch: 64) { .dead($0) } }
            group.addTask { await planOutOfLine() }
            group.addTask { await ringForPlanning() }
            group.addTask { await requeueParked() }
            group.addTask { await watchServices() }
            group.addTask { await watchBroker(leases) }
            group.addTask { await sendEchoes() }
            group.addTask { await sweep() }
            group.addTask { await forgetTheOld() }
        }
    }

    /// - Parameter input: what a delivery means, nil when that is found out elsewhere; throws ``UndecodableMessage`` for one that
    ///   nobody can read.
    private func consume(_ queue: String, prefetch: Int, _ input: (AMQPDelivery) async throws -> RouterInput?) async {
        do {
            try await broker.consume(queue, prefetch: prefetch) { deliveries in
                for try await delivery in deliveries {
                    do {
                        if let input = try await input(delivery) { inputs.append(input) }
                    } catch let error as UndecodableMessage {
                        await putAside(delivery, queue: queue, reason: error.reason)
                    }
                }
            }
        } catch  where Task.isCancelled {
            return
        } catch {
            logger.critical("a queue is no longer read", metadata: ["queue": "\(queue)", "error": "\(error)"])
        }
    }

    /// Puts a message where people see it, with the reason, and only then takes it off its queue.
    func putAside(_ delivery: AMQPDelivery, queue: String, reason: String) async {
        logger.error("a message goes to the dead letters", metadata: ["queue": "\(queue)", "reason": "\(reason)"])
        do {
            try await broker.publish(.deadLetter(delivery, queue: queue, reason: reason))
            delivery.ack()
        } catch {
            // Its queue keeps it: it comes again with the next connection.
            logger.error("a dead letter was not confirmed", metadata: ["queue": "\(queue)", "error": "\(error)"])
            delivery.nack(requeue: true)
        }
    }

    private func request(_ delivery: AMQPDelivery) throws -> RouterInput? {
        switch delivery.properties.type {
        case RenewMessage.type: return .renewal(try delivery.decode(RenewMessage.self, type: RenewMessage.type), delivery)
        case EchoMessage.type:
            if let sent = echoes.sent(try delivery.decode(EchoMessage.self, type: EchoMessage.type)) { return .echo(sent: sent, delivery) }
        default:
            let claim = try delivery.decode(ClaimMessage.self, type: ClaimMessage.type)
            guard let marker = claim.marker else { return .claim(claim, delivery) }
            hints.with { $0.returned(marker, at: Date()) }
            answer(delivery, ClaimReply.type, ClaimReply.no(Reason("marker", "A hint of no job: the router looks for lost ones.")))
        }
        delivery.ack()
        return nil
    }

    private func consumeCommands() async {
        await consume(PipelineQueue.commands, prefetch: 32) { delivery in
            let command = try delivery.decodeCommand()
            guard command.action == .reprocessRun else { return .command(command, delivery) }
            reprocessing.continuation.yield(Reprocess(command: command, delivery: delivery))
            return nil
        }
    }

    /// Tells the ledger, and so the people who watch, how this router stands with the broker.
    private func watchBroker(_ leases: LeaseBook) async {
        for await state in broker.states {
            switch state {
            case .open:
                // Nobody could renew while we were away.
                leases.wasDeaf()
                readiness.markReady()
                inputs.append(.broker(BrokerState(.open, since: Date())))
            case .blocked(let reason): inputs.append(.broker(BrokerState(.blocked, reason: reason, since: Date())))
            case .reconnecting(let error):
                inputs.append(.broker(BrokerState(.disconnected, reason: error.message, since: Date())))
            case .connecting, .draining, .closed: continue
            }
        }
    }

    private func sendEchoes() async {
        while !Task.isCancelled {
            broker.publishTransient(echoes.message())
            do { try await Task.sleep(for: configuration.rhythm.echo) } catch { return }
        }
    }
}
