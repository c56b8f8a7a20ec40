import AMQP
import Pipeline
import ServiceLifecycle

/// Rings whenever the router publishes a fact. What the fact says is read from the ledger, which misses none.
struct FactDoorbell: Service {
    let broker: AMQPClient
    let ring: @Sendable () -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            do {
                try await broker.consume(PipelineTopology.factsAlias, prefetch: 500) { deliveries in
                    for await delivery in deliveries {
                        delivery.ack()
                        ring()
                    }
                }
            } catch is CancellationError {
                return
            } catch let error as AMQPError where error.code == .shutdown || error.code == .cancelled {
                return
            }
        }
    }
}
