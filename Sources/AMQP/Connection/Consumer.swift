import Logging
import Metrics

/// One consumer: a channel with its own prefetch, opened again for as long as its task wants deliveries.
final class Consumer: ChannelUser {
    let request: ConsumerRequest
    private let consumerTag: String
    private let inbox: AMQPInbox
    private let metrics: AMQPMetrics
    private let logger: Logger
    private var unsettled = UnsettledDeliveries()
    /// What came in this turn: handed over at its end, with one wake-up of the task for all.
    private var arrived: [AMQPDelivery] = []
    /// Acknowledged by the task, not yet told to the broker: where no earlier delivery is open, one frame says it for all.
    private var acknowledged: [UInt64] = []

    init(_ request: ConsumerRequest, configuration: AMQPConfiguration, inbox: AMQPInbox, metrics: AMQPMetrics, logger: Logger) {
        self.request = request
        self.inbox = inbox
        self.metrics = metrics
        self.logger = logger
        consumerTag = "\(configuration.connectionName.prefix(200)).\(request.id)"
        super.init(name: "consumer of \(request.queue)", backoff: configuration.backoff)
    }

    override var queue: String? { request.queue }

    override func setUp(_ channel: AMQPChannel, names: TopologyDeclaration.Names) {
        unsettled = UnsettledDeliveries()
        let context = "Consuming from the queue \"\(request.queue)\""
        channel.request(.qos(prefetch: request.prefetch), expecting: .qosOK, context: context)
        channel.request(
            .consume(
                queue: names[request.queue] ?? request.queue,
                consumerTag: consumerTag,
                noAck: false,
                arguments: request.priority.map { ["x-priority": .int32(Int32(clamping: $0))] } ?? [:],
            ),
            expecting: .consumeOK,
            context: context,
        ) { [unowned self] _ in
            ready()
            logger.debug("Consuming", metadata: ["amqp.queue": "\(request.queue)", "amqp.prefetch": "\(request.prefetch)"])
        }
    }

    override func received(_ method: InboundMethod) {
        guard case .cancel = method else { return }
        // The queue is gone. Deliveries still held can no longer be settled to any use.
        leaveChannel()?.close()
        failed(
            AMQPError(
                .notFound,
                "The broker cancelled the consumer of the queue \"\(request.queue)\": the queue was deleted or has moved.",
            )
        )
    }

    override func received(_ content: AMQPContent) {
        guard let channel, let delivery = AMQPDelivery(content, channel: channel.serial, inbox: inbox) else { return }
        let deliveryTag = delivery.deliveryTag
        guard unsettled.insert(deliveryTag) else {
            channel.close()
            return failed(AMQPError(.unexpectedFrame, "The broker numbered a delivery \(deliveryTag) out of turn."))
        }
        metrics.delivered.increment()
        if let problem = content.problem {
            logger.error(
                "Rejected a message that cannot be used; it goes to the dead-letter exchange of its queue, if that has one",
                metadata: ["amqp.queue": "\(request.queue)", "amqp.problem": "\(problem.rawValue)"],
            )
            return settle(deliveryTag, .reject(requeue: false))
        }
        arrived.append(delivery)
    }

    /// Takes note of a settlement, unless the delivery is settled already. `work` or the settlement itself tells the broker.
    func settle(_ deliveryTag: UInt64, _ settlement: AMQPSettlement) {
        let multiple: Bool
        switch settlement {
        case .ack(let all), .nack(_, let all): multiple = all
        case .reject: multiple = false
        }
        // What was acknowledged one by one goes first: a multiple settlement must not include it again.
        if multiple { sendAcknowledgements() }
        guard unsettled.settle(deliveryTag, multiple: multiple) else { return }
        metrics.settled.increment()
        switch settlement {
        case .ack(multiple: false): acknowledged.append(deliveryTag)
        case .ack(multiple: true): channel?.send(.ack(deliveryTag: deliveryTag, multiple: true))
        case .nack(let requeue, let multiple):
            channel?.send(.nack(deliveryTag: deliveryTag, multiple: multiple, requeue: requeue))
        case .reject(let requeue): channel?.send(.reject(deliveryTag: deliveryTag, requeue: requeue))
        }
    }

    /// The end of a turn.
    func work() {
        sendAcknowledgements()
        guard !arrived.isEmpty else { return }
        request.buffer.append(arrived)
        arrived.removeAll(keepingCapacity: true)
    }

    func sendAcknowledgements() {
        guard !acknowledged.isEmpty else { return }
        defer { acknowledged.removeAll(keepingCapacity: true) }
        let firstOpen = unsettled.firstOpen
        let last = acknowledged.filter { $0 < firstOpen }.max()
        if let last { channel?.send(.ack(deliveryTag: last, multiple: true)) }
        for tag in acknowledged where tag > firstOpen { channel?.send(.ack(deliveryTag: tag, multiple: false)) }
    }

    override func channelEnded(_ error: AMQPError) {
        request.buffer.discardAll()
        arrived = []
        acknowledged = []
        unsettled = UnsettledDeliveries()
    }
}
