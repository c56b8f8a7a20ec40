import Logging

final class ConsumeRole: AMQPRole {
    let part = AMQPStatus.Part.consume
    private let configuration: AMQPConfiguration
    private let inbox: AMQPInbox
    private let metrics: AMQPMetrics
    private let logger: Logger
    /// Few a process: looking through them is cheaper than keeping indexes right.
    private var consumers: [Consumer] = []
    /// Consumers whose channel waits for its close-ok, with the time after which we stop waiting.
    private var stopping: [UInt64: (request: ConsumerRequest, until: Instant)] = [:]
    private var isDraining = false

    init(configuration: AMQPConfiguration, inbox: AMQPInbox, metrics: AMQPMetrics, logger: Logger) {
        self.configuration = configuration
        self.inbox = inbox
        self.metrics = metrics
        self.logger = logger
    }

    var users: [ChannelUser] { consumers }
    var isReady: Bool { true }
    var isIdle: Bool { consumers.isEmpty && stopping.isEmpty }

    func handle(_ command: AMQPCommand, link: AMQPLink?) {
        switch command {
        case .settle(let channel, let deliveryTag, let settlement):
            consumers.first { $0.channel?.serial == channel }?.settle(deliveryTag, settlement)
        case .startConsumer(let request):
            if isDraining { request.buffer.finish() }
            consumers.append(
                Consumer(
                    request,
                    configuration: configuration,
                    inbox: inbox,
                    metrics: metrics,
                    logger: logger,
                )
            )
        case .stopConsumer(let id):
            stop(id)
        case .publish, .publishTransient, .call, .declare, .inspect: break
        }
    }

    private func stop(_ id: UInt64) {
        guard let index = consumers.firstIndex(where: { $0.request.id == id }) else { return }
        let consumer = consumers.remove(at: index)
        let request = consumer.request
        request.buffer.finish()
        consumer.sendAcknowledgements()
        guard let channel = consumer.leaveChannel(), !channel.isGone else { return request.stopped.complete(.success(())) }
        // With the channel, everything that was delivered and not settled goes back to the queue.
        stopping[id] = (request, .now + .seconds(5))
        channel.close { [unowned self] in
            stopping[id] = nil
            request.stopped.complete(.success(()))
        }
    }

    func work(_ link: AMQPLink, now: Instant) {
        for consumer in consumers { consumer.work() }
    }

    func expire(now: Instant, blockedReason: String?) {
        for (id, stop) in stopping where stop.until <= now {
            stop.request.stopped.complete(.success(()))
            stopping[id] = nil
        }
    }

    var nextDeadline: Instant? {
        stopping.values.map(\.until).min()
    }

    func linkLost(_ error: AMQPError) {
        for stop in stopping.values { stop.request.stopped.complete(.success(())) }
        stopping = [:]
    }

    /// The iterations end; each consumer's scope may still settle what it holds, and leaves.
    func beginDrain() {
        isDraining = true
        for consumer in consumers { consumer.request.buffer.finish() }
    }

    func finish(_ error: AMQPError) {
        for consumer in consumers {
            consumer.request.buffer.finish()
            consumer.request.stopped.complete(.success(()))
        }
        consumers = []
        linkLost(error)
    }
}
