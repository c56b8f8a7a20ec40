import AMQP
import Jobs
import Pipeline

/// Hands events to the router. Returns only when the event cannot be lost any more.
protocol EventPublishing: Sendable {
    func publish(_ event: EventMessage) async throws
}

/// Publishes to the broker and waits for its confirm.
struct BrokerEventPublisher: EventPublishing {
    let client: AMQPClient

    func publish(_ event: EventMessage) async throws {
        do {
            try await client.publish(
                .pipeline(
                    exchange: PipelineExchange.ingest,
                    routingKey: PipelineKey.ingest(level: event.level, isFiltered: event.filtered != nil),
                    type: EventMessage.type,
                    body: event,
                    messageID: event.snapshot
                )
            )
        } catch let error where error.code == .timeout {
            // Why there is no connection says more than that there was none.
            if case .reconnecting(let cause) = client.state { throw cause }
            throw error
        }
    }
}
