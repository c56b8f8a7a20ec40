import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

/// Planning asks other people's code, so it can fail in every way. An event that cannot be planned now is recorded and acknowledged:
/// from then on the ledger has it, the events behind it go on, and it is planned again out of line, with growing pauses. When all
/// attempts are used up it becomes a run that failed in planning, which a person can reprocess, and a dead letter.
///
/// Out of line an attempt is counted before it begins: an event that takes the router down with it comes to its end too.
extension RouterService {
    /// What an event's message means. An event that was delivered before may have ended the router that planned it, so it goes out of line.
    func planned(_ delivery: AMQPDelivery) async throws -> RouterInput {
        let event = try delivery.decode(EventMessage.self, type: EventMessage.type)
        guard event.filtered == nil, await !isKnown(event) else { return .event(event, nil, delivery) }
        guard !delivery.redelivered else { return .unplanned(event, .interrupted, delivery) }
        do {
            return .event(event, try await plan(event), delivery)
        } catch  where Task.isCancelled {
            throw CancellationError()
        } catch {
            log(event, error)
            return .unplanned(event, .notPlanned(error), delivery)
        }
    }

    /// A repeat costs no callbacks. The commit asks again, and decides.
    private func isKnown(_ event: EventMessage) async -> Bool {
        (try? await ledger.write { try $0.hasRun(dedupeKey: event.snapshot) }) ?? false
    }

    private func plan(_ event: EventMessage) async throws -> PlannedRun {
        let planned = try await planner.plan(event)
        try FaultPoint.check(.routerEventPlanned)
        await declareChannels(planned.plan.jobs.map(\.definition.channel))
        return planned
    }

    private func log(_ event: EventMessage, _ error: any Error) {
        logger.error(
            "an event cannot be planned, it is tried again",
            metadata: ["resource.id": "\(event.resourceID)", "level": "\(event.level.rawValue)", "error": "\(error)"])
    }
}

// MARK: - Out of line

extension RouterService {
    private static let portion = 50

    /// What waits for planning may be due without anybody saying so. Ends when its task is cancelled.
    func ringForPlanning() async {
        while !Task.isCancelled {
            planning.continuation.yield()
            do { try await Task.sleep(for: configuration.rhythm.planning) } catch { return }
        }
    }

    /// Ends when its task is cancelled.
    func planOutOfLine() async {
        for await _ in planning.stream {
            do {
                // After a broker's crash every event in its queue counts as delivered before: there can be many.
                while try await planPortion() == Self.portion {}
            } catch  where Task.isCancelled {
                return
            } catch {
                logger.error("events that wait for planning cannot be read", metadata: ["error": "\(error)"])
            }
        }
    }

    /// - Returns: how many were due.
    private func planPortion() async throws -> Int {
        let waiting = try await ledger.write { try $0.unplannedEvents(limit: Self.portion) }
        let due = waiting.filter { Date() >= $0.triedAt.addingTimeInterval(configuration.planningPause(after: $0.attempts)) }
        for unplanned in due { try await tryAgain(unplanned) }
        return due.count
    }

    private func tryAgain(_ unplanned: UnplannedEvent) async throws {
        let event = unplanned.event
        guard unplanned.attempts < configuration.planAttempts else { return try await giveUp(unplanned) }
        _ = try await ledger.write { try $0.recordPlanningFailure(of: event, reason: .interrupted, counts: true, at: Date()) }
        do {
            inputs.append(.event(event, try await plan(event), nil))
        } catch  where Task.isCancelled {
            throw CancellationError()
        } catch {
            log(event, error)
            let reason = Reason.notPlanned(error)
            _ = try await ledger.write { try $0.recordPlanningFailure(of: event, reason: reason, counts: false, at: Date()) }
        }
    }

    /// First the dead letter, then the record: after a crash in between there are two letters, and never none.
    private func giveUp(_ unplanned: UnplannedEvent) async throws {
        let event = unplanned.event
        let reason = Reason.givenUp(after: unplanned.attempts, unplanned.reason)
        logger.error("an event could not be planned and is given up", metadata: ["resource.id": "\(event.resourceID)"])
        // Whatever goes wrong from here on, it is not done again at once.
        _ = try await ledger.write { try $0.recordPlanningFailure(of: event, reason: unplanned.reason, counts: false, at: Date()) }
        try await broker.publish(
            .pipeline(
                exchange: PipelineExchange.deadLetter, routingKey: PipelineQueue.ingest, type: EventMessage.type, body: event,
                messageID: event.snapshot,
                headers: [
                    PipelineHeader.deadReason: .string(reason.text), PipelineHeader.deadQueue: .string(PipelineQueue.ingest),
                    PipelineHeader.deadNote: true,
                ]))
        inputs.append(.event(event, planner.failure(of: event, reason), nil))
    }
}

// MARK: - Again, because someone asked

extension RouterService {
    func reprocess() async {
        for await request in reprocessing.stream {
            let replanned = await replanned(request.command)
            // The command is still on its queue, for the next router.
            guard !Task.isCancelled else { return }
            inputs.append(.reprocessed(request.command, replanned, request.delivery))
        }
    }

    private func replanned(_ command: CommandMessage) async -> RouterInput.Replanned {
        guard let run = RunID(rawValue: command.target) else { return .refused("'\(command.target)' is not a run's id") }
        do {
            guard let event = try await ledger.write({ try $0.event(of: run)?.event }) else { return .refused("the run is not known") }
            return .run(try await plan(event))
        } catch {
            return .refused("planning failed: \(error)")
        }
    }
}

extension Reason {
    fileprivate static let interrupted = Reason(
        "planning-interrupted", "Planning was begun and did not end: the router was stopped, or ended with it.")

    fileprivate static func notPlanned(_ error: any Error) -> Reason { Reason("planning-failed", "Planning failed: \(error)") }

    fileprivate static func givenUp(after attempts: Int, _ last: Reason) -> Reason {
        Reason(
            "planning-given-up",
            "It could not be planned in \(attempts) attempts. The last one: \(last.text) Correct the cause, then reprocess this run.")
    }
}
