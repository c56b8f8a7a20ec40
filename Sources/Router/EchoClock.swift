import AMQP
import Foundation
import Pipeline

/// Writes and reads the router's messages to itself; see ``LeaseWatch``.
struct EchoClock: Sendable {
    private let router = UUID().uuidString
    private let start = ContinuousClock.now

    func message() -> AMQPPublishing {
        .pipeline(
            exchange: PipelineExchange.router, routingKey: PipelineKey.renew, type: EchoMessage.type,
            body: EchoMessage(router: router, sent: (ContinuousClock.now - start) / .seconds(1)), persistent: false, mandatory: false)
    }

    /// - Returns: when it was sent; nil for one that another process has sent.
    func sent(_ message: EchoMessage) -> ContinuousClock.Instant? {
        guard message.router == router else { return nil }
        let instant = start + .seconds(message.sent)
        return instant <= .now ? instant : nil
    }
}
