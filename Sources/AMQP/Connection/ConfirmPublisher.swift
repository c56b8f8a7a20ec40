import Metrics

/// Publishes with confirms on one channel, at most a window of messages at a time.
final class ConfirmPublisher: ChannelUser {
    private struct Entry {
        var submission: PublishSubmission
        var index: Int
        var messageID: String?

        var message: AMQPPublishing { submission.messages[index] }

        func settle(_ outcome: Result<Void, AMQPError>) {
            submission.settle(index, outcome)
        }
    }

    /// Bytes that may wait for the socket before we stop encoding more.
    private static let maximumBacklog = 1 << 20

    private let window: Int
    private let metrics: AMQPMetrics
    /// Makes the identifiers of mandatory messages that have none unique among clients.
    private let identity = String(UInt64.random(in: .min ... .max), radix: 36)
    private var published: UInt64 = 0
    private var pending: [Entry] = []
    private var head = 0
    /// How many messages must wait for cancelled ones to be looked for.
    private var sweepAt = 64
    private var tracker = ConfirmTracker<Entry>()
    /// When the first message in flight may have timed out.
    private var checkAt: Instant?

    init(configuration: AMQPConfiguration, metrics: AMQPMetrics) {
        window = configuration.confirmWindow
        self.metrics = metrics
        super.init(name: "publisher", backoff: configuration.backoff)
    }

    var isIdle: Bool { head == pending.count && tracker.isEmpty }

    func submit(_ submission: PublishSubmission) {
        for index in submission.messages.indices { pending.append(Entry(submission: submission, index: index)) }
        guard pending.count >= sweepAt else { return }
        // Whoever cancels and tries again while nothing can be sent must not fill the memory.
        pending = pending[head...].filter { !$0.submission.isSettled($0.index) }
        head = 0
        // Twice what is left: so a message is looked at once on average.
        sweepAt = max(sweepAt, 2 * pending.count)
    }

    override func setUp(_ channel: AMQPChannel, names: TopologyDeclaration.Names) {
        channel.request(.confirmSelect, expecting: .confirmSelectOK, context: "Switching confirms on") { [unowned self] _ in ready() }
    }

    /// Sends as much as window, socket and broker allow.
    func work(_ link: AMQPLink, now: Instant) {
        guard isReady, let channel, link.blockedReason == nil else { return }
        while head < pending.count, tracker.count < window, link.backlog < Self.maximumBacklog {
            var entry = pending[head]
            head += 1
            // Cancelled while it waited.
            guard !entry.submission.isSettled(entry.index) else { continue }
            send(&entry, on: channel)
        }
        compact()
    }

    /// Lets go of what is settled, bodies and all.
    private func compact() {
        if head == pending.count {
            pending.removeAll(keepingCapacity: pending.capacity <= 4096)
            head = 0
        } else if head > 1024, head * 2 > pending.count {
            pending.removeFirst(head)
            head = 0
        }
    }

    private func send(_ entry: inout Entry, on channel: AMQPChannel) {
        let message = entry.message
        // A return carries no delivery tag: the identifier is what ties it to its message.
        if message.mandatory { entry.messageID = message.properties.messageID ?? "\(identity).\(published)" }
        published += 1
        guard
            channel.publish(message, properties: message.properties, messageID: entry.messageID, mandatory: message.mandatory)
        else {
            let error = AMQPError(.invalidMessage, "The header table does not fit into one frame; put large values into the body.")
            return entry.settle(.failure(error))
        }
        tracker.append(entry)
        metrics.published.increment()
        if checkAt == nil { checkAt = entry.submission.deadline }
    }

    override func received(_ method: InboundMethod) {
        switch method {
        case .ack(let tag, let multiple):
            for confirmed in tracker.settle(tag: tag, multiple: multiple) {
                if let error = confirmed.returned {
                    metrics.returned.increment()
                    confirmed.entry.settle(.failure(error))
                } else {
                    metrics.confirmed.increment()
                    confirmed.entry.settle(.success(()))
                }
            }
        case .nack(let tag, let multiple):
            for confirmed in tracker.settle(tag: tag, multiple: multiple) {
                metrics.nacked.increment()
                let message = confirmed.entry.message
                let error = AMQPError(
                    .nacked,
                    """
                    The broker refused the message to exchange "\(message.exchange)" with the key "\(message.routingKey)": the queue is full \
                    (overflow reject-publish) or failed. Try again later.
                    """,
                )
                confirmed.entry.settle(.failure(error))
            }
        default: break
        }
    }

    override func received(_ content: AMQPContent) {
        guard case .returned(let code, let text, let exchange, let routingKey) = content.method else { return }
        let error = AMQPError.returned(code: code, text: text, exchange: exchange, routingKey: routingKey)
        _ = tracker.markReturned(error) { entry in
            entry.messageID == content.properties.messageID && entry.message.exchange == exchange && entry.message.routingKey == routingKey
        }
    }

    override func channelEnded(_ error: AMQPError) {
        checkAt = nil
        for entry in tracker.removeAll() {
            // One message to an exchange that is not there takes the channel down for all; only its sender is at fault.
            if error.replyCode == 404, error.message.contains("no exchange '\(entry.message.exchange)'") {
                entry.settle(.failure(AMQPError(.notFound, error.message, replyCode: 404, method: error.method)))
            } else {
                entry.settle(.failure(error.outcomeUnknown))
            }
        }
    }

    // MARK: Time

    /// When to call `expire`.
    var nextDeadline: Instant? {
        let unsent = head < pending.count ? pending[head].submission.deadline : nil
        return [unsent, checkAt].compactMap(\.self).min()
    }

    func expire(now: Instant, blockedReason: String?) {
        while head < pending.count, pending[head].submission.deadline <= now {
            let unblocked = "there was no connection, or too much was ahead of it"
            pending[head].settle(.failure(.notInTime("The message was not sent", blockedReason: blockedReason, otherwise: unblocked)))
            head += 1
        }
        // Without a connection nothing else does: whoever goes on publishing while the broker is away must not fill the memory.
        compact()
        guard let due = checkAt, due <= now else { return }
        var next: Instant?
        // A message that is never confirmed (a queue without its quorum) must not keep its place in the window from all others.
        tracker.remove { entry in
            guard entry.submission.deadline <= now else {
                next = min(next ?? entry.submission.deadline, entry.submission.deadline)
                return false
            }
            entry.settle(.failure(AMQPError(.timeout, "The broker did not confirm in time; the message may have arrived.")))
            return true
        }
        checkAt = next
    }

    func finish(_ error: AMQPError) {
        for entry in tracker.removeAll() { entry.settle(.failure(error)) }
        for entry in pending[head...] { entry.settle(.failure(error)) }
        pending = []
        head = 0
    }
}

extension AMQPError {
    static func returned(code: Int, text: String, exchange: String, routingKey: String) -> AMQPError {
        AMQPError(
            .returned,
            """
            No queue took the message to exchange "\(exchange)" with the key "\(routingKey)": \(text). Is the service that declares the \
            queue running, and does its binding match?
            """,
            replyCode: code,
        )
    }

    /// The same, for those whose message was under way.
    var outcomeUnknown: AMQPError {
        guard code != .shutdown else { return self }
        let lost: Code = replyCode == nil || code == .connectionLost ? .connectionLost : .channelClosed
        return AMQPError(lost, "\(message) It is not known whether the message arrived.", replyCode: replyCode, method: method)
    }
}
