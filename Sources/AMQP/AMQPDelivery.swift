/// A message that a queue delivered to us.
///
/// Settle each one once: ``ack(multiple:)``, ``nack(requeue:multiple:)`` or ``reject(requeue:)``, from any thread. They return at
/// once; the connection's thread sends them. A delivery whose channel has been replaced since (reconnect) cannot be settled any more:
/// the broker delivers it again, and the call does nothing. So does a second settlement.
package struct AMQPDelivery: Sendable {
    private enum Settling: Sendable {
        case inbox(AMQPInbox, channel: UInt64)
        case closure(@Sendable (AMQPSettlement) -> Void)
    }

    /// As large as one reference: a delivery goes through two buffers on its way to its task.
    private final class Storage: Sendable {
        let exchange: String
        let routingKey: String
        let redelivered: Bool
        let consumerTag: String
        let deliveryTag: UInt64
        let properties: AMQPProperties
        let body: [UInt8]
        let settling: Settling

        init(
            exchange: String,
            routingKey: String,
            redelivered: Bool,
            consumerTag: String,
            deliveryTag: UInt64,
            properties: AMQPProperties,
            body: [UInt8],
            settling: Settling,
        ) {
            self.exchange = exchange
            self.routingKey = routingKey
            self.redelivered = redelivered
            self.consumerTag = consumerTag
            self.deliveryTag = deliveryTag
            self.properties = properties
            self.body = body
            self.settling = settling
        }
    }

    private let storage: Storage

    /// The exchange that the message was published to; empty for the default exchange.
    package var exchange: String { storage.exchange }
    /// The key that the message was published with, up to 255 bytes.
    package var routingKey: String { storage.routingKey }
    /// Whether the message was delivered before, to us or to another consumer.
    package var redelivered: Bool { storage.redelivered }
    /// The name of our consumer at the broker.
    package var consumerTag: String { storage.consumerTag }
    /// The message's number on its channel.
    package var deliveryTag: UInt64 { storage.deliveryTag }
    /// Properties and headers, as the sender wrote them.
    package var properties: AMQPProperties { storage.properties }
    /// The bytes, at most `maximumBodySize` of the configuration.
    package var body: [UInt8] { storage.body }

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
        storage = Storage(
            exchange: exchange,
            routingKey: routingKey,
            redelivered: redelivered,
            consumerTag: consumerTag,
            deliveryTag: deliveryTag,
            properties: properties,
            body: body,
            settling: .closure(settle),
        )
    }

    /// A message as its channel received it, settled through the connection's inbox.
    ///
    /// - Parameter channel: the channel's serial number.
    /// - Returns: nil for anything but a delivery.
    init?(_ content: AMQPContent, channel: UInt64, inbox: AMQPInbox) {
        guard case .deliver(let consumerTag, let deliveryTag, let redelivered, let exchange, let routingKey) = content.method
        else { return nil }
        storage = Storage(
            exchange: exchange,
            routingKey: routingKey,
            redelivered: redelivered,
            consumerTag: consumerTag,
            deliveryTag: deliveryTag,
            properties: content.properties,
            body: content.body,
            settling: .inbox(inbox, channel: channel),
        )
    }

    private func settle(_ settlement: AMQPSettlement) {
        switch storage.settling {
        case .inbox(let inbox, let channel): inbox.submit(.settle(channel: channel, deliveryTag: deliveryTag, settlement))
        case .closure(let settle): settle(settlement)
        }
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
