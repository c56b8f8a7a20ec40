/// A message that a queue delivered to us.
///
/// Settle each one once: ``ack(multiple:)``, ``nack(requeue:multiple:)`` or ``reject(requeue:)``, from any thread. They return at
/// once; the connection's thread sends them. A delivery whose channel has been replaced since (reconnect) cannot be settled any more:
/// the broker delivers it again, and the call does nothing. So does a second settlement.
package struct AMQPDelivery: Sendable {
    /// The exchange that the message was published to; empty for the default exchange.
    package let exchange: String
    /// The key that the message was published with, up to 255 bytes.
    package let routingKey: String
    /// Whether the message was delivered before, to us or to another consumer.
    package let redelivered: Bool
    /// The name of our consumer at the broker.
    package let consumerTag: String
    /// The message's number on its channel.
    package let deliveryTag: UInt64
    /// Properties and headers, as the sender wrote them.
    package let properties: AMQPProperties
    /// The bytes, at most `maximumBodySize` of the configuration.
    package let body: [UInt8]
    private let settle: @Sendable (AMQPSettlement) -> Void

    /// For tests of code that takes deliveries; `settle` sees what that code decides.
    package init(
        exchange: String = "",
        routingKey: String = "",
        redelivered: Bool = false,
        consumerTag: String = "",
        deliveryTag: UInt64 = 1,
        properties: AMQPProperties = AMQPProperties(),
        body: [UInt8],
        settle: @escaping @Sendable (AMQPSettlement) -> Void = { _ in },
    ) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.redelivered = redelivered
        self.consumerTag = consumerTag
        self.deliveryTag = deliveryTag
        self.properties = properties
        self.body = body
        self.settle = settle
    }

    /// Done: the broker may forget the message. `multiple` includes every earlier delivery of this consumer.
    package func ack(multiple: Bool = false) {
        settle(.ack(multiple: multiple))
    }

    /// Not done: back to the queue, or to its dead-letter exchange.
    package func nack(requeue: Bool, multiple: Bool = false) {
        settle(.nack(requeue: requeue, multiple: multiple))
    }

    /// Like ``nack(requeue:multiple:)`` for this one delivery.
    package func reject(requeue: Bool) {
        settle(.reject(requeue: requeue))
    }
}

/// What became of a delivery.
package enum AMQPSettlement: Sendable, Hashable {
    case ack(multiple: Bool)
    case nack(requeue: Bool, multiple: Bool)
    case reject(requeue: Bool)
}

/// The deliveries of one consumer, in the queue's order. Goes on after a reconnect; ends when the client stops or the iterating task
/// is cancelled. Several tasks may iterate: each delivery goes to one of them.
package struct AMQPDeliveries: AsyncSequence, Sendable {
    package typealias Element = AMQPDelivery

    let buffer: DeliveryBuffer

    /// Takes deliveries one by one; those that several iterators take are different ones.
    package struct AsyncIterator: AsyncIteratorProtocol {
        let buffer: DeliveryBuffer

        /// The next delivery; nil at the end or when the task is cancelled.
        package func next() async -> AMQPDelivery? {
            await buffer.next()
        }

        /// The next delivery; nil at the end or when the task is cancelled.
        package func next(isolation actor: isolated (any Actor)?) async -> AMQPDelivery? {
            await buffer.next()
        }
    }

    /// An iterator; each delivery goes to one of them.
    package func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(buffer: buffer)
    }
}
