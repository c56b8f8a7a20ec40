import AMQP
import Foundation
import Stack
import Synchronization

/// What the same broker and the same client do when nobody thinks in between: what the router is compared with.
struct BareBroker {
    let broker: PrivateBroker
    let seconds: Int

    /// About what a claim's answer has.
    private static let replyBody = [UInt8](repeating: UInt8(ascii: "x"), count: 2500)
    private static let body = [UInt8](repeating: UInt8(ascii: "x"), count: 250)
    private static let requests = "bench.requests"
    private static let sink = "bench.sink"

    private static let topology = AMQPTopology(queues: [
        AMQPQueue(name: requests, arguments: ["x-queue-type": "classic", "x-queue-version": 2]),
        // What nobody reads must not pile up.
        AMQPQueue(name: sink, arguments: ["x-queue-type": "classic", "x-queue-version": 2, "x-max-length": 1000]),
    ])

    struct Rates {
        /// Requests a second, each until its reply.
        var calls: Run
        /// Persistent messages, each until its confirm.
        var publishes: Run
        /// Both, one after the other: what a worker asks of the broker for a job.
        var both: Run
        var count: (calls: Int, publishes: Int, both: Int)
    }

    /// - Parameter parallel: how many tasks do it at a time.
    func rates(parallel: Int) async throws -> Rates {
        try await withEcho { client in
            let calls = try await repeated(parallel) { try await call(client) }
            let publishes = try await repeated(parallel) { try await publish(client) }
            let both = try await repeated(parallel) {
                try await call(client)
                try await publish(client)
            }
            return Rates(calls: calls.run, publishes: publishes.run, both: both.run, count: (calls.count, publishes.count, both.count))
        }
    }

    /// From before the publishing of one persistent message to its delivery, one at a time.
    func hop() async throws -> Run {
        try await withEcho { client in
            try await client.consume(Self.sink, prefetch: 2) { deliveries in
                var samples: [Double] = []
                var began = ContinuousClock.now
                let stopwatch = Stopwatch()
                let end = began + .seconds(seconds)
                // What earlier runs have left comes first.
                var left = try await client.inspect(Self.sink).messages
                try await publish(client)
                for await delivery in deliveries {
                    delivery.ack()
                    if left > 0 {
                        left -= 1
                        continue
                    }
                    samples.append((ContinuousClock.now - began).inSeconds)
                    guard ContinuousClock.now < end else { break }
                    began = .now
                    try await publish(client)
                }
                return stopwatch.stop(samples: samples)
            }
        }
    }

    private func call(_ client: AMQPClient) async throws {
        var request = message(Self.requests)
        request.properties.deliveryMode = .transient
        _ = try await client.call(request, timeout: .seconds(60))
    }

    private func publish(_ client: AMQPClient) async throws { try await client.publish(message(Self.sink)) }

    private func message(_ queue: String) -> AMQPPublishing { AMQPPublishing(exchange: "", routingKey: queue, body: Self.body) }

    /// A client of its own answers.
    private func withEcho<R>(_ body: (AMQPClient) async throws -> R) async throws -> R {
        try await AMQPClient.with(broker.amqpURL, topology: Self.topology) { server in
            let serving = Task {
                try await server.consume(Self.requests, prefetch: 256) { requests in
                    for await request in requests {
                        server.reply(to: request, with: AMQPProperties(), body: Self.replyBody)
                        request.ack()
                    }
                }
            }
            defer { serving.cancel() }
            return try await AMQPClient.with(broker.amqpURL, topology: Self.topology, body)
        }
    }

    @concurrent
    private func repeated(
        _ parallel: Int, _ body: @Sendable @escaping () async throws -> Void
    ) async throws -> (run: Run, count: Int) {
        let stopwatch = Stopwatch()
        let end = ContinuousClock.now + .seconds(seconds)
        let samples = try await withThrowingTaskGroup(of: [Double].self) { group in
            for _ in 0..<parallel {
                group.addTask {
                    var samples: [Double] = []
                    while ContinuousClock.now < end {
                        let began = ContinuousClock.now
                        try await body()
                        samples.append((ContinuousClock.now - began).inSeconds)
                    }
                    return samples
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        return (stopwatch.stop(samples: samples), samples.count)
    }
}
