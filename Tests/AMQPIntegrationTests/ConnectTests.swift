import AMQP
import Foundation
import Glibc
import Stack
import Testing

extension AMQPBrokerTests {
    /// Coming up, and what an error says.
    @Suite struct Connect {
        @Test func `the first broker of a list that answers is taken`() async throws {
            let good = try AMQPEndpoint(uri: try #require(Broker.current).uri)
            let refusing = try AMQPEndpoint(uri: "amqp://127.0.0.1:1")
            let silent = try SilentServer()
            let silentEndpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1:\(silent.port)")
            let queue = unique("list")
            let start = ContinuousClock.now
            try await withClient(
                AMQPTopology(queues: [classicQueue(queue)]),
                configure: {
                    $0.endpoints = [refusing, silentEndpoint, good]
                    $0.connectTimeout = .seconds(1)
                },
            ) { client in
                try await client.publish(message(to: queue, "found"))
                let texts = try await client.take(1, from: queue).map(\.text)
                #expect(texts == ["found"])
            }
            #expect(ContinuousClock.now - start < .seconds(10))
        }

        @Test(.enabled(if: Broker.isOurs, "needs a broker of its own"))
        func `a broker on IPv6 is reached by its address`() async throws {
            let folder = FileManager.default.temporaryDirectory.appending(path: "amqp-v6-\(UUID().uuidString)")
            defer { try? FileManager.default.removeItem(at: folder) }
            let port = try SilentServer().port
            let node = try await PrivateBroker.start(in: folder, configuration: ["listeners.tcp.six = ::1:\(port)"])
            do {
                let queue = unique("six")
                let uri = "amqp://\(node.user):\(node.password)@[::1]:\(port)/\(node.virtualHost)"
                try await withClient(AMQPTopology(queues: [classicQueue(queue)]), uri: uri) { client in
                    try await client.publish(message(to: queue, "six"))
                    let texts = try await client.take(1, from: queue).map(\.text)
                    #expect(texts == ["six"])
                }
            } catch {
                await node.stop()
                throw error
            }
            await node.stop()
        }

        @Test(.enabled(if: Broker.isOurs, "needs the broker's own port"))
        func `sockets give a dead peer up by themselves`() async throws {
            let node = try #require(Broker.current?.node)
            try await withClient(uri: "\(node.amqpURL)?heartbeat=7") { _ in
                let sockets = Self.sockets(to: node.port)
                #expect(sockets.count == 2)
                for socket in sockets {
                    #expect(Self.option(socket, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 14_000)
                    #expect(Self.option(socket, SOL_SOCKET, SO_KEEPALIVE) == 1)
                    #expect(Self.option(socket, Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 7)
                    #expect(Self.option(socket, Int32(IPPROTO_TCP), TCP_NODELAY) == 1)
                }
            }
        }

        @Test func `a mismatch carries the queue, the argument, both values and the method`() async throws {
            let queue = unique("mismatch")
            try await withClient(AMQPTopology(queues: [classicQueue(queue, ["x-max-priority": 4])])) { client in
                let other = AMQPTopology(queues: [classicQueue(queue, ["x-max-priority": 5])])
                try await withClient { stranger in
                    let error = await #expect(throws: AMQPError.self) { try await stranger.declare(other) }
                    #expect(error?.code == .topologyMismatch)
                    #expect(error?.replyCode == 406)
                    #expect(error?.method?.description == "queue.declare")
                    #expect(error?.mismatch?.kind == .queue)
                    #expect(error?.mismatch?.name == queue)
                    #expect(error?.mismatch?.argument == "x-max-priority")
                    #expect(error?.mismatch?.wanted == "5")
                    #expect(error?.mismatch?.current == "4")
                    // Only the channel of the declaration was hurt.
                    #expect(stranger.state == .open)
                }
                let exchange = unique("exchange")
                try await client.declare(AMQPTopology(exchanges: [AMQPExchange(name: exchange, kind: .topic, durable: true)]))
                try await withClient { stranger in
                    let direct = AMQPTopology(exchanges: [AMQPExchange(name: exchange, kind: .direct)])
                    let error = await #expect(throws: AMQPError.self) { try await stranger.declare(direct) }
                    #expect(error?.method?.description == "exchange.declare")
                    #expect(error?.mismatch?.argument == "type")
                    #expect(error?.mismatch?.wanted == "direct")
                    #expect(error?.mismatch?.current == "topic")
                }
                guard let node = Broker.current?.node else { return }
                let missing = [
                    AMQPMismatchCase(declared: [:], wanted: ["x-message-ttl": 5000], argument: "x-message-ttl", expected: ("5000", nil)),
                    AMQPMismatchCase(declared: ["x-message-ttl": 6000], wanted: [:], argument: "x-message-ttl", expected: (nil, "6000")),
                ]
                for one in missing {
                    let name = unique("half")
                    try await client.declare(AMQPTopology(queues: [classicQueue(name, one.declared)]))
                    try await withClient(uri: node.amqpURL) { stranger in
                        let wanted = AMQPTopology(queues: [classicQueue(name, one.wanted)])
                        let error = await #expect(throws: AMQPError.self) { try await stranger.declare(wanted) }
                        #expect(error?.mismatch?.argument == one.argument)
                        #expect(error?.mismatch?.wanted == one.expected.0)
                        #expect(error?.mismatch?.current == one.expected.1)
                        #expect(error?.message.contains("set_policy") == true)
                    }
                }
            }
        }

        @Test func `a queue that is missing is told by its look-up alone`() async throws {
            try await withClient { client in
                let error = await #expect(throws: AMQPError.self) { _ = try await client.inspect(unique("missing")) }
                #expect(error?.code == .notFound)
                #expect(error?.replyCode == 404)
                #expect(error?.method?.description == "queue.declare")
                #expect(client.state == .open)
            }
        }

        @Test(.enabled(if: Broker.isOurs, "needs a broker of its own, to break its connections"))
        func `what was delivered before a reconnect can be settled to no effect, and nothing breaks`() async throws {
            let node = try #require(Broker.current?.node)
            let queue = unique("stale")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                try await client.publish(message(to: queue, "one"))
                try await client.consume(queue, prefetch: 10) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    let stale = try #require(await iterator.next())
                    try await node.rabbitmqctl("close_all_connections", "--vhost", node.virtualHost, "test")
                    let fresh = try #require(await iterator.next())
                    #expect(fresh.text == "one")
                    #expect(fresh.redelivered)
                    #expect(fresh.deliveryTag == stale.deliveryTag)
                    // The same number on another channel: told to the broker, it would settle the fresh one.
                    stale.reject(requeue: false)
                    stale.ack(multiple: true)
                    fresh.nack(requeue: true)
                    let again = try #require(await iterator.next())
                    #expect(again.text == "one")
                    again.ack()
                    again.ack()
                }
                try await eventually("The queue is empty") { try await client.inspect(queue).messages == 0 }
            }
        }

        private static func sockets(to port: UInt16) -> [Int32] {
            let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
            return entries.compactMap { Int32($0) }.filter { descriptor in
                var peer = sockaddr_in()
                var length = socklen_t(MemoryLayout<sockaddr_in>.size)
                let connected = withUnsafeMutablePointer(to: &peer) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) == 0 }
                }
                return connected && peer.sin_family == sa_family_t(AF_INET) && UInt16(bigEndian: peer.sin_port) == port
            }
        }

        private static func option(_ descriptor: Int32, _ level: Int32, _ name: Int32) -> Int32 {
            var value: Int32 = -1
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, level, name, &value, &length)
            return value
        }
    }
}

private struct AMQPMismatchCase {
    var declared: AMQPTable
    var wanted: AMQPTable
    var argument: String
    var expected: (String?, String?)
}
