package import AMQP
import Jobs

/// What each service declares at every connect. Declaring what exists already is free; what exists otherwise is an error.
package enum PipelineTopology {
    /// The monitor's own feed of facts; the broker names the queue.
    package static let factsAlias = "dcm.facts"

    /// Ingest declares the router's queue too, so that no event is unroutable before the first router starts.
    package static func ingest() -> AMQPTopology {
        common + events
    }

    package static func router(channels: [String]) -> AMQPTopology {
        channels.map(channel).reduce(common + events + requests + commands, +)
    }

    package static func worker(id: String, channels: [String]) -> AMQPTopology {
        let control = AMQPTopology(
            queues: [
                AMQPQueue(
                    name: PipelineQueue.control(worker: id), durable: false, exclusive: true, autoDelete: true,
                    arguments: ["x-queue-type": "classic"])
            ],
            bindings: [AMQPBinding(queue: PipelineQueue.control(worker: id), exchange: PipelineExchange.control, routingKey: "")]
        )
        return channels.map(channel).reduce(common + requests + control, +)
    }

    package static func monitor() -> AMQPTopology {
        common + commands
            + AMQPTopology(
                queues: [.serverNamed(factsAlias)],
                bindings: [AMQPBinding(queue: factsAlias, exchange: PipelineExchange.events, routingKey: "#")]
            )
    }

    /// A channel's job queue and its delay queues. A delay queue's dead-letter exchange brings the hint back to the job queue.
    package static func channel(_ name: String) -> AMQPTopology {
        let jobs = AMQPTopology(
            queues: [work(PipelineQueue.jobs(channel: name), ["x-max-priority": .int64(Int64(Priority.urgent.rawValue))])],
            bindings: [AMQPBinding(queue: PipelineQueue.jobs(channel: name), exchange: PipelineExchange.jobs, routingKey: name)]
        )
        return RetryDelay.allCases.map { delay in
            let queue = PipelineQueue.retry(channel: name, delay: delay)
            return AMQPTopology(
                queues: [
                    AMQPQueue(
                        name: queue,
                        arguments: [
                            "x-queue-type": "classic",
                            "x-message-ttl": .int64(Int64(delay.seconds) * 1000),
                            "x-dead-letter-exchange": .string(PipelineExchange.jobs),
                            "x-dead-letter-routing-key": .string(name),
                        ])
                ],
                bindings: [
                    AMQPBinding(
                        queue: queue, exchange: PipelineExchange.retry, routingKey: PipelineKey.retry(channel: name, delay: delay))
                ]
            )
        }.reduce(jobs, +)
    }

    private static var common: AMQPTopology {
        AMQPTopology(
            exchanges: [
                AMQPExchange(name: PipelineExchange.ingest, kind: .topic),
                AMQPExchange(name: PipelineExchange.jobs, kind: .direct),
                AMQPExchange(name: PipelineExchange.retry, kind: .direct),
                AMQPExchange(name: PipelineExchange.router, kind: .direct),
                AMQPExchange(name: PipelineExchange.control, kind: .fanout),
                AMQPExchange(name: PipelineExchange.events, kind: .topic),
                AMQPExchange(name: PipelineExchange.deadLetter, kind: .topic),
            ],
            queues: [
                AMQPQueue(name: PipelineQueue.dead, arguments: ["x-queue-type": "classic"]),
                AMQPQueue(name: PipelineQueue.deadRecord, arguments: ["x-queue-type": "classic"]),
            ],
            bindings: [
                AMQPBinding(queue: PipelineQueue.dead, exchange: PipelineExchange.deadLetter, routingKey: "#"),
                AMQPBinding(queue: PipelineQueue.deadRecord, exchange: PipelineExchange.deadLetter, routingKey: "#"),
            ]
        )
    }

    private static var events: AMQPTopology {
        AMQPTopology(
            queues: [work(PipelineQueue.ingest)],
            bindings: [AMQPBinding(queue: PipelineQueue.ingest, exchange: PipelineExchange.ingest, routingKey: "#")]
        )
    }

    private static var requests: AMQPTopology {
        AMQPTopology(
            // No dead-letter exchange for claims and renewals: while the router is away they expire, and whoever sent them asks again.
            queues: [
                AMQPQueue(name: PipelineQueue.claims, arguments: ["x-queue-type": "classic", "x-queue-version": 2]),
                work(PipelineQueue.results),
            ],
            bindings: [
                AMQPBinding(queue: PipelineQueue.claims, exchange: PipelineExchange.router, routingKey: PipelineKey.claim),
                AMQPBinding(queue: PipelineQueue.claims, exchange: PipelineExchange.router, routingKey: PipelineKey.renew),
                AMQPBinding(queue: PipelineQueue.results, exchange: PipelineExchange.router, routingKey: PipelineKey.result),
            ]
        )
    }

    private static var commands: AMQPTopology {
        AMQPTopology(
            queues: [work(PipelineQueue.commands)],
            bindings: [AMQPBinding(queue: PipelineQueue.commands, exchange: PipelineExchange.router, routingKey: PipelineKey.command)]
        )
    }

    /// A queue whose rejected messages stay visible. Storage version 2 keeps the small bodies of ours in the queue's index.
    private static func work(_ name: String, _ more: AMQPTable = [:]) -> AMQPQueue {
        let arguments: AMQPTable = [
            "x-queue-type": "classic",
            "x-queue-version": 2,
            "x-dead-letter-exchange": .string(PipelineExchange.deadLetter),
        ]
        return AMQPQueue(name: name, arguments: arguments.merging(more) { _, new in new })
    }
}
