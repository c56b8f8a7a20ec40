/// A message to send.
package struct AMQPPublishing: Sendable, Hashable {
    /// The exchange's name; empty for the default exchange, which routes to the queue named by `routingKey`.
    package var exchange: String
    /// What bindings match, up to 255 bytes.
    package var routingKey: String
    /// Whether a message that no queue wants is an error (``AMQPError/Code/returned``) instead of silently dropped.
    package var mandatory: Bool
    /// Properties and headers.
    package var properties: AMQPProperties
    /// The bytes, at most `maximumBodySize` of the configuration.
    package var body: [UInt8]

    package init(
        exchange: String,
        routingKey: String,
        mandatory: Bool = true,
        properties: AMQPProperties = AMQPProperties(),
        body: [UInt8],
    ) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.mandatory = mandatory
        self.properties = properties
        self.body = body
    }
}

/// The answer to ``AMQPClient/call(_:timeout:)``.
package struct AMQPReply: Sendable, Hashable {
    /// Properties and headers of the reply.
    package var properties: AMQPProperties
    /// The bytes of the reply.
    package var body: [UInt8]

    package init(properties: AMQPProperties, body: [UInt8]) {
        self.properties = properties
        self.body = body
    }
}
