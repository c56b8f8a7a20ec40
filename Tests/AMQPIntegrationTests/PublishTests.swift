import AMQP
import Foundation
import Testing

extension AMQPBrokerTests {
    @Suite struct Publish {
        @Test func `a confirmed message is in the queue with all its properties`() async throws {
            let queue = unique("publish")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let headers: AMQPTable = [
                    "bool": true, "int8": .int8(-8), "int16": .int16(-16), "int32": .int32(-32), "int64": .int64(-64), "uint8": .uint8(8),
                    "uint16": .uint16(16), "uint32": .uint32(32), "float": .float(1.5), "double": 2.5,
                    "decimal": .decimal(scale: 2, value: 314), "string": "Grüße", "bytes": .bytes([0, 255]),
                    "timestamp": .timestamp(1_700_000_000),
                    "array": [1, "two", [true]], "table": ["inner": ["deep": 1]], "void": .void,
                ]
                let properties = AMQPProperties(
                    contentType: "application/json",
                    contentEncoding: "utf-8",
                    type: "test.v1",
                    messageID: "m1",
                    correlationID: "c1",
                    replyTo: "r1",
                    appID: "tests",
                    timestamp: .init(timeIntervalSince1970: 1_700_000_001),
                    deliveryMode: .persistent,
                    priority: 3,
                    expiration: "60000",
                    headers: headers,
                )
                let sent = AMQPPublishing(exchange: "", routingKey: queue, properties: properties, body: Array("{}".utf8))
                try await client.publish(sent)
                let delivery = try #require(try await client.take(1, from: queue).first)
                #expect(delivery.properties == properties)
                #expect(delivery.body == sent.body)
                #expect(delivery.exchange == "")
                #expect(delivery.routingKey == queue)
                #expect(!delivery.redelivered)
            }
        }

        @Test func `an empty body and one of several frames arrive whole`() async throws {
            let queue = unique("bodies")
            // 131,064 is a full frame exactly.
            let sizes = [0, 1, 131_063, 131_064, 131_065, 262_128, 1_000_000]
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let bodies = sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) } }
                let outcomes = await client.publish(bodies.map { AMQPPublishing(exchange: "", routingKey: queue, body: $0) })
                for outcome in outcomes { try outcome.get() }
                let taken = try await client.take(sizes.count, from: queue)
                #expect(taken.map(\.body) == bodies)
            }
        }

        @Test func `a batch is delivered in order, and each message has its own outcome`() async throws {
            let queue = unique("batch")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                var batch = (0..<2000).map { message(to: queue, "\($0)") }
                batch[500].routingKey = unique("nowhere")
                batch[700].routingKey = String(repeating: "x", count: 256)
                batch[900].routingKey = unique("nowhere")
                batch[900].mandatory = false
                let outcomes = await client.publish(batch)
                #expect(outcomes.count == batch.count)
                for (index, outcome) in outcomes.enumerated() {
                    switch (index, outcome) {
                    case (500, .failure(let error)):
                        #expect(error.code == .returned)
                        #expect(error.replyCode == 312)
                        #expect(error.message.contains(batch[500].routingKey))
                    case (700, .failure(let error)): #expect(error.code == .invalidMessage)
                    case (_, .success) where index != 500 && index != 700: break
                    default: Issue.record("message \(index): \(outcome)")
                    }
                }
                let expected = (0..<2000).filter { ![500, 700, 900].contains($0) }.map(String.init)
                let texts = try await client.take(expected.count, from: queue).map(\.text)
                #expect(texts == expected)
            }
        }

        @Test func `a full queue that rejects gives nacks`() async throws {
            let queue = unique("full")
            let arguments: AMQPTable = ["x-max-length": 2, "x-overflow": "reject-publish"]
            try await withClient(AMQPTopology(queues: [classicQueue(queue, arguments)])) { client in
                var codes: [AMQPError.Code?] = []
                for index in 0..<4 {
                    do throws(AMQPError) {
                        try await client.publish(message(to: queue, "\(index)"))
                        codes.append(nil)
                    } catch {
                        codes.append(error.code)
                        #expect(error.isRetriable)
                    }
                }
                #expect(codes.prefix(2) == [nil, nil])
                #expect(codes.last == .nacked)
            }
        }

        @Test func `an exchange that is missing fails its message, and the next ones pass`() async throws {
            let queue = unique("after")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let missing = AMQPPublishing(exchange: unique("missing"), routingKey: "x", body: [])
                let error = await #expect(throws: AMQPError.self) { try await client.publish(missing) }
                #expect(error?.code == .notFound)
                #expect(error?.replyCode == 404)
                #expect(error?.message.contains(missing.exchange) == true)
                client.publishTransient(missing)
                try await client.publish(message(to: queue, "still here"))
                #expect(try await client.take(1, from: queue).map(\.text) == ["still here"])
            }
        }

        @Test func `publishers of many tasks share the window`() async throws {
            let queue = unique("many")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)]), configure: { $0.confirmWindow = 16 }) { client in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<500 { group.addTask { try await client.publish(message(to: queue, "\(index)")) } }
                    try await group.waitForAll()
                }
                #expect(Set(try await client.take(500, from: queue).map(\.text)).count == 500)
            }
        }

        @Test func `a cancelled publish ends at once`() async throws {
            try await withClient(uri: "amqp://127.0.0.1:1", ready: false) { client in
                let task = Task { await client.publish([message(to: "x", "never")]) }
                task.cancel()
                let outcomes = await task.value
                #expect(throws: AMQPError.self) { try outcomes[0].get() }
                guard case .failure(let error) = outcomes[0] else { return }
                #expect(error.code == .cancelled)
            }
        }

        @Test func `transient messages arrive while there is a connection`() async throws {
            let queue = unique("transient")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                for index in 0..<100 { client.publishTransient(message(to: queue, "\(index)")) }
                let texts = try await client.take(100, from: queue).map(\.text)
                #expect(texts == (0..<100).map(String.init))
            }
        }
    }
}
