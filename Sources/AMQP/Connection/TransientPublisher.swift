import Metrics

/// Publishes without confirms: fast, and lost when there is no connection.
final class TransientPublisher: ChannelUser {
    private let metrics: AMQPMetrics

    init(configuration: AMQPConfiguration, metrics: AMQPMetrics) {
        self.metrics = metrics
        super.init(name: "transient publisher", backoff: configuration.backoff)
    }

    override func setUp(_ channel: AMQPChannel, names: TopologyDeclaration.Names) {
        // The channel is usable as soon as open was sent: the broker handles frames in order.
        ready()
    }

    func publish(_ message: AMQPPublishing, link: AMQPLink?) {
        guard isReady, let channel, let link, link.blockedReason == nil, link.backlog < 4 << 20,
            channel.publish(message, properties: message.properties, mandatory: false)
        else { return metrics.dropped.increment() }
        metrics.published.increment()
    }
}
