import AMQP
import Foundation
import Stack
import TestSupport
import Testing

extension AMQPBrokerTests {
    /// What the network does to us, by a proxy between client and broker. Each test runs the whole workload, breaks the network under it,
    /// mends it, and checks that what was confirmed is in the queue, that the rest was reported in time, and that all of it goes on.
    @Suite(.enabled(if: Broker.isOurs, "needs a broker of its own, to count on its ports"))
    struct Fault {
        private func proxy(rewrite: FaultProxy.Rewrite? = nil) throws -> FaultProxy {
            try FaultProxy(to: #require(Broker.current?.node).port, rewrite: rewrite)
        }

        @Test func `connections that are reset again and again`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "reset") { workload in
                for round in 0..<10 {
                    proxy.reset()
                    try await workload.works("reset \(round)")
                }
            }
        }

        @Test func `the broker's side is closed and nobody tells us`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "half-open, broker's side closed") { workload in
                let before = proxy.accepted
                proxy.close(.broker)
                try await eventually(within: .seconds(60), "Two new connections") { proxy.accepted >= before + 2 }
            }
        }

        @Test func `our side is closed and nobody tells the broker`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "half-open, client's side closed") { workload in
                let before = proxy.accepted
                proxy.close(.client)
                try await eventually(within: .seconds(60), "Two new connections") { proxy.accepted >= before + 2 }
            }
        }

        @Test(arguments: FaultProxy.Direction.allCases)
        func `one direction loses everything, the end of the stream too`(_ direction: FaultProxy.Direction) async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "swallowed \(direction)") { workload in
                proxy.set(.swallow, direction)
                try await workload.suffers(reconnects: 4, through: proxy)
                proxy.set(.pass)
            }
        }

        @Test func `a black hole while everything runs`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "black hole") { workload in
                proxy.set(.stall)
                try await workload.suffers(reconnects: 4, through: proxy)
                proxy.set(.pass)
            }
        }

        @Test func `a black hole under messages that fill the socket`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, padding: 200_000, "black hole, large messages") { workload in
                proxy.set(.stall)
                try await workload.suffers(reconnects: 4, through: proxy)
                proxy.set(.pass)
            }
        }

        @Test func `a line of one byte a second`() async throws {
            let proxy = try proxy()
            try await FaultWorkload.run(through: proxy, "1 B/s") { workload in
                proxy.set(.throttle(bytesPerSecond: 1))
                try await eventually(within: .seconds(60), "Publishes time out") { workload.ledger.failures[.timeout, default: 0] > 10 }
                // A new connection gets no further than its login.
                let before = proxy.accepted
                proxy.reset()
                try await eventually(within: .seconds(60), "New connections") { proxy.accepted >= before + 4 }
                proxy.set(.pass)
            }
        }

        @Test func `connections cut in the middle of a frame, wherever that is`() async throws {
            let proxy = try proxy()
            var random = SeededGenerator(seed: SeededGenerator.runSeed)
            try await FaultWorkload.run(through: proxy, "cut, seed \(SeededGenerator.runSeed)") { workload in
                for direction in FaultProxy.Direction.allCases {
                    for _ in 0..<60 {
                        // Login, topology, channels and traffic: about 600 bytes to us until the first message.
                        let before = proxy.accepted
                        proxy.set(.cut(after: .random(in: 1...2500, using: &random)), direction)
                        try await eventually("Two are cut") { proxy.accepted >= before + 2 }
                    }
                    proxy.set(.pass)
                    try await workload.works("cut \(direction)")
                }
            }
        }

        @Test func `connections cut while a large topology is declared`() async throws {
            let proxy = try proxy()
            let names = (0..<150).map { unique("many\($0)") }
            let topology = AMQPTopology(
                queues: names.map { classicQueue($0) },
                bindings: names.map { AMQPBinding(queue: $0, exchange: "amq.topic", routingKey: $0) },
            )
            var random = SeededGenerator(seed: SeededGenerator.runSeed)
            // What it takes when nothing is cut: two connections.
            let whole = try await withProxiedClient(proxy, topology) { _, _ in proxy.forwarded(.toClient) / 2 }
            proxy.set(.cut(after: whole / 2), .toClient)
            try await withProxiedClient(proxy, topology, ready: false) { client, queue in
                for _ in 0..<20 {
                    let before = proxy.accepted
                    try await eventually("Two are cut, seed \(SeededGenerator.runSeed)") {
                        // A connection that was half through when the next limit came may have got through with it.
                        if client.state == .open { proxy.reset() }
                        return proxy.accepted >= before + 2
                    }
                    proxy.set(.cut(after: .random(in: 600...whole - 600, using: &random)), .toClient)
                }
                proxy.set(.pass)
                try await client.wait(for: "open") { $0 == .open }
                try await client.publish(message(to: names.last!, "after"))
                let texts = try await client.take(1, from: names.last!).map(\.text)
                #expect(texts == ["after"])
            }
        }

        // MARK: Idle, at the connect, at the end

        @Test func `a black hole under an idle client is noticed within two heartbeats`() async throws {
            let proxy = try proxy()
            try await withProxiedClient(proxy) { client, queue in
                let start = ContinuousClock.now
                proxy.set(.stall)
                try await client.wait(within: .seconds(2) + FaultWorkload.slack, for: "reconnecting") {
                    if case .reconnecting = $0 { true } else { false }
                }
                print("  black hole, idle: noticed after \((ContinuousClock.now - start).seconds) of 2.00 s")
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.code == .connectionLost || error.code == .connectionFailed)
                proxy.set(.pass)
                try await client.wait(within: .seconds(60), for: "open") { $0 == .open }
                try await client.publish(message(to: queue, "after"))
                let texts = try await client.take(1, from: queue).map(\.text)
                #expect(texts == ["after"])
            }
        }

        @Test func `a black hole at the login: every call ends in its time, and all goes on when it heals`() async throws {
            let proxy = try proxy()
            proxy.set(.stall)
            try await withProxiedClient(proxy, ready: false, configure: { $0.connectTimeout = .seconds(8) }) { client, queue in
                try await checkLimits(of: client, queue, "black hole at the login")
                proxy.set(.pass)
                try await client.wait(within: .seconds(60), for: "open") { $0 == .open }
                try await client.publish(message(to: queue, "after"))
                let texts = try await client.take(1, from: queue).map(\.text)
                #expect(texts == ["after"])
            }
        }

        @Test func `a host that answers no SYN: every call ends in its time, and so does a stop`() async throws {
            let hole = try FullListener()
            var stopping = ContinuousClock.now
            let node = try #require(Broker.current?.node)
            let uri = "amqp://\(node.user):\(node.password)@127.0.0.1:\(hole.port)/\(node.virtualHost)"
            try await withClient(
                uri: uri,
                ready: false,
                configure: {
                    FaultWorkload.configure(&$0)
                    $0.connectTimeout = .seconds(8)
                }
            ) { client in
                try await checkLimits(of: client, "nowhere", "no SYN answered")
                stopping = .now
            }
            let took = ContinuousClock.now - stopping
            print("  no SYN answered: stopped after \(took.seconds) of 2.00 s")
            #expect(took < .seconds(2) + FaultWorkload.slack)
        }

        /// Each operation once, all at the same time, where no broker answers. An attempt to connect takes longer than their limits.
        private func checkLimits(of client: AMQPClient, _ queue: String, _ name: String) async throws {
            try await withThrowingTaskGroup(of: Void.self) { group in
                let operations: [(FaultWorkload.Operation, @Sendable () async throws(AMQPError) -> Void)] = [
                    (.publish, { () async throws(AMQPError) in try await client.publish(message(to: queue, "lost")) }),
                    (
                        .call,
                        { () async throws(AMQPError) in
                            _ = try await client.call(message(to: queue, "?"), timeout: FaultWorkload.limit)
                        }
                    ),
                    (
                        .declare,
                        { () async throws(AMQPError) in try await client.declare(AMQPTopology(queues: [classicQueue(unique("declared"))])) }
                    ),
                    (.inspect, { () async throws(AMQPError) in _ = try await client.inspect(queue) }),
                ]
                for (operation, body) in operations {
                    group.addTask {
                        let start = ContinuousClock.now
                        let error = await #expect(throws: AMQPError.self) {
                            try await within(.seconds(15), "\(name), \(operation)") { try await body() }
                        }
                        let took = ContinuousClock.now - start
                        print("  \(name): \(operation) ended after \(took.seconds) of 2.00 s")
                        #expect(error?.code == .timeout, "\(name), \(operation)")
                        #expect(took < .seconds(2) + FaultWorkload.slack, "\(name), \(operation)")
                    }
                }
                try await group.waitForAll()
            }
        }

        @Test func `a stop into a black hole ends in its time and answers everything`() async throws {
            let proxy = try proxy()
            var stopping = ContinuousClock.now
            var limit = Duration.zero
            let outcomes = try await withProxiedClient(proxy) { client, queue in
                proxy.set(.stall)
                let publishing = Task { await client.publish((0..<1000).map { message(to: queue, "\($0)") }) }
                let consuming = Task { try await client.consume(queue, prefetch: 10) { deliveries in for await _ in deliveries {} } }
                // The stop comes while both connections count as open.
                try await eventually("The publishes are sent") { proxy.forwarded(.toBroker) > 0 }
                stopping = .now
                var configuration = AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: "amqp://localhost")], connectionName: "")
                FaultWorkload.configure(&configuration)
                // Consumers leave within five seconds (their close-ok), confirms are awaited, and each connection says goodbye.
                limit = configuration.drainTimeout * 2 + .seconds(2) * 2
                return (publishing, consuming)
            }
            let took = ContinuousClock.now - stopping
            print("  stop into a black hole: \(took.seconds) of \(limit.seconds)")
            #expect(took < limit + FaultWorkload.slack)
            let results = try await within(.seconds(2), "The outcomes") { await outcomes.0.value }
            for case .success in results { Issue.record("Confirmed by nobody") }
            try await within(.seconds(2), "The consumer's end") { try await outcomes.1.value }
        }

        @Test func `connections reset during a stop: confirmed is confirmed, the rest is reported`() async throws {
            let proxy = try proxy()
            let node = try #require(Broker.current?.node)
            for round in 0..<5 {
                let ledger = QueueLedger()
                let queue = unique("drained")
                let uri = "amqp://\(node.user):\(node.password)@127.0.0.1:\(proxy.port)/\(node.virtualHost)"
                let publishing = try await withClient(
                    AMQPTopology(queues: [classicQueue(queue)]), uri: uri, configure: FaultWorkload.configure
                ) { client in
                    let numbers = ledger.attempt(3000)
                    let before = proxy.forwarded(.toBroker)
                    proxy.set(.cut(after: 20_000 + round * 40_000), .toBroker)
                    let publishing = Task {
                        for (number, outcome) in zip(numbers, await client.publish(numbers.map { message(to: queue, "\($0)") })) {
                            ledger.settle(number, outcome)
                        }
                    }
                    try await eventually("The publishes are under way") { proxy.forwarded(.toBroker) > before }
                    return publishing
                }
                await publishing.value
                proxy.set(.pass)
                try await withClient { clean in
                    try await eventually("All confirmed messages are read") {
                        let waiting = try await clean.inspect(queue).messages
                        for delivery in waiting > 0 ? try await clean.take(waiting, from: queue) : [] { ledger.receive(delivery) }
                        return ledger.missing.isEmpty
                    }
                }
                print("  reset during a stop: \(ledger.summary)")
                ledger.verify()
            }
        }

        private func withProxiedClient<R: Sendable>(
            _ proxy: FaultProxy,
            _ topology: AMQPTopology = AMQPTopology(),
            ready: Bool = true,
            configure: (inout AMQPConfiguration) -> Void = { _ in },
            _ body: (AMQPClient, String) async throws -> R,
        ) async throws -> R {
            let node = try #require(Broker.current?.node)
            let queue = unique("proxied")
            return try await withClient(
                AMQPTopology(queues: [classicQueue(queue)]) + topology,
                uri: "amqp://\(node.user):\(node.password)@127.0.0.1:\(proxy.port)/\(node.virtualHost)",
                ready: ready,
                configure: {
                    FaultWorkload.configure(&$0)
                    configure(&$0)
                }
            ) { try await body($0, queue) }
        }
    }
}
