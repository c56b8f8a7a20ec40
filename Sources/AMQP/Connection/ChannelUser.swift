/// Something that wants a channel of its own for as long as the client runs. ``AMQPConnection`` opens the channel on each link, and
/// again when the broker closed it.
class ChannelUser: AMQPChannelOwner {
    typealias Instant = ContinuousClock.Instant

    /// For log lines.
    let name: String
    private(set) var channel: AMQPChannel?
    /// Whether the channel does its work.
    private(set) var isReady = false
    /// When to try again after the broker closed the channel.
    private(set) var retryAt: Instant?
    private var failures = 0
    private let backoff: AMQPConfiguration.Backoff
    /// The error is told once, not at each attempt.
    private var reported: AMQPError?
    var report: (ChannelUser, AMQPError) -> Void = { _, _ in }

    /// The queue that it takes from, as the topology calls it.
    var queue: String? { nil }

    init(name: String, backoff: AMQPConfiguration.Backoff) {
        self.name = name
        self.backoff = backoff
    }

    /// Opens the channel; `names` are the real names of server-named queues.
    final func open(on link: AMQPLink, names: TopologyDeclaration.Names) {
        retryAt = nil
        guard let channel = link.openChannel(owner: self) else {
            return failed(AMQPError(.channelClosed, "No channel is left on this connection."))
        }
        self.channel = channel
        setUp(channel, names: names)
    }

    final func ready() {
        isReady = true
        failures = 0
        reported = nil
    }

    /// Lets the channel go and plans the next attempt; the first is due at once.
    final func failed(_ error: AMQPError) {
        channel = nil
        isReady = false
        let delay: Duration = failures == 0 ? .zero : backoff.delay(attempt: failures - 1, jitter: .random(in: 0...1))
        retryAt = .now + delay
        failures += 1
        if reported != error {
            reported = error
            report(self, error)
        }
        channelEnded(error)
    }

    final func linkLost(_ error: AMQPError) {
        channel = nil
        isReady = false
        retryAt = nil
        failures = 0
        reported = nil
        channelEnded(error)
    }

    final func leaveChannel() -> AMQPChannel? {
        defer {
            channel = nil
            isReady = false
            retryAt = nil
        }
        return channel
    }

    // MARK: For subclasses

    /// Sends what makes the channel useful and calls `ready()` when the broker has answered.
    func setUp(_ channel: AMQPChannel, names: TopologyDeclaration.Names) {}
    /// The channel is gone; what was in flight on it has no answer.
    func channelEnded(_ error: AMQPError) {}
    func received(_ method: InboundMethod) {}
    func received(_ content: AMQPContent) {}

    // MARK: AMQPChannelOwner

    final func channel(_ channel: AMQPChannel, received method: InboundMethod) {
        received(method)
    }

    final func channel(_ channel: AMQPChannel, received content: AMQPContent) {
        received(content)
    }

    final func channel(_ channel: AMQPChannel, closedBy error: AMQPError) {
        failed(error)
    }
}
