import AMQP
import Testing

extension AMQPBrokerTests {
    @Suite struct Call {
        @Test func `many calls at once each get their own reply`() async throws {
            let queue = unique("calls")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                try await withServer(client, queue) {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for index in 0..<200 {
                            group.addTask {
                                let reply = try await client.call(message(to: queue, "\(index)"), timeout: .seconds(10))
                                #expect(String(decoding: reply.body, as: UTF8.self) == "echo \(index)")
                                #expect(reply.properties.type == "echo")
                            }
                        }
                        try await group.waitForAll()
                    }
                }
            }
        }

        @Test func `a request that no queue wants fails at once`() async throws {
            try await withClient { client in
                let error = await #expect(throws: AMQPError.self) {
                    _ = try await client.call(message(to: unique("nobody"), "?"), timeout: .seconds(30))
                }
                #expect(error?.code == .returned)
            }
        }

        @Test func `no reply is a timeout, and a late one disturbs nothing`() async throws {
            let queue = unique("late")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let error = await #expect(throws: AMQPError.self) {
                    _ = try await client.call(message(to: queue, "late"), timeout: .milliseconds(100))
                }
                #expect(error?.code == .timeout)
                try await withServer(client, queue) {
                    // The server answers the late request first.
                    let reply = try await client.call(message(to: queue, "next"), timeout: .seconds(10))
                    #expect(String(decoding: reply.body, as: UTF8.self) == "echo next")
                }
            }
        }

        @Test func `a call ends with its task`() async throws {
            let queue = unique("cancelled")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                let task = Task { try await client.call(message(to: queue, "?"), timeout: .seconds(60)) }
                task.cancel()
                let error = await #expect(throws: AMQPError.self) { _ = try await task.value }
                #expect(error?.code == .cancelled)
            }
        }

        private func withServer(_ client: AMQPClient, _ queue: String, _ body: () async throws -> Void) async throws {
            let server = Task {
                try await client.consume(queue, prefetch: 100) { deliveries in
                    for await request in deliveries {
                        client.reply(to: request, with: AMQPProperties(type: "echo"), body: Array("echo \(request.text)".utf8))
                        request.ack()
                    }
                }
            }
            do {
                try await body()
            } catch {
                server.cancel()
                _ = await server.result
                throw error
            }
            server.cancel()
            _ = await server.result
        }
    }
}
