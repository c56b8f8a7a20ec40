import AMQP
import Dashboard
import Pipeline
import Synchronization

/// The queues of what webhooks are to be told. They are declared when something is first put in or taken out: a monitor without webhooks
/// leaves no trace on the broker.
final class WebhookQueue: WebhookSender {
    /// Messages that the broker has to confirm within one time limit.
    private static let batch = 500

    let schedule: WebhookSchedule
    private let broker: AMQPClient
    private let refusals = Mutex<[String: (error: AMQPError, until: ContinuousClock.Instant)]>([:])

    init(broker: AMQPClient, schedule: WebhookSchedule = .standard) {
        self.broker = broker
        self.schedule = schedule
    }

    /// Without a connection each request fails for want of time.
    var isConnected: Bool {
        switch broker.state {
        case .open, .blocked: true
        case .connecting, .reconnecting, .draining, .closed: false
        }
    }

    /// Returns once a webhook's queues are there.
    private func declare(_ webhook: String) async throws(AMQPError) {
        // Each refusal costs the connection that everybody here uses.
        if let refusal = refusals.withLock({ $0[webhook] }), .now < refusal.until { throw refusal.error }
        // What is added before there is a connection is a condition of it: one wrong queue would keep the whole monitor away.
        guard isConnected else {
            throw AMQPError(.connectionFailed, "There is no connection to RabbitMQ yet on which webhooks' queues could be declared.")
        }
        do throws(AMQPError) {
            try await broker.declare(schedule.topology(of: webhook))
        } catch {
            if [.topologyMismatch, .accessRefused, .notFound].contains(error.code) {
                refusals.withLock { $0[webhook] = (error, .now + .seconds(30)) }
            }
            throw error
        }
    }

    /// By hand: before all that waits.
    func send(_ message: WebhookMessage) async throws {
        try await declare(message.webhook)
        try await broker.publish(.webhook(message, priority: WebhookSchedule.byHand))
    }

    /// Returns once the broker has confirmed it.
    ///
    /// - Parameter delay: seconds, one of the schedule's.
    func send(_ message: WebhookMessage, after delay: Int) async throws(AMQPError) {
        try await declare(message.webhook)
        try await broker.publish(.webhook(message, after: delay))
    }

    /// In order.
    ///
    /// - Throws: the first error. What came before it, and perhaps what came after it, is confirmed.
    func send(_ messages: [WebhookMessage]) async throws(AMQPError) {
        for webhook in Set(messages.map(\.webhook)) { try await declare(webhook) }
        for start in stride(from: 0, to: messages.count, by: Self.batch) {
            let part = messages[start..<min(start + Self.batch, messages.count)]
            for result in await broker.publish(part.map { .webhook($0) }) { try result.get() }
        }
    }

    func sendDead(_ delivery: AMQPDelivery, of webhook: String, because reason: String) async throws(AMQPError) {
        try await broker.publish(.deadLetter(delivery, queue: WebhookSchedule.queue(of: webhook), reason: reason))
    }

    /// How many messages wait to be taken now.
    func depth(of webhook: String) async throws(AMQPError) -> Int {
        try await declare(webhook)
        return try await broker.inspect(WebhookSchedule.queue(of: webhook)).messages
    }

    func consume<R>(_ webhook: String, prefetch: Int, _ body: (AMQPDeliveries) async throws -> R) async throws -> R {
        try await declare(webhook)
        return try await broker.consume(WebhookSchedule.queue(of: webhook), prefetch: prefetch, body)
    }
}
