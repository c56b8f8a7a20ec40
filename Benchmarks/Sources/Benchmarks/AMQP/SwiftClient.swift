import AMQP

/// The same runs with our client: a new one for each, ready before the clock starts.
struct SwiftClient {
    private let url: String
    private let queue: String
    private let window: Int
    /// Like the C program's: the same bytes for each message.
    private let body: [UInt8]

    init(url: String, queue: String, size: Int, window: Int) {
        self.url = url
        self.queue = queue
        self.window = window
        body = [UInt8](repeating: UInt8(ascii: "x"), count: size)
    }

    /// Declares the queue, durable and classic.
    func declare() async throws {
        try await withClient { _ in }
    }

    // MARK: Publishing

    /// Two tasks hand over batches as large as the window, so that it does not run dry between them.
    @concurrent
    func publishBatches(_ count: Int) async throws -> Run {
        try await withClient { client in
            let stopwatch = Stopwatch()
            try await withThrowingTaskGroup { group in
                for share in shares(count, of: 2) {
                    group.addTask {
                        for batch in shares(share, of: (share + window - 1) / window) {
                            for outcome in await client.publish((0..<batch).map { _ in message }) { try outcome.get() }
                        }
                    }
                }
                try await group.waitForAll()
            }
            return stopwatch.stop()
        }
    }

    /// As many tasks as the window is wide; each publishes one message at a time and waits for its confirm.
    @concurrent
    func publishOneByOne(_ count: Int) async throws -> Run {
        try await withClient { client in
            let stopwatch = Stopwatch()
            try await withThrowingTaskGroup { group in
                for share in shares(count, of: window) {
                    group.addTask {
                        for _ in 0..<share { try await client.publish(message) }
                    }
                }
                try await group.waitForAll()
            }
            return stopwatch.stop()
        }
    }

    // MARK: Consuming

    /// - Parameter ackEvery: 1 for an ack for each delivery, more for `multiple` after so many.
    @concurrent
    func consume(_ count: Int, prefetch: Int, ackEvery: Int) async throws -> Run {
        try await withClient { client in
            let stopwatch = Stopwatch()
            // Leaving the scope waits until the broker has seen the last ack.
            try await client.consume(queue, prefetch: prefetch) { deliveries in
                var taken = 0
                for await delivery in deliveries {
                    taken += 1
                    if taken % ackEvery == 0 || taken == count { delivery.ack(multiple: ackEvery > 1) }
                    if taken == count { break }
                }
            }
            return stopwatch.stop()
        }
    }

    // MARK: Waiting for each

    /// One message at a time, each until its confirm.
    @concurrent
    func confirmLatency(_ count: Int) async throws -> Run {
        try await withClient { client in
            let stopwatch = Stopwatch()
            var samples: [Double] = []
            for _ in 0..<count {
                let began = ContinuousClock.now
                try await client.publish(message)
                samples.append((ContinuousClock.now - began).inSeconds)
            }
            return stopwatch.stop(samples: samples)
        }
    }

    /// One request at a time, each until its reply; whoever answers is there already.
    @concurrent
    func callLatency(_ count: Int) async throws -> Run {
        try await withClient { client in
            var request = message
            request.properties.deliveryMode = .transient
            let stopwatch = Stopwatch()
            var samples: [Double] = []
            for _ in 0..<count {
                let began = ContinuousClock.now
                _ = try await client.call(request, timeout: .seconds(30))
                samples.append((ContinuousClock.now - began).inSeconds)
            }
            return stopwatch.stop(samples: samples)
        }
    }

    /// Answers requests with their own body while `body` runs.
    func serving<R>(_ body: () async throws -> R) async throws -> R {
        try await withClient { client in
            let serving = Task {
                try await client.consume(queue, prefetch: 16) { requests in
                    for await request in requests {
                        client.reply(to: request, with: AMQPProperties(), body: request.body)
                        request.ack()
                    }
                }
            }
            let result: Result<R, any Error>
            do {
                result = .success(try await body())
            } catch {
                result = .failure(error)
            }
            serving.cancel()
            _ = await serving.result
            return try result.get()
        }
    }

    // MARK: Both at once

    /// Publishes and consumes at once.
    ///
    /// - Parameter progress: called with the number of messages acknowledged so far, each time another `step` are.
    @concurrent
    func stream(_ count: Int, prefetch: Int, step: Int, progress: @Sendable @escaping (Int) -> Void) async throws {
        try await withClient { client in
            try await withThrowingTaskGroup { group in
                group.addTask {
                    for batch in shares(count, of: (count + window - 1) / window) {
                        for outcome in await client.publish((0..<batch).map { _ in message }) { try outcome.get() }
                    }
                }
                group.addTask {
                    try await client.consume(queue, prefetch: prefetch) { deliveries in
                        var taken = 0
                        for await delivery in deliveries {
                            delivery.ack()
                            taken += 1
                            if taken % step == 0 { progress(taken) }
                            if taken == count { break }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    // MARK: -

    private static func topology(_ queue: String) -> AMQPTopology {
        AMQPTopology(queues: [AMQPQueue(name: queue, arguments: ["x-queue-type": "classic"])])
    }

    private var message: AMQPPublishing {
        AMQPPublishing(exchange: "", routingKey: queue, body: body)
    }

    private func withClient<R>(_ body: (AMQPClient) async throws -> R) async throws -> R {
        try await AMQPClient.with(url, topology: Self.topology(queue), confirmWindow: window, body)
    }

    private func shares(_ count: Int, of parts: Int) -> [Int] {
        (0..<parts).map { count * ($0 + 1) / parts - count * $0 / parts }
    }
}
