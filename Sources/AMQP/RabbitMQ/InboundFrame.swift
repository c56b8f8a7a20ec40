/// A frame as Swift values: nothing in it points into the C library, whose buffers are reused after each frame.
enum InboundFrame {
    case method(channel: UInt16, InboundMethod)
    /// `properties` is nil when the header table is malformed or nested too deep.
    case header(channel: UInt16, bodySize: UInt64, properties: AMQPProperties?)
    case body(channel: UInt16, [UInt8])
}

/// The methods that a broker sends to a client after the login.
enum InboundMethod: Equatable {
    case connectionClose(code: Int, text: String)
    case connectionCloseOK
    case connectionBlocked(reason: String)
    case connectionUnblocked
    case channelOpenOK
    case channelClose(code: Int, text: String, classID: Int, methodID: Int)
    case channelCloseOK
    case exchangeDeclareOK
    case queueDeclareOK(queue: String, messages: Int, consumers: Int)
    case queueBindOK
    case qosOK
    case consumeOK
    case cancel(consumerTag: String)
    case cancelOK
    case confirmSelectOK
    case deliver(consumerTag: String, deliveryTag: UInt64, redelivered: Bool, exchange: String, routingKey: String)
    case returned(code: Int, text: String, exchange: String, routingKey: String)
    case ack(deliveryTag: UInt64, multiple: Bool)
    case nack(deliveryTag: UInt64, multiple: Bool)
    case other(UInt32)

    /// Whether header and body frames follow.
    var carriesContent: Bool {
        switch self {
        case .deliver, .returned: true
        default: false
        }
    }
}

/// The methods that we send after the login.
enum OutboundMethod {
    case connectionClose
    case connectionCloseOK
    case channelOpen
    case channelClose
    case channelCloseOK
    case exchangeDeclare(AMQPExchange)
    /// `name` is empty to let the broker make one up.
    case queueDeclare(AMQPQueue, name: String)
    /// Asks for a queue that must exist, without changing anything.
    case queueInspect(String)
    case queueBind(queue: String, exchange: String, routingKey: String, arguments: AMQPTable)
    case qos(prefetch: UInt16)
    case consume(queue: String, consumerTag: String, noAck: Bool, arguments: AMQPTable)
    case confirmSelect
    case ack(deliveryTag: UInt64, multiple: Bool)
    case nack(deliveryTag: UInt64, multiple: Bool, requeue: Bool)
    case reject(deliveryTag: UInt64, requeue: Bool)
}
