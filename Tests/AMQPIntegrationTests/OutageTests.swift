import AMQP
import Foundation
import Glibc
import Logging
import ServiceLifecycle
import Stack
import Synchronization
import Testing

extension AMQPBrokerTests {
    /// What the broker does to us: each test breaks something and then checks that nothing confirmed was lost and all goes on.
    @Suite(.enabled(if: Broker.isOurs, "needs a broker of its own, to break it"))
    struct Outage {
        @Test func `a silent broker is noticed within two heartbeats`() async throws {
            let node = try #require(Broker.current?.node)
            let pid = try #require(node.pid)
            let queue = unique("silent")
            try await withClient(
                AMQPTopology(queues: [classicQueue(queue)]),
                configure: {
                    $0.heartbeat = .seconds(1)
                    $0.connectTimeout = .seconds(2)
                },
            ) { client in
                try await client.publish(message(to: queue, "before"))
                #expect(kill(pid, SIGSTOP) == 0)
                defer { kill(pid, SIGCONT) }
                let start = ContinuousClock.now
                let error = await #expect(throws: AMQPError.self) { try await client.publish(message(to: queue, "into the silence")) }
                #expect(error?.code == .connectionLost)
                #expect(ContinuousClock.now - start < .seconds(5))
                #expect(kill(pid, SIGCONT) == 0)
                try await client.wait(for: "open") { $0 == .open }
                try await client.publish(message(to: queue, "after"))
                let texts = Set(try await client.take(2, from: queue).map(\.text))
                #expect(texts.contains("before"))
            }
        }

        @Test func `idle connections live on heartbeats`() async throws {
            try await withClient(configure: { $0.heartbeat = .seconds(1) }) { client in
                var states = client.states.makeAsyncIterator()
                #expect(await states.next() == .open)
                // Five heartbeats. A wrong one on either side would end the connection after two.
                let change = Task { [client] in
                    for await state in client.states where state != .open { return state }
                    return .open
                }
                try await Task.sleep(for: .seconds(5))
                #expect(client.state == .open)
                change.cancel()
                #expect(await change.value == .open)
            }
        }

        @Test func `a memory alarm holds publishers back, lets consumers go on, and passes`() async throws {
            let node = try #require(Broker.current?.node)
            let queue = unique("alarm")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                for outcome in await client.publish((0..<10).map { message(to: queue, "\($0)") }) { try outcome.get() }
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
                // The broker says so at the first message; this one may get through or wait.
                let first = Task { try await client.publish(message(to: queue, "10")) }
                do {
                    try await client.wait(for: "blocked") { if case .blocked = $0 { true } else { false } }
                    #expect(try await client.take(10, from: queue).map(\.text) == (0..<10).map(String.init))
                } catch {
                    try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                    throw error
                }
                let second = Task { try await client.publish(message(to: queue, "11")) }
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                try await first.value
                try await second.value
                try await client.wait(for: "open") { $0 == .open }
                #expect(try await client.take(2, from: queue).map(\.text) == ["10", "11"])
            }
        }

        @Test func `a blocked broker is a timeout that says so`() async throws {
            let node = try #require(Broker.current?.node)
            let queue = unique("blocked")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)]), configure: { $0.publishTimeout = .milliseconds(500) }) {
                client in
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
                var refusal: AMQPError?
                do {
                    // The first ones are sent and wait for their confirm; once the broker has said that it is blocked, they are not sent.
                    try await eventually("Blocked") {
                        do throws(AMQPError) {
                            try await client.publish(message(to: queue, "x"))
                        } catch {
                            #expect(error.code == .timeout)
                            refusal = error
                        }
                        return refusal?.message.contains("blocked") == true
                    }
                } catch {
                    try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                    throw error
                }
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                try await client.wait(for: "open") { $0 == .open }
            }
        }

        @Test func `a queue named by the broker is there again after a reconnect, and so is what was declared later`() async throws {
            let node = try #require(Broker.current?.node)
            let exchange = unique("control")
            let later = unique("later")
            let topology = AMQPTopology(
                exchanges: [AMQPExchange(name: exchange, kind: .fanout)],
                queues: [.serverNamed("control")],
                bindings: [AMQPBinding(queue: "control", exchange: exchange, routingKey: "")]
            )
            try await withClient(topology) { client in
                try await client.declare(AMQPTopology(queues: [classicQueue(later)]))
                #expect(try await client.inspect(later) == AMQPQueueStatus(messages: 0, consumers: 0))
                try await client.consume("control", prefetch: 10) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    for round in 0..<2 {
                        if round > 0 {
                            try await deleteQueue(later)
                            try await node.rabbitmqctl("close_all_connections", "--vhost", node.virtualHost, "test")
                        }
                        try await eventually("A command arrives") {
                            let command = AMQPPublishing(exchange: exchange, routingKey: "", body: Array("\(round)".utf8))
                            return (try? await client.publish(command)) != nil
                        }
                        let command = try #require(await iterator.next())
                        #expect(command.text == "\(round)")
                        command.ack()
                        try await client.publish(message(to: later, "\(round)"))
                    }
                }
                #expect(try await client.take(1, from: later).map(\.text) == ["1"])
            }
        }

        @Test func `a result is still published when the connection for it comes back during a graceful shutdown`() async throws {
            let node = try #require(Broker.current?.node)
            let (queue, results) = (unique("work"), unique("results"))
            let name = unique("graceful")
            var configuration = AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: node.amqpURL)], connectionName: name)
            // Long enough that the shutdown comes before the next attempt.
            configuration.backoff.initial = .seconds(6)
            configuration.drainTimeout = .seconds(30)
            let logger = Logger(label: "amqp.test") { _ in SwiftLogNoOpLogHandler() }
            let topology = AMQPTopology(queues: [classicQueue(queue), classicQueue(results)])
            let client = AMQPClient(configuration: configuration, topology: topology, logger: logger)
            let group = ServiceGroup(configuration: .init(services: [.init(service: client)], logger: logger))
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await group.run() }
                try await client.waitUntilReady()
                try await client.publish(message(to: queue, "work"))
                try await client.consume(queue, prefetch: 1) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    let work = try #require(await iterator.next())
                    let connections = try await node.rabbitmqctl("list_connections", "pid", "client_properties")
                    let publishing = connections.split(separator: "\n").first { $0.contains("\(name) publish") }
                    let pid = try #require(publishing?.split(separator: "\t").first)
                    try await node.rabbitmqctl("close_connection", String(pid), "test")
                    try await client.wait(for: "waiting") { if case .reconnecting = $0 { true } else { false } }
                    await group.triggerGracefulShutdown()
                    try await client.publish(message(to: results, "result"))
                    work.ack()
                }
                try await tasks.waitForAll()
            }
            try await withClient { reader in
                let published = try await reader.take(1, from: results)
                let left = try await reader.inspect(queue)
                #expect(published.map(\.text) == ["result"])
                #expect(left.messages == 0)
            }
        }
    }
}
