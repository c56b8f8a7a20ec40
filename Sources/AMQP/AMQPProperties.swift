package import Foundation

/// The properties of a message (AMQP 0-9-1 `basic` class). Text fields hold at most 255 bytes.
package struct AMQPProperties: Sendable, Hashable {
    package enum DeliveryMode: UInt8, Sendable {
        /// May be lost when the broker stops.
        case transient = 1
        /// Written to disk by a durable queue before the broker confirms it.
        case persistent = 2
    }

    package var contentType: String?
    package var contentEncoding: String?
    package var type: String?
    package var messageID: String?
    package var correlationID: String?
    package var replyTo: String?
    package var appID: String?
    /// Whole seconds travel; fractions are cut off.
    package var timestamp: Date?
    package var deliveryMode: DeliveryMode
    package var priority: UInt8?
    /// Milliseconds, as decimal text.
    package var expiration: String?
    package var headers: AMQPTable

    package init(
        contentType: String? = nil,
        contentEncoding: String? = nil,
        type: String? = nil,
        messageID: String? = nil,
        correlationID: String? = nil,
        replyTo: String? = nil,
        appID: String? = nil,
        timestamp: Date? = nil,
        deliveryMode: DeliveryMode = .persistent,
        priority: UInt8? = nil,
        expiration: String? = nil,
        headers: AMQPTable = [:],
    ) {
        self.contentType = contentType
        self.contentEncoding = contentEncoding
        self.type = type
        self.messageID = messageID
        self.correlationID = correlationID
        self.replyTo = replyTo
        self.appID = appID
        self.timestamp = timestamp
        self.deliveryMode = deliveryMode
        self.priority = priority
        self.expiration = expiration
        self.headers = headers
    }
}
