import AMQP
import Stack
import Synchronization
import Testing

/// Everything a client can do, over and over, while something is broken under it: publishes, consumes, calls, declares, inspects.
///
/// The client under test goes through a proxy, if there is one; another one, straight to the broker, answers the calls and reads the
/// queue at the end.
final class FaultWorkload: Sendable {
    enum Operation: String, CaseIterable, Sendable {
        case publish, call, declare, inspect
    }

    /// Short limits, so that a test sees each of them expire.
    static func configure(_ configuration: inout AMQPConfiguration) {
        configuration.heartbeat = .seconds(1)
        configuration.publishTimeout = limit
        configuration.requestTimeout = limit
        configuration.connectTimeout = .seconds(2)
        configuration.drainTimeout = .seconds(2)
        configuration.backoff = .init(initial: .milliseconds(20), maximum: .milliseconds(100))
    }

    /// Of each operation: publish, call, declare, inspect.
    static let limit = Duration.seconds(2)
    /// Two cores that others use too: a limit is a limit when it is kept within this.
    static let slack = Duration.seconds(3)

    let client: AMQPClient
    let ledger = QueueLedger()
    private let queue: String
    private let echo: String
    private let padding: String
    private let longest = Mutex<[Operation: Duration]>([:])
    private let done = Mutex<[Operation: Int]>([:])

    private init(client: AMQPClient, queue: String, echo: String, padding: Int) {
        self.padding = padding > 0 ? " " + String(repeating: "x", count: padding) : ""
        self.client = client
        self.queue = queue
        self.echo = echo
    }

    /// Starts the workload, waits for traffic, breaks something and mends it (`fault`), waits until everything works again, and checks
    /// the ledger and the longest waits.
    static func run(
        through proxy: FaultProxy? = nil,
        uri: String? = nil,
        padding: Int = 0,
        configure: (inout AMQPConfiguration) -> Void = { _ in },
        _ name: String,
        _ location: SourceLocation = #_sourceLocation,
        fault: (FaultWorkload) async throws -> Void,
    ) async throws {
        let node = try #require(Broker.current?.node)
        let (queue, echo) = (unique("fault"), unique("echo"))
        let topology = AMQPTopology(queues: [classicQueue(queue)])
        try await withClient(AMQPTopology(queues: [classicQueue(queue), classicQueue(echo)])) { clean in
            let server = Task {
                try await clean.consume(echo, prefetch: 100) { requests in
                    for await request in requests {
                        clean.reply(to: request, with: AMQPProperties(), body: request.body)
                        request.ack()
                    }
                }
            }
            defer { server.cancel() }
            let uri = uri ?? proxy.map { "amqp://\(node.user):\(node.password)@127.0.0.1:\($0.port)/\(node.virtualHost)" }
            let ledger = try await withClient(
                topology,
                uri: uri,
                configure: {
                    Self.configure(&$0)
                    configure(&$0)
                }
            ) { client in
                let workload = FaultWorkload(client: client, queue: queue, echo: echo, padding: padding)
                try await workload.drive(name, location, fault: fault)
                return workload.ledger
            }
            // What the consumer had in hand at the end is in the queue again.
            try await eventually(within: .seconds(60), "\(name): the queue is read to its end") {
                let left = try await clean.inspect(queue)
                guard left.messages > 0 else { return left.consumers == 0 }
                for delivery in try await clean.take(left.messages, from: queue) { ledger.receive(delivery) }
                return false
            }
            print("  \(name): \(ledger.summary)")
            ledger.verify(location)
        }
    }

    private func drive(
        _ name: String,
        _ location: SourceLocation,
        fault: (FaultWorkload) async throws -> Void,
    ) async throws {
        let tasks = start()
        let result: Result<Void, any Error>
        do {
            try await works("\(name): before the fault")
            resetWaits()
            try await fault(self)
            try await works("\(name): after the fault")
            result = .success(())
        } catch {
            result = .failure(error)
        }
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
        try result.get()
        let waits = longest.withLock { $0 }
        let text = Operation.allCases.map { "\($0) \(waits[$0, default: .zero].seconds) of \(Self.limit.seconds)" }
        print("  \(name): longest waits \(text.joined(separator: ", "))")
        for operation in Operation.allCases {
            #expect(waits[operation, default: .zero] < Self.limit + Self.slack, "\(name): \(operation) hung", sourceLocation: location)
        }
    }

    /// Waits until each operation has succeeded again and what was confirmed has come out.
    func works(_ when: String, within limit: Duration = .seconds(60)) async throws {
        let before = done.withLock { $0 }
        let (confirmed, received) = (ledger.confirmed, ledger.received)
        try await eventually(within: limit, "\(when): everything works (\(ledger.summary); \(client.state))") {
            let now = done.withLock { $0 }
            return Operation.allCases.allSatisfy { now[$0, default: 0] > before[$0, default: 0] } && ledger.confirmed > confirmed + 20
                && ledger.received > received + 20
        }
    }

    private func resetWaits() {
        longest.withLock { $0 = [:] }
    }

    private func start() -> [Task<Void, any Error>] {
        var tasks = (0..<2).map { _ in Task { await self.publishForever() } } as [Task<Void, any Error>]
        tasks.append(Task { try await self.consumeForever() })
        for operation in [Operation.call, .declare, .inspect] {
            tasks.append(
                Task {
                    var round = 0
                    while !Task.isCancelled {
                        round += 1
                        await self.timed(operation) { () async throws(AMQPError) in
                            switch operation {
                            case .call:
                                let reply = try await self.client.call(message(to: self.echo, "\(round)"), timeout: Self.limit)
                                #expect(reply.body == Array("\(round)".utf8))
                            case .declare:
                                // New each time: what was declared once is not sent again.
                                let binding = AMQPBinding(queue: self.queue, exchange: "amq.direct", routingKey: "\(round)")
                                try await self.client.declare(AMQPTopology(bindings: [binding]))
                            case .inspect, .publish: _ = try await self.client.inspect(self.queue)
                            }
                        }
                        try await Task.sleep(for: .milliseconds(operation == .declare ? 150 : 20))
                    }
                }
            )
        }
        return tasks
    }

    private func publishForever() async {
        var random = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            let numbers = ledger.attempt([1, 1, 20].randomElement(using: &random)!)
            let batch = numbers.map { message(to: queue, "\($0)\(padding)") }
            var failed = false
            let start = ContinuousClock.now
            for (number, outcome) in zip(numbers, await client.publish(batch)) {
                ledger.settle(number, outcome)
                if case .failure = outcome { failed = true }
            }
            note(.publish, since: start, succeeded: !failed)
            try? await Task.sleep(for: .milliseconds(2))
        }
    }

    private func consumeForever() async throws {
        try await client.consume(queue, prefetch: 50) { deliveries in
            for await delivery in deliveries {
                ledger.receive(delivery)
                delivery.ack()
            }
        }
    }

    private func timed(_ operation: Operation, _ body: () async throws(AMQPError) -> Void) async {
        let start = ContinuousClock.now
        do throws(AMQPError) {
            try await body()
            note(operation, since: start, succeeded: true)
        } catch {
            let expected: Set<AMQPError.Code> = [.connectionLost, .channelClosed, .timeout, .cancelled]
            #expect(expected.contains(error.code), "\(operation): \(error)")
            note(operation, since: start, succeeded: false)
        }
    }

    private func note(_ operation: Operation, since start: ContinuousClock.Instant, succeeded: Bool) {
        let wait = ContinuousClock.now - start
        longest.withLock { $0[operation] = max($0[operation, default: .zero], wait) }
        if succeeded { done.withLock { $0[operation, default: 0] += 1 } }
    }
}

extension Duration {
    /// For people: `1.25 s`.
    var seconds: String {
        let hundredths = Int(self / .milliseconds(10))
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) s"
    }
}

extension FaultWorkload {
    /// Waits until publishes have failed, the client has noticed, and it has tried to come back so often.
    func suffers(reconnects: Int, through proxy: FaultProxy) async throws {
        let before = (failures: ledger.failures.values.reduce(0, +), accepted: proxy.accepted)
        try await eventually(within: .seconds(40), "Publishes fail and connections are tried (\(ledger.summary); \(client.state))") {
            ledger.failures.values.reduce(0, +) > before.failures + 2 && proxy.accepted >= before.accepted + reconnects
        }
    }
}
