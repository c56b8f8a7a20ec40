import AMQP
import Dashboard

/// Looks at the broker's queues without touching what is in them.
struct MonitoredQueues: BrokerQueues {
    let broker: AMQPClient

    func depth(of queue: String) async -> QueueDepth? {
        guard let status = try? await broker.inspect(queue) else { return nil }
        return QueueDepth(messages: status.messages, consumers: status.consumers)
    }
}
