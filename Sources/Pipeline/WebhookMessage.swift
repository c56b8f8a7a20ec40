package import AMQP
import Jobs

/// What waits on the broker to be told to one webhook.
package struct WebhookMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.webhook.v1"

    /// The delivery's id: the same for every try.
    package var id: String
    package var webhook: String
    /// A later round makes messages of an earlier one worthless.
    package var round: Int
    /// Which try of the round this is, from 1.
    package var attempt: Int
    package var event: String
    /// The document as it is sent.
    package var body: String

    package init(id: String, webhook: String, round: Int, attempt: Int, event: String, body: String) {
        self.id = id
        self.webhook = webhook
        self.round = round
        self.attempt = attempt
        self.event = event
        self.body = body
    }
}

/// When a message that was not accepted is tried again, and the queues in which it waits for that.
package struct WebhookSchedule: Sendable, Hashable {
    /// Seconds before the second try, the third, and so on.
    package var delays: [Int]

    package init(delays: [Int]) {
        precondition(!delays.isEmpty && delays.allSatisfy { $0 > 0 }, "a message is tried again after some time")
        self.delays = delays
    }

    /// Seven hours in all: a receiver's night of maintenance.
    package static let standard = WebhookSchedule(delays: [10, 60, 600, 3600, 6 * 3600])

    /// - Parameters:
    ///   - attempt: the try that failed, from 1.
    ///   - wish: seconds that the receiver asks for.
    /// - Returns: nil when it was the last one.
    package func delay(afterAttempt attempt: Int, atLeast wish: Int = 0) -> Int? {
        guard attempt <= delays.count else { return nil }
        return delay(atLeast: max(delays[attempt - 1], wish))
    }

    /// The shortest of the delays that is long enough, or the longest there is.
    package func delay(atLeast seconds: Int) -> Int {
        delays.sorted().first { $0 >= seconds } ?? delays.max() ?? seconds
    }

    /// - Parameters:
    ///   - turn: seconds until its turn may have come.
    ///   - least: seconds that it waits at least, where there is such a delay.
    /// - Returns: the longest delay that ends before its turn, of at most ten minutes: a receiver that is back is soon noticed.
    package func delay(untilTurn turn: Double, atLeast least: Int = 0) -> Int {
        let sorted = delays.sorted()
        let fitting = sorted.last { Double($0) <= min(turn, 600) } ?? sorted[0]
        return max(fitting, delay(atLeast: min(least, 600)))
    }

    package static let queue = "dcm.webhooks.v1"
    static let key = "deliver"

    static func waitingQueue(_ delay: Int) -> String { "dcm.webhooks.retry.\(name(delay)).v1" }

    /// `10s`, `1m`, `6h`.
    static func name(_ seconds: Int) -> String {
        if seconds % 3600 == 0 { return "\(seconds / 3600)h" }
        return seconds % 60 == 0 ? "\(seconds / 60)m" : "\(seconds)s"
    }

    /// Declared when there is a webhook, and not before. A waiting queue's dead-letter exchange brings the message back.
    package var topology: AMQPTopology {
        let work = AMQPTopology(
            exchanges: [
                AMQPExchange(name: PipelineExchange.webhooks, kind: .direct), AMQPExchange(name: PipelineExchange.deadLetter, kind: .topic),
            ],
            queues: [
                AMQPQueue(
                    name: Self.queue,
                    arguments: [
                        "x-queue-type": "classic", "x-queue-version": 2, "x-dead-letter-exchange": .string(PipelineExchange.deadLetter),
                    ])
            ],
            bindings: [AMQPBinding(queue: Self.queue, exchange: PipelineExchange.webhooks, routingKey: Self.key)])
        return Set(delays).sorted().map { delay in
            AMQPTopology(
                queues: [
                    AMQPQueue(
                        name: Self.waitingQueue(delay),
                        arguments: [
                            "x-queue-type": "classic",
                            "x-message-ttl": .int64(Int64(delay) * 1000),
                            "x-dead-letter-exchange": .string(PipelineExchange.webhooks),
                            "x-dead-letter-routing-key": .string(Self.key),
                        ])
                ],
                bindings: [
                    AMQPBinding(queue: Self.waitingQueue(delay), exchange: PipelineExchange.webhooks, routingKey: Self.name(delay))
                ])
        }.reduce(work, +)
    }
}

extension AMQPPublishing {
    /// - Parameter delay: seconds, one of the schedule's; nil for now.
    package static func webhook(_ message: WebhookMessage, after delay: Int? = nil) -> AMQPPublishing {
        .pipeline(
            exchange: PipelineExchange.webhooks, routingKey: delay.map(WebhookSchedule.name) ?? WebhookSchedule.key,
            type: WebhookMessage.type, body: message, messageID: message.id)
    }
}
