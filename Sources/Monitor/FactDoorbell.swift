import AMQP
import Pipeline
import ServiceLifecycle

/// Rings whenever the router publishes a fact. What the fact says is read from the ledger, which misses none. Passes on what the router
/// says of itself.
struct FactDoorbell: Service {
    let broker: AMQPClient
    let ring: @Sendable () -> Void
    var note: @Sendable (VitalsMessage) -> Void = { _ in }

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            do {
                try await broker.consume(PipelineTopology.factsAlias, prefetch: 500) { deliveries in
                    for await delivery in deliveries {
                        delivery.ack()
                        guard delivery.properties.type == VitalsMessage.type else {
                            ring()
                            continue
                        }
                        if let vitals = try? delivery.decode(VitalsMessage.self, type: VitalsMessage.type) { note(vitals) }
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
