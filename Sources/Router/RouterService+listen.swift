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
            group.addTask { await watchServices() }
            group.addTask { await sweep(leases) }
            group.addTask {
                for await state in broker.states where state == .open {
                    // Nobody could renew while we were away.
                    leases.extendAll()
                    readiness.markReady()
                }
            }
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

    private func request(_ delivery: AMQPDelivery) throws -> RouterInput {
        if delivery.properties.type == RenewMessage.type {
            .renewal(try delivery.decode(RenewMessage.self, type: RenewMessage.type), delivery)
        } else {
            .claim(try delivery.decode(ClaimMessage.self, type: ClaimMessage.type), delivery)
        }
    }

    private func planned(_ delivery: AMQPDelivery) async throws -> RouterInput {
        let event = try delivery.decode(EventMessage.self, type: EventMessage.type)
        guard event.filtered == nil, await !isKnown(event) else { return .event(event, nil, delivery) }
        return .event(event, try await plan(event), delivery)
    }

    /// A repeat costs no callbacks. The commit asks again, and decides.
    private func isKnown(_ event: EventMessage) async -> Bool {
        (try? await ledger.write { try $0.hasRun(dedupeKey: event.snapshot) }) ?? false
    }

    private func consumeCommands() async {
        await consume(PipelineQueue.commands, prefetch: 32) { delivery in
            let command = try delivery.decode(CommandMessage.self, type: CommandMessage.type)
            guard command.action == .reprocessRun else { return .command(command, delivery) }
            reprocessing.continuation.yield(Reprocess(command: command, delivery: delivery))
            return nil
        }
    }

    private func reprocess() async {
        for await request in reprocessing.stream {
            let (command, delivery) = (request.command, request.delivery)
            guard let run = RunID(rawValue: command.target), let event = await event(of: run) else {
                inputs.append(.reprocessed(command, nil, delivery))
                continue
            }
            guard let planned = try? await plan(event) else { return }
            inputs.append(.reprocessed(command, planned, delivery))
        }
    }

    private func event(of run: RunID) async -> EventMessage? {
        do {
            return try await ledger.write { try $0.event(of: run)?.event }
        } catch {
            logger.error("a run's event cannot be read", metadata: ["run.id": "\(run)", "error": "\(error)"])
            return nil
        }
    }

    /// Plans until it works: without an answer from the callbacks an event must neither run nor be lost.
    private func plan(_ event: EventMessage) async throws -> PlannedRun {
        var pause = Duration.seconds(1)
        while true {
            do {
                let planned = try await planner.plan(event)
                await declareChannels(planned.plan.jobs.map(\.definition.channel))
                return planned
            } catch  where Task.isCancelled {
                throw CancellationError()
            } catch {
                logger.error(
                    "an event cannot be planned, it waits",
                    metadata: ["resource.id": "\(event.resourceID)", "level": "\(event.level.rawValue)", "error": "\(error)"])
                try await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(30))
            }
        }
    }
}
