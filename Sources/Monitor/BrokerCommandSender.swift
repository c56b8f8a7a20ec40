import AMQP
import Dashboard
import Pipeline

/// Hands commands to the broker, confirmed.
struct BrokerCommandSender: CommandSender {
    let broker: AMQPClient

    var isConnected: Bool {
        switch broker.state {
        case .open, .blocked: true
        case .connecting, .reconnecting, .draining, .closed: false
        }
    }

    func send(_ command: CommandMessage) async throws {
        try await broker.publish(
            .pipeline(
                exchange: PipelineExchange.router, routingKey: PipelineKey.command, type: CommandMessage.type, body: command,
                messageID: command.id))
    }
}
