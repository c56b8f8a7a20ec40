import CRabbitMQ
import Foundation

extension RabbitMQPool {
    /// - Parameter messageID: in place of the one that the properties have.
    func properties(_ properties: AMQPProperties, messageID: String? = nil) -> amqp_basic_properties_t {
        var result = amqp_basic_properties_t()
        var flags: Int32 = 0
        func set(_ value: String?, _ field: inout amqp_bytes_t, _ flag: Int32) {
            guard let value else { return }
            field = bytes(value)
            flags |= flag
        }
        set(properties.contentType, &result.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG)
        set(properties.contentEncoding, &result.content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG)
        set(properties.type, &result.type, AMQP_BASIC_TYPE_FLAG)
        set(messageID ?? properties.messageID, &result.message_id, AMQP_BASIC_MESSAGE_ID_FLAG)
        set(properties.correlationID, &result.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG)
        set(properties.replyTo, &result.reply_to, AMQP_BASIC_REPLY_TO_FLAG)
        set(properties.appID, &result.app_id, AMQP_BASIC_APP_ID_FLAG)
        set(properties.expiration, &result.expiration, AMQP_BASIC_EXPIRATION_FLAG)
        result._flags = UInt32(flags)
        result.delivery_mode = properties.deliveryMode.rawValue
        result._flags |= UInt32(AMQP_BASIC_DELIVERY_MODE_FLAG)
        if let priority = properties.priority {
            result.priority = priority
            result._flags |= UInt32(AMQP_BASIC_PRIORITY_FLAG)
        }
        if let timestamp = properties.timestamp {
            // What a stranger sent may be no number that fits, and is sent again when the message is put aside.
            result.timestamp = UInt64(exactly: timestamp.timeIntervalSince1970.rounded(.down)) ?? 0
            result._flags |= UInt32(AMQP_BASIC_TIMESTAMP_FLAG)
        }
        if !properties.headers.isEmpty {
            result.headers = table(properties.headers)
            result._flags |= UInt32(AMQP_BASIC_HEADERS_FLAG)
        }
        return result
    }
}

extension AMQPProperties {
    /// Nil when the header table is malformed or nested too deep.
    init?(_ source: amqp_basic_properties_t) {
        func has(_ flag: Int32) -> Bool { source._flags & UInt32(flag) != 0 }
        func text(_ value: amqp_bytes_t, _ flag: Int32) -> String? { has(flag) ? String(value) : nil }
        var headers: AMQPTable = [:]
        if has(AMQP_BASIC_HEADERS_FLAG) {
            guard let table = AMQPTable(source.headers) else { return nil }
            headers = table
        }
        self.init(
            contentType: text(source.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG),
            contentEncoding: text(source.content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG),
            type: text(source.type, AMQP_BASIC_TYPE_FLAG),
            messageID: text(source.message_id, AMQP_BASIC_MESSAGE_ID_FLAG),
            correlationID: text(source.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG),
            replyTo: text(source.reply_to, AMQP_BASIC_REPLY_TO_FLAG),
            appID: text(source.app_id, AMQP_BASIC_APP_ID_FLAG),
            timestamp: has(AMQP_BASIC_TIMESTAMP_FLAG) ? Date(timeIntervalSince1970: TimeInterval(source.timestamp)) : nil,
            // A message without a mode is transient by the protocol.
            deliveryMode: has(AMQP_BASIC_DELIVERY_MODE_FLAG) ? DeliveryMode(rawValue: source.delivery_mode) ?? .transient : .transient,
            priority: has(AMQP_BASIC_PRIORITY_FLAG) ? source.priority : nil,
            expiration: text(source.expiration, AMQP_BASIC_EXPIRATION_FLAG),
            headers: headers,
        )
    }
}
