package import Foundation

/// The properties of a message (AMQP 0-9-1 `basic` class). Text fields hold at most 255 bytes.
package struct AMQPProperties: Sendable, Hashable {
    /// Whether a message outlives the broker's process.
    package enum DeliveryMode: UInt8, Sendable {
        /// May be lost when the broker stops.
        case transient = 1
        /// Written to disk by a durable queue before the broker confirms it.
        case persistent = 2
    }

    /// The media type of the body, as `application/json`.
    package var contentType: String?
    /// How the body is encoded, as `utf-8` or `gzip`. Nothing is decoded here.
    package var contentEncoding: String?
    /// What kind of message it is, as the application calls it.
    package var type: String?
    /// Names the message; the client makes one up for a mandatory message that has none.
    package var messageID: String?
    /// Ties a reply to its request; `call` sets it.
    package var correlationID: String?
    /// The queue that a reply goes to; `call` sets it.
    package var replyTo: String?
    /// The application that sent the message.
    package var appID: String?
    /// Whole seconds travel; fractions are cut off.
    package var timestamp: Date?
    /// Persistent unless told otherwise. A message that came without a mode is transient.
    package var deliveryMode: DeliveryMode
    /// 0 to the queue's `x-max-priority`; more counts as the highest.
    package var priority: UInt8?
    /// Milliseconds, as decimal text.
    package var expiration: String?
    /// At most 16 levels deep, and small enough for one frame (128 KiB) with all of these fields.
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
