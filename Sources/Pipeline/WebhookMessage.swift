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
    private func delay(atLeast seconds: Int) -> Int {
        delays.sorted().first { $0 >= seconds } ?? delays.max() ?? seconds
    }

    /// The priority of what somebody sends by hand: who looks at the page does not wait behind all that waits already.
    package static let byHand = 1

    /// A removed webhook's queue goes when nobody has consumed from it for so many days.
    private static let expiry = 7

    /// Each webhook has one, so that a receiver that is slow or dead holds up nobody else's messages.
    package static func queue(of webhook: String) -> String { "dcm.webhooks.\(webhook).v1" }

    static func waitingQueue(_ delay: Int) -> String { "dcm.webhooks.retry.\(name(delay)).v1" }

    /// - Parameters:
    ///   - delay: seconds; nil for now.
    ///   - webhook: an id, or `*`.
    static func key(_ delay: Int?, _ webhook: String) -> String { "\(delay.map(name) ?? "now").\(webhook)" }

    /// `10s`, `1m`, `6h`.
    static func name(_ seconds: Int) -> String {
        if seconds % 3600 == 0 { return "\(seconds / 3600)h" }
        return seconds % 60 == 0 ? "\(seconds / 60)m" : "\(seconds)s"
    }

    /// The queue of a webhook, and those in which what it did not accept waits. A waiting queue's dead-letter exchange brings a message
    /// back to its webhook, whose id is the key's last word.
    package func topology(of webhook: String) -> AMQPTopology {
        let own = AMQPTopology(
            exchanges: [
                AMQPExchange(name: PipelineExchange.webhooks, kind: .topic),
                AMQPExchange(name: PipelineExchange.webhooksRetry, kind: .topic),
                AMQPExchange(name: PipelineExchange.deadLetter, kind: .topic),
            ],
            queues: [
                AMQPQueue(
                    name: Self.queue(of: webhook),
                    arguments: [
                        "x-queue-type": "classic", "x-queue-version": 2, "x-dead-letter-exchange": .string(PipelineExchange.deadLetter),
                        "x-max-priority": .int64(Int64(Self.byHand)), "x-expires": .int64(Int64(Self.expiry) * 86_400_000),
                    ])
            ],
            bindings: [AMQPBinding(queue: Self.queue(of: webhook), exchange: PipelineExchange.webhooks, routingKey: "*.\(webhook)")])
        return Set(delays).sorted().map { delay in
            AMQPTopology(
                queues: [
                    AMQPQueue(
                        name: Self.waitingQueue(delay),
                        arguments: [
                            "x-queue-type": "classic",
                            "x-message-ttl": .int64(Int64(delay) * 1000),
                            "x-dead-letter-exchange": .string(PipelineExchange.webhooks),
                        ])
                ],
                bindings: [
                    AMQPBinding(
                        queue: Self.waitingQueue(delay), exchange: PipelineExchange.webhooksRetry, routingKey: Self.key(delay, "*"))
                ])
        }.reduce(own, +)
    }
}

extension AMQPPublishing {
    /// - Parameter delay: seconds, one of the schedule's; nil for now.
    package static func webhook(_ message: WebhookMessage, after delay: Int? = nil, priority: Int? = nil) -> AMQPPublishing {
        .pipeline(
            exchange: delay == nil ? PipelineExchange.webhooks : PipelineExchange.webhooksRetry,
            routingKey: WebhookSchedule.key(delay, message.webhook), type: WebhookMessage.type, body: message, messageID: message.id,
            priority: priority)
    }
}
