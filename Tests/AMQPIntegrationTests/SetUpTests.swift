import AMQP
import Foundation
import Stack
import Testing

extension AMQPBrokerTests {
    /// What can be wrong before the first message.
    @Suite struct SetUp {
        @Test(.enabled(if: Broker.isOurs, "needs a broker of its own, to stop it"))
        func `a broker that is absent at the start is waited for`() async throws {
            let node = try #require(Broker.current?.node)
            let queue = unique("absent")
            await node.kill()
            try await withClient(AMQPTopology(queues: [classicQueue(queue)]), ready: false) { client in
                try await client.wait(for: "waiting") { if case .reconnecting = $0 { true } else { false } }
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.code == .connectionFailed)
                #expect(error.message.contains("127.0.0.1:\(node.port)") || error.message.contains("localhost:\(node.port)"))
                let early = Task { try await client.publish(message(to: queue, "early")) }
                try await node.restart()
                try await client.waitUntilReady()
                try await early.value
                #expect(try await client.take(1, from: queue).map(\.text) == ["early"])
            }
        }

        @Test func `a publish without a broker ends when its time is over`() async throws {
            try await withClient(uri: "amqp://127.0.0.1:1", ready: false, configure: { $0.publishTimeout = .milliseconds(200) }) { client in
                let error = await #expect(throws: AMQPError.self) { try await client.publish(message(to: "x", "never")) }
                #expect(error?.code == .timeout)
                #expect(error?.isRetriable == true)
                let other = await #expect(throws: AMQPError.self) {
                    _ = try await client.call(message(to: "x", "never"), timeout: .milliseconds(100))
                }
                #expect(other?.code == .timeout)
            }
        }

        @Test func `a wrong password is an error that names the user, not the password`() async throws {
            let good = try #require(Broker.current).uri
            let address = try AMQPEndpoint(uri: good).address
            try await withClient(uri: "amqp://nobody:sesame@\(address)", ready: false) { client in
                try await client.wait(for: "refused") { if case .reconnecting = $0 { true } else { false } }
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.code == .authentication)
                #expect(error.replyCode == 403)
                #expect(error.message.contains("\"nobody\""))
                #expect(error.message.contains(address))
                #expect(!"\(error)".contains("sesame"))
            }
        }

        @Test func `a virtual host that is missing is named`() async throws {
            let good = try #require(Broker.current).uri
            let base = good[..<good.lastIndex(of: "/")!]
            try await withClient(uri: "\(base.contains("@") ? String(base) : good)/nowhere", ready: false) { client in
                try await client.wait(for: "refused") { if case .reconnecting = $0 { true } else { false } }
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.code == .notFound)
                #expect(error.message.contains("nowhere"))
            }
        }

        @Test func `a queue with other properties is an error with the cure, until it is repaired`() async throws {
            let queue = unique("mismatch")
            try await withClient(AMQPTopology(queues: [classicQueue(queue, ["x-max-priority": 4])])) { owner in
                let wanted = AMQPTopology(queues: [classicQueue(queue, ["x-max-priority": 5])])
                try await withClient(wanted, ready: false, configure: { $0.backoff.maximum = .milliseconds(500) }) { client in
                    try await client.wait(for: "mismatch") { if case .reconnecting = $0 { true } else { false } }
                    guard case .reconnecting(let error) = client.state else { return }
                    #expect(error.code == .topologyMismatch)
                    #expect(error.replyCode == 406)
                    for part in [queue, "x-max-priority", "x-max-priority=5", "delete_queue", "new name"] {
                        #expect(error.message.contains(part))
                    }
                    #expect(!error.isRetriable)
                    guard Broker.isOurs else { return }
                    try await deleteQueue(queue)
                    try await client.waitUntilReady()
                }
                _ = owner
            }
        }

        @Test func `publish and consume connections show their names and what they can`() async throws {
            guard let node = Broker.current?.node else { return }
            try await withClient(configure: {
                $0.connectionName = "named"
                $0.version = "1.2.3"
            }) { _ in
                let list = try await node.rabbitmqctl("list_connections", "name", "client_properties", "timeout", "--formatter", "json")
                // The user-given name is among the client's properties.
                for part in ["named publish", "named consume", "1.2.3", "DCM Processor", "consumer_cancel_notify"] {
                    #expect(list.contains(part))
                }
            }
        }
    }

    @Suite struct Stop {
        @Test func `a graceful stop awaits the confirms that are out`() async throws {
            let queue = unique("drain")
            let topology = AMQPTopology(queues: [classicQueue(queue)])
            let batch = (0..<3000).map { message(to: queue, "\($0)") }
            let outcomes = try await withClient(topology) { client in
                let outcomes = Task { await client.publish(batch) }
                try await eventually("The first messages are there") { try await client.inspect(queue).messages > 0 }
                return outcomes
            }.value
            for outcome in outcomes { try outcome.get() }
            try await withClient(topology) { client in
                let texts = try await client.take(batch.count, from: queue).map(\.text)
                #expect(texts == batch.indices.map { "\($0)" })
            }
        }

        @Test func `consumers end, and calls after the stop are refused`() async throws {
            let queue = unique("stopped")
            let (client, consumer) = try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let consumer = Task {
                    try await client.consume(queue, prefetch: 1) { deliveries in
                        var count = 0
                        for await delivery in deliveries {
                            delivery.ack()
                            count += 1
                        }
                        return count
                    }
                }
                try await client.publish(message(to: queue, "one"))
                try await eventually("The message is taken") { try await client.inspect(queue).messages == 0 }
                return (client, consumer)
            }
            #expect(try await consumer.value == 1)
            #expect(client.state == .closed)
            let published = await #expect(throws: AMQPError.self) { try await client.publish(message(to: queue, "late")) }
            #expect(published?.code == .shutdown)
            let consumed = await #expect(throws: AMQPError.self) { try await client.consume(queue, prefetch: 1) { _ in } }
            #expect(consumed?.code == .shutdown)
            let ready = await #expect(throws: AMQPError.self) { try await client.waitUntilReady() }
            #expect(ready?.code == .shutdown)
        }

        @Test func `a stop without a broker is quick`() async throws {
            let start = ContinuousClock.now
            try await withClient(uri: "amqp://127.0.0.1:1", ready: false) { client in
                try await client.wait(for: "waiting") { if case .reconnecting = $0 { true } else { false } }
            }
            #expect(ContinuousClock.now - start < .seconds(5))
        }

        @Test func `a stop while a silent broker holds the login is quick`() async throws {
            let silent = try SilentServer()
            let start = ContinuousClock.now
            try await withClient(uri: "amqp://127.0.0.1:\(silent.port)", ready: false) { client in
                try await eventually("The client has connected") { silent.hasVisitors }
                #expect(client.state == .connecting)
            }
            #expect(ContinuousClock.now - start < .seconds(5))
        }
    }
}
