import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

/// What nobody could read is kept in the ledger until a person decides. Sent to its queue again, a message is taken from there only when
/// the broker has confirmed it: after a crash in between it is sent twice, and never not at all.
extension RouterService {
    private static let portion = 50
    private static let pause = Duration.seconds(5)

    /// Ends when its task is cancelled.
    func requeueParked() async {
        // What the last router left.
        requeueing.continuation.yield()
        for await _ in requeueing.stream {
            do {
                var last: Int64 = 0
                var failures = 0
                while let portion = try await requeue(after: last) {
                    last = portion.last
                    failures += portion.failures
                }
                guard failures > 0 else { continue }
            } catch  where Task.isCancelled {
                return
            } catch {
                logger.error("messages cannot be requeued now, it is tried again", metadata: ["error": "\(error)"])
            }
            do { try await Task.sleep(for: Self.pause) } catch { return }
            requeueing.continuation.yield()
        }
    }

    /// - Returns: the last number of the portion, and how many have to be tried again; nil when there was none.
    private func requeue(after sequence: Int64) async throws -> (last: Int64, failures: Int)? {
        let found = try await ledger.write { ledger in
            try ledger.messagesToRequeue(after: sequence, limit: Self.portion).map { Parked(number: $0.sequence, message: $0.message) }
        }
        guard let last = found.last else { return nil }
        var settled: [Settled] = []
        var sendable: [(number: Int64, publishing: AMQPPublishing)] = []
        for parked in found {
            switch parked.message.publishing {
            case .success(let publishing): sendable.append((parked.number, publishing))
            case .failure(let obstacle): settled.append(Settled(number: parked.number, problem: obstacle.text))
            }
        }
        for (item, outcome) in zip(sendable, await broker.publish(sendable.map(\.publishing))) {
            switch outcome {
            case .success: settled.append(Settled(number: item.number))
            case .failure(let error) where Self.isForGood(error):
                settled.append(Settled(number: item.number, problem: "The broker did not take it: \(error.code)."))
            case .failure(let error):
                logger.warning(
                    "a message was not requeued, it is tried again", metadata: ["message": "\(item.number)", "error": "\(error)"])
            }
        }
        try await settle(settled)
        return (last.number, found.count - settled.count)
    }

    private func settle(_ settled: [Settled]) async throws {
        guard !settled.isEmpty else { return }
        let facts = try await ledger.write { ledger in
            let now = Date()
            return try settled.map { item in
                try ledger.settleRequeued(item.number, problem: item.problem)
                return try ledger.appendFact(
                    kind: item.problem == nil ? "message.requeued" : "message.stayed", run: nil, job: nil,
                    data: ["message": .integer(item.number)], at: now)
            }
        }
        for fact in facts { broker.publishTransient(.fact(fact)) }
    }

    /// Its queue is gone, or the message is one that cannot be sent: trying again changes nothing until a person does.
    private static func isForGood(_ error: AMQPError) -> Bool {
        error.code == .returned || error.code == .invalidMessage || error.code == .notFound
    }

    private struct Parked: Sendable {
        var number: Int64
        var message: ParkedMessage
    }

    private struct Settled: Sendable {
        var number: Int64
        var problem: String?
    }
}

// MARK: - From the broker and back

extension ParkedMessage {
    struct Obstacle: Error {
        var text: String
    }

    /// - Parameter delivery: from the queue that records what came to the dead-letter exchange.
    init(_ delivery: AMQPDelivery) {
        let properties = delivery.properties
        let death = properties.headers["x-death"]?.array?.first?.table
        var kept: [String: JSONValue] = [:]
        kept["contentType"] = properties.contentType.map(JSONValue.string)
        kept["contentEncoding"] = properties.contentEncoding.map(JSONValue.string)
        kept["correlationId"] = properties.correlationID.map(JSONValue.string)
        kept["appId"] = properties.appID.map(JSONValue.string)
        kept["timestamp"] = properties.timestamp.map { .number($0.timeIntervalSince1970) }
        // What the broker and we have written on it says how it came here, and would be wrong on its next way.
        let headers = properties.headers.filter { name, _ in
            name != PipelineHeader.deadReason && name != PipelineHeader.deadQueue && name != PipelineHeader.deadNote && name != "x-death"
                && !name.hasPrefix("x-first-death-")
        }
        if !headers.isEmpty { kept["headers"] = .object(headers.compactMapValues(JSONValue.init(header:))) }
        let queue = properties.headers[PipelineHeader.deadQueue]?.string ?? death?["queue"]?.string ?? delivery.routingKey
        self.init(
            queue: queue,
            routingKey: death?["routing-keys"]?.array?.first?.string ?? delivery.routingKey,
            reason: properties.headers[PipelineHeader.deadReason]?.string ?? death?["reason"]?.string ?? "rejected",
            messageID: properties.messageID, type: properties.type, properties: .object(kept), body: delivery.body,
            unrepeatable: Self.objection(to: properties, fromQueue: queue))
    }

    /// Why such a message is never sent again, nil when it may be.
    private static func objection(to properties: AMQPProperties?, fromQueue queue: String) -> String? {
        switch queue {
        // What is granted to a claim goes to who asked: nobody would hear it, and the job would count as lost with its worker.
        case PipelineQueue.claims: "Who asked asks again: discard it."
        // What somebody wanted then can do harm now.
        case PipelineQueue.commands: "Give the command again when it is still wanted, and discard this one."
        default:
            properties?.headers[PipelineHeader.deadNote] == nil
                ? nil : "The run of this event says what became of it: reprocess that run when the cause is gone, and discard this one."
        }
    }

    /// To the queue that it came from, and to no other: who else hears of that queue's exchange has had it.
    var publishing: Result<AMQPPublishing, Obstacle> {
        if let objection = Self.objection(to: nil, fromQueue: queue) { return .failure(Obstacle(text: objection)) }
        guard let body else { return .failure(Obstacle(text: problem ?? "Its body is not in the ledger.")) }
        guard queue.hasPrefix("dcm."), queue != PipelineQueue.dead, queue != PipelineQueue.deadRecord else {
            return .failure(Obstacle(text: "It came from no queue of the pipeline."))
        }
        let headers = (properties["headers"]?.object ?? [:]).compactMapValues(AMQPValue.init(json:))
        let timestamp: Date? =
            switch properties["timestamp"] {
            case .number(let seconds): Date(timeIntervalSince1970: seconds)
            case .integer(let seconds): Date(timeIntervalSince1970: Double(seconds))
            default: nil
            }
        return .success(
            AMQPPublishing(
                exchange: "", routingKey: queue, mandatory: true,
                properties: AMQPProperties(
                    contentType: properties["contentType"]?.string, contentEncoding: properties["contentEncoding"]?.string, type: type,
                    messageID: messageID, correlationID: properties["correlationId"]?.string, appID: properties["appId"]?.string,
                    timestamp: timestamp, deliveryMode: .persistent, headers: headers),
                body: body))
    }
}

extension JSONValue {
    /// Kinds that JSON has no word for are left out: no message of the pipeline has such a header.
    fileprivate init?(header: AMQPValue) {
        switch header {
        case .bool(let value): self = .bool(value)
        case .string(let value): self = .string(value)
        case .double(let value) where value.isFinite: self = .number(value)
        case .array(let values): self = .array(values.compactMap(JSONValue.init(header:)))
        case .table(let values): self = .object(values.compactMapValues(JSONValue.init(header:)))
        case .timestamp: return nil
        default:
            guard let value = header.integer else { return nil }
            self = .integer(Int64(value))
        }
    }
}

extension AMQPValue {
    fileprivate init?(json: JSONValue) {
        switch json {
        case .null: return nil
        case .bool(let value): self = .bool(value)
        case .integer(let value): self = .int64(value)
        case .number(let value): self = .double(value)
        case .string(let value): self = .string(value)
        case .array(let values): self = .array(values.compactMap(AMQPValue.init(json:)))
        case .object(let values): self = .table(values.compactMapValues(AMQPValue.init(json:)))
        }
    }
}
