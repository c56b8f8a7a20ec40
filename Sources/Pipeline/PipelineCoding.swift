package import AMQP
package import Foundation
import Jobs

/// A message that this version cannot read. It goes to the dead-letter exchange, never back to its queue.
package struct UndecodableMessage: Error, CustomStringConvertible {
    package var reason: String
    package var description: String { reason }
}

extension AMQPPublishing {
    /// A message of the pipeline: JSON, typed, identified.
    ///
    /// - Parameter persistent: false for what may be lost without harm (claims, renewals, facts).
    package static func pipeline(
        exchange: String,
        routingKey: String,
        type: String,
        body: some Encodable,
        messageID: String? = nil,
        correlationID: String? = nil,
        priority: Int? = nil,
        persistent: Bool = true,
        mandatory: Bool = true,
        headers: AMQPTable = [:]
    ) -> AMQPPublishing {
        AMQPPublishing(
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory,
            properties: .pipeline(
                type: type, messageID: messageID, correlationID: correlationID, priority: priority, persistent: persistent, headers: headers
            ),
            body: PipelineJSON.encode(body)
        )
    }

    /// A copy of `delivery` for the dead-letter exchange, saying why it is there.
    package static func deadLetter(_ delivery: AMQPDelivery, queue: String, reason: String) -> AMQPPublishing {
        var properties = delivery.properties
        properties.deliveryMode = .persistent
        properties.priority = nil
        properties.expiration = nil
        properties.replyTo = nil
        properties.headers[PipelineHeader.deadReason] = .string(reason)
        properties.headers[PipelineHeader.deadQueue] = .string(queue)
        return AMQPPublishing(
            exchange: PipelineExchange.deadLetter, routingKey: queue, mandatory: true, properties: properties, body: delivery.body)
    }
}

extension AMQPProperties {
    package static func pipeline(
        type: String,
        messageID: String? = nil,
        correlationID: String? = nil,
        priority: Int? = nil,
        persistent: Bool = true,
        headers: AMQPTable = [:]
    ) -> AMQPProperties {
        AMQPProperties(
            contentType: "application/json",
            type: type,
            messageID: messageID,
            correlationID: correlationID,
            appID: "dcm-processor",
            timestamp: Date(),
            deliveryMode: persistent ? .persistent : .transient,
            priority: priority.map(UInt8.init),
            headers: headers
        )
    }
}

extension AMQPDelivery {
    /// Reads the body as a `Message` of the wanted type.
    package func decode<Message: Decodable>(_ message: Message.Type, type: String) throws(UndecodableMessage) -> Message {
        guard properties.type == type else {
            throw UndecodableMessage(reason: "message type is '\(properties.type ?? "none")', this queue carries '\(type)'")
        }
        return try PipelineJSON.decode(message, from: body)
    }
}

/// How bodies are written. Dates are seconds since 1970.
package enum PipelineJSON {
    package static func encode(_ value: some Encodable) -> [UInt8] {
        do {
            return try JSONCoding.encode(value)
        } catch {
            preconditionFailure("A message of ours cannot be written as JSON: \(error)")
        }
    }

    /// Errors say where in the document the trouble is and never show a value: values can be patient data.
    package static func decode<Value: Decodable>(_ value: Value.Type, from body: some DataProtocol) throws(UndecodableMessage) -> Value {
        do {
            return try JSONCoding.decode(value, from: body)
        } catch let error as DecodingError {
            throw UndecodableMessage(reason: describe(error))
        } catch {
            throw UndecodableMessage(reason: "not a JSON document")
        }
    }

    private static func describe(_ error: DecodingError) -> String {
        func place(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? "the document" : path
        }
        return switch error {
        case .keyNotFound(let key, let context): "key '\(key.stringValue)' is missing in \(place(context))"
        case .typeMismatch(let type, let context): "\(place(context)) is not a \(type)"
        case .valueNotFound(let type, let context): "\(place(context)) is null, not a \(type)"
        case .dataCorrupted(let context) where context.codingPath.isEmpty: "not a JSON document"
        case .dataCorrupted(let context): "\(place(context)) holds a value that is not allowed"
        @unknown default: "not readable"
        }
    }
}
