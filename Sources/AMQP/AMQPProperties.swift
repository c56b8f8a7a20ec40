package import Foundation

/// The properties of a message (AMQP 0-9-1 `basic` class). Text fields hold at most 255 bytes.
///
/// As large as one reference: a message passes through a dozen hands between the socket and its task. Set what is known in the
/// initialiser; each later assignment copies all fields.
package struct AMQPProperties: Sendable {
    /// Whether a message outlives the broker's process.
    package enum DeliveryMode: UInt8, Sendable {
        /// May be lost when the broker stops.
        case transient = 1
        /// Written to disk by a durable queue before the broker confirms it.
        case persistent = 2
    }

    private struct Fields: Sendable, Hashable {
        var contentType: String?
        var contentEncoding: String?
        var type: String?
        var messageID: String?
        var correlationID: String?
        var replyTo: String?
        var appID: String?
        var timestamp: Date?
        var deliveryMode: DeliveryMode
        var priority: UInt8?
        var expiration: String?
        var headers: AMQPTable
    }

    private final class Storage: Sendable {
        let fields: Fields

        init(_ fields: Fields) {
            self.fields = fields
        }
    }

    private var storage: Storage

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
        storage = Storage(
            Fields(
                contentType: contentType,
                contentEncoding: contentEncoding,
                type: type,
                messageID: messageID,
                correlationID: correlationID,
                replyTo: replyTo,
                appID: appID,
                timestamp: timestamp,
                deliveryMode: deliveryMode,
                priority: priority,
                expiration: expiration,
                headers: headers,
            )
        )
    }

    private mutating func set<Value>(_ field: WritableKeyPath<Fields, Value>, to value: Value) {
        var fields = storage.fields
        fields[keyPath: field] = value
        storage = Storage(fields)
    }

    // MARK: Fields

    /// The media type of the body, as `application/json`.
    package var contentType: String? {
        get { storage.fields.contentType }
        set { set(\.contentType, to: newValue) }
    }

    /// How the body is encoded, as `utf-8` or `gzip`. Nothing is decoded here.
    package var contentEncoding: String? {
        get { storage.fields.contentEncoding }
        set { set(\.contentEncoding, to: newValue) }
    }

    /// What kind of message it is, as the application calls it.
    package var type: String? {
        get { storage.fields.type }
        set { set(\.type, to: newValue) }
    }

    /// Names the message; the client makes one up for a mandatory message that has none.
    package var messageID: String? {
        get { storage.fields.messageID }
        set { set(\.messageID, to: newValue) }
    }

    /// Ties a reply to its request; `call` sets it.
    package var correlationID: String? {
        get { storage.fields.correlationID }
        set { set(\.correlationID, to: newValue) }
    }

    /// The queue that a reply goes to; `call` sets it.
    package var replyTo: String? {
        get { storage.fields.replyTo }
        set { set(\.replyTo, to: newValue) }
    }

    /// The application that sent the message.
    package var appID: String? {
        get { storage.fields.appID }
        set { set(\.appID, to: newValue) }
    }

    /// Whole seconds travel; fractions are cut off.
    package var timestamp: Date? {
        get { storage.fields.timestamp }
        set { set(\.timestamp, to: newValue) }
    }

    /// Persistent unless told otherwise. A message that came without a mode is transient.
    package var deliveryMode: DeliveryMode {
        get { storage.fields.deliveryMode }
        set { set(\.deliveryMode, to: newValue) }
    }

    /// 0 to the queue's `x-max-priority`; more counts as the highest.
    package var priority: UInt8? {
        get { storage.fields.priority }
        set { set(\.priority, to: newValue) }
    }

    /// Milliseconds, as decimal text.
    package var expiration: String? {
        get { storage.fields.expiration }
        set { set(\.expiration, to: newValue) }
    }

    /// At most 16 levels deep, and small enough for one frame (128 KiB) with all of these fields.
    package var headers: AMQPTable {
        get { storage.fields.headers }
        set { set(\.headers, to: newValue) }
    }
}

extension AMQPProperties: Hashable {
    package static func == (left: AMQPProperties, right: AMQPProperties) -> Bool {
        left.storage === right.storage || left.storage.fields == right.storage.fields
    }

    package func hash(into hasher: inout Hasher) {
        storage.fields.hash(into: &hasher)
    }
}
