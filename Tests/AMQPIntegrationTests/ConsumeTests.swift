import AMQP
import Testing

extension AMQPBrokerTests {
    @Suite struct Consume {
        @Test func `what is acknowledged is gone, what is not comes back`() async throws {
            let queue = unique("acks")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                for outcome in await client.publish((0..<6).map { message(to: queue, "\($0)") }) { try outcome.get() }
                try await client.consume(queue, prefetch: 10) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    var held: [AMQPDelivery] = []
                    while held.count < 6, let delivery = await iterator.next() { held.append(delivery) }
                    held[1].ack(multiple: true)
                    // Settled already: without the check, each of these would make the broker close the channel.
                    held[0].ack()
                    held[1].reject(requeue: true)
                    held[1].ack(multiple: true)
                    held[3].nack(requeue: true)
                    let again = try #require(await iterator.next())
                    #expect(again.text == "3")
                    #expect(again.redelivered)
                    again.ack()
                    held[4].reject(requeue: false)
                }
                let rest = try await client.take(2, from: queue)
                #expect(rest.map(\.text) == ["2", "5"])
                #expect(rest.map(\.redelivered) == [true, true])
            }
        }

        @Test func `prefetch bounds what is unsettled`() async throws {
            let queue = unique("prefetch")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                for outcome in await client.publish((0..<10).map { message(to: queue, "\($0)") }) { try outcome.get() }
                try await client.consume(queue, prefetch: 3) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    var held: [AMQPDelivery] = []
                    while held.count < 3, let delivery = await iterator.next() { held.append(delivery) }
                    // Another consumer gets the rest: the broker has kept it back from the first.
                    let others = try await client.take(7, from: queue)
                    #expect(Set(others.map(\.text)) == Set((3..<10).map(String.init)))
                    for delivery in held { delivery.ack() }
                }
            }
        }

        @Test func `a rejected message goes to the dead-letter exchange`() async throws {
            let queue = unique("work")
            let dead = unique("dead")
            let exchange = unique("dlx")
            let topology = AMQPTopology(
                exchanges: [AMQPExchange(name: exchange, kind: .topic)],
                queues: [classicQueue(queue, ["x-dead-letter-exchange": .string(exchange)]), classicQueue(dead)],
                bindings: [AMQPBinding(queue: dead, exchange: exchange, routingKey: "#")],
            )
            try await withClient(topology) { client in
                try await client.publish(message(to: queue, "bad"))
                try await client.consume(queue, prefetch: 1) { deliveries in
                    for await delivery in deliveries {
                        delivery.reject(requeue: false)
                        break
                    }
                }
                let delivery = try #require(try await client.take(1, from: dead).first)
                #expect(delivery.text == "bad")
                let death = try #require(delivery.properties.headers["x-death"]?.array?.first?.table)
                #expect(death["queue"]?.string == queue)
                #expect(death["reason"]?.string == "rejected")
            }
        }

        @Test func `a message over the size limit goes to the dead-letter exchange and the next one arrives`() async throws {
            let queue = unique("large")
            let dead = unique("dead")
            let topology = AMQPTopology(
                queues: [
                    classicQueue(queue, ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(dead)]), classicQueue(dead),
                ]
            )
            try await withClient(topology) { sender in
                try await sender.publish(AMQPPublishing(exchange: "", routingKey: queue, body: Array(repeating: 7, count: 300_000)))
                try await sender.publish(message(to: queue, "small"))
                try await withClient(topology, configure: { $0.maximumBodySize = 200_000 }) { receiver in
                    let texts = try await receiver.take(1, from: queue).map(\.text)
                    #expect(texts == ["small"])
                }
                #expect(try await sender.take(1, from: dead).map(\.body.count) == [300_000])
            }
        }

        @Test func `headers nested too deep are refused both ways`() async throws {
            var value: AMQPValue = 1
            for _ in 0..<20 { value = ["x": value] }
            let headers: AMQPTable = ["deep": value]
            try await withClient { client in
                let error = await #expect(throws: AMQPError.self) { try await client.publish(message(to: "x", "", headers: headers)) }
                #expect(error?.code == .invalidMessage)
            }
        }

        @Test func `a fanout reaches the exclusive queue of each client, named by the broker`() async throws {
            let exchange = unique("control")
            let topology = AMQPTopology(
                exchanges: [AMQPExchange(name: exchange, kind: .fanout)],
                queues: [.serverNamed("control")],
                bindings: [AMQPBinding(queue: "control", exchange: exchange, routingKey: "")],
            )
            try await withClient(topology) { first in
                try await withClient(topology) { second in
                    try await first.publish(AMQPPublishing(exchange: exchange, routingKey: "", body: Array("drain".utf8)))
                    #expect(try await first.take(1, from: "control").map(\.text) == ["drain"])
                    #expect(try await second.take(1, from: "control").map(\.text) == ["drain"])
                }
            }
        }

        @Test func `several tasks iterate one consumer, each delivery goes to one`() async throws {
            let queue = unique("shared")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                for outcome in await client.publish((0..<200).map { message(to: queue, "\($0)") }) { try outcome.get() }
                let texts = try await client.consume(queue, prefetch: 50) { deliveries in
                    await withTaskGroup(of: [String].self) { group in
                        let counter = Counter(200)
                        for _ in 0..<4 {
                            group.addTask {
                                var mine: [String] = []
                                for await delivery in deliveries {
                                    delivery.ack()
                                    mine.append(delivery.text)
                                    if counter.decrement() == 0 { break }
                                }
                                return mine
                            }
                        }
                        // The one that took the last message returns; the others wait for more until they are cancelled.
                        var all = await group.next() ?? []
                        group.cancelAll()
                        for await others in group { all += others }
                        return all
                    }
                }
                #expect(texts.count == 200)
                #expect(Set(texts).count == 200)
            }
        }

        @Test(.enabled(if: Broker.isOurs, "needs a broker of its own"))
        func `a queue deleted under its consumer is declared again and the consumer goes on`() async throws {
            let queue = unique("deleted")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                try await client.consume(queue, prefetch: 10) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    try await client.publish(message(to: queue, "before"))
                    let before = try #require(await iterator.next())
                    #expect(before.text == "before")
                    try await deleteQueue(queue)
                    // Its queue is gone, and its channel with it.
                    before.ack()
                    try await eventually("The queue is back") {
                        do throws(AMQPError) {
                            try await client.publish(message(to: queue, "after"))
                            return true
                        } catch {
                            #expect(error.code == .returned)
                            return false
                        }
                    }
                    let after = try #require(await iterator.next())
                    #expect(after.text == "after")
                    after.ack()
                }
            }
        }

        @Test func `the consumer with the higher priority is served first`() async throws {
            let queue = unique("priority")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                try await client.consume(queue, prefetch: 50) { low in
                    try await client.consume(queue, prefetch: 50, consumerPriority: 10) { high in
                        // Both consume when each has been served once.
                        let highIterator = high.makeAsyncIterator()
                        try await eventually("The high consumer is there") {
                            try await client.publish(message(to: queue, "probe"))
                            let probe = try? await within(.milliseconds(300), "probe") { () -> AMQPDelivery? in await Probe.first(high) }
                            probe?.ack()
                            return probe != nil
                        }
                        for outcome in await client.publish((0..<20).map { message(to: queue, "\($0)") }) { try outcome.get() }
                        var texts: [String] = []
                        while texts.count < 20, let delivery = await highIterator.next() {
                            delivery.ack()
                            if delivery.text != "probe" { texts.append(delivery.text) }
                        }
                        #expect(texts == (0..<20).map(String.init))
                    }
                    _ = low
                }
            }
        }
    }
}

enum Probe {
    static func first(_ deliveries: AMQPDeliveries) async -> AMQPDelivery? {
        for await delivery in deliveries { return delivery }
        return nil
    }
}
