package import Jobs
import Pipeline

/// A message that nobody could read, as the router keeps it until a person has decided what becomes of it.
package struct ParkedMessage: Sendable, Hashable {
    package enum State: String, Sendable, CaseIterable {
        /// Nobody has decided yet.
        case parked
        /// A person wants it sent to its queue once more, and the broker has not confirmed that yet.
        case requeueing
        case requeued
        case discarded

        /// Somebody has still to do something about it.
        package var isOpen: Bool { self == .parked || self == .requeueing }
    }

    /// Larger ones are not kept here: their bodies lie on the broker alone, and cannot be requeued.
    package static let longestBody = 1024 * 1024
    /// Bytes of bodies that the ledger keeps together: it shares its disk with all that runs.
    package static let longestBodies = 256 * 1024 * 1024

    /// The queue that it came from.
    package var queue: String
    package var routingKey: String
    /// Why it could not be read. No patient data.
    package var reason: String
    package var messageID: String?
    package var type: String?
    /// What else came with it and has to go with it again: `contentType`, `correlationId`, `headers`, ...
    package var properties: JSONValue
    /// Bytes of the body as it came.
    package var size: Int
    /// nil when it is longer than ``longestBody`` or is never to be sent again, and once it was requeued or discarded.
    package var body: [UInt8]?
    /// Why it cannot be requeued: what to do instead.
    package var problem: String?

    /// - Parameter unrepeatable: why the message is never to be sent again; its body is not kept then.
    package init(
        queue: String, routingKey: String, reason: String, messageID: String? = nil, type: String? = nil, properties: JSONValue = [:],
        body: [UInt8], unrepeatable: String? = nil
    ) {
        self.init(
            queue: queue, routingKey: routingKey, reason: reason, messageID: messageID, type: type, properties: properties,
            size: body.count, body: nil)
        if let unrepeatable {
            problem = unrepeatable
        } else if body.count > Self.longestBody {
            problem = Self.elsewhere("It is too long to be kept here")
        } else {
            self.body = body
        }
    }

    static func elsewhere(_ cause: String) -> String { "\(cause): move it on the broker, from \(PipelineQueue.dead)." }

    /// As the ledger has it.
    init(
        queue: String, routingKey: String, reason: String, messageID: String?, type: String?, properties: JSONValue, size: Int,
        body: [UInt8]?
    ) {
        self.queue = queue
        self.routingKey = routingKey
        self.reason = reason
        self.messageID = messageID
        self.type = type
        self.properties = properties
        self.size = size
        self.body = body
    }
}

/// Which parked messages a person means.
package enum ParkedSelection: Sendable, Hashable {
    case one(Int64)
    /// All that were there when the person looked: none that came later.
    case upTo(Int64)

    /// How many one command takes, the oldest first: nobody's claim may wait for all that can lie there.
    package static let most = 500

    /// As a command's target: `12`, or `..12`.
    package init?(_ text: String) {
        if text.hasPrefix(".."), let last = Int64(text.dropFirst(2)), last > 0 {
            self = .upTo(last)
        } else if let number = Int64(text), number > 0 {
            self = .one(number)
        } else {
            return nil
        }
    }

    package var text: String {
        switch self {
        case .one(let number): String(number)
        case .upTo(let last): "..\(last)"
        }
    }
}
