/// A message to send.
package struct AMQPPublishing: Sendable, Hashable {
    /// The exchange's name; empty for the default exchange, which routes to the queue named by `routingKey`.
    package var exchange: String
    package var routingKey: String
    /// Whether a message that no queue wants is an error (``AMQPError/Code/returned``) instead of silently dropped.
    package var mandatory: Bool
    package var properties: AMQPProperties
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
    package var properties: AMQPProperties
    package var body: [UInt8]

    package init(properties: AMQPProperties, body: [UInt8]) {
        self.properties = properties
        self.body = body
    }
}
