import AMQP
import Dashboard
import Pipeline
import Synchronization

/// The queues of what webhooks are to be told. They are declared when something is first put in or taken out: a monitor without webhooks
/// leaves no trace on the broker.
final class WebhookQueue: WebhookSender {
    let schedule: WebhookSchedule
    private let broker: AMQPClient
    private let declared = Mutex(Declared.no)

    private enum Declared {
        case no, yes
        case refused(AMQPError, until: ContinuousClock.Instant)
    }

    init(broker: AMQPClient, schedule: WebhookSchedule = .standard) {
        self.broker = broker
        self.schedule = schedule
    }

    /// Returns once the queues are there.
    func declare() async throws(AMQPError) {
        switch declared.withLock({ $0 }) {
        case .yes: return
        // Each refusal costs the connection that everybody here uses.
        case .refused(let error, let until) where .now < until: throw error
        case .refused, .no: break
        }
        // What is added before there is a connection is a condition of it: one wrong queue would keep the whole monitor away.
        switch broker.state {
        case .open, .blocked: break
        default: throw AMQPError(.connectionFailed, "There is no connection to RabbitMQ yet on which webhooks' queues could be declared.")
        }
        do throws(AMQPError) {
            try await broker.declare(schedule.topology)
        } catch {
            if [.topologyMismatch, .accessRefused, .notFound].contains(error.code) {
                declared.withLock { $0 = .refused(error, until: .now + .seconds(30)) }
            }
            throw error
        }
        declared.withLock { $0 = .yes }
    }

    func send(_ message: WebhookMessage) async throws { try await send(message, after: nil) }

    /// Returns once the broker has confirmed it.
    ///
    /// - Parameter delay: seconds, one of the schedule's.
    func send(_ message: WebhookMessage, after delay: Int?) async throws(AMQPError) {
        try await declare()
        try await broker.publish(.webhook(message, after: delay))
    }

    /// In order.
    ///
    /// - Throws: the first error. What came before it, and perhaps what came after it, is confirmed.
    func send(_ messages: [WebhookMessage]) async throws(AMQPError) {
        try await declare()
        for result in await broker.publish(messages.map { .webhook($0) }) { try result.get() }
    }

    func sendDead(_ delivery: AMQPDelivery, because reason: String) async throws(AMQPError) {
        try await broker.publish(.deadLetter(delivery, queue: WebhookSchedule.queue, reason: reason))
    }

    /// How many messages wait to be taken now.
    func depth() async throws(AMQPError) -> Int {
        try await declare()
        return try await broker.inspect(WebhookSchedule.queue).messages
    }

    func consume<R>(prefetch: Int, _ body: (AMQPDeliveries) async throws -> R) async throws -> R {
        try await declare()
        return try await broker.consume(WebhookSchedule.queue, prefetch: prefetch, body)
    }
}
