import Testing

@testable import AMQP

@Suite struct AMQPChannelTests {
    private final class Owner: AMQPChannelOwner {
        var ends = 0
        func channel(_ channel: AMQPChannel, received method: InboundMethod) {}
        func channel(_ channel: AMQPChannel, received content: AMQPContent) {}
        func channel(_ channel: AMQPChannel, closedBy error: AMQPError) { ends += 1 }
    }

    private func link(to broker: FakeBroker) throws -> AMQPLink {
        let endpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1:\(broker.port)")
        let breaker = StuckCallBreaker(limit: .seconds(5))
        let handle = try RabbitMQHandle.connect(
            to: endpoint,
            configuration: AMQPConfiguration(endpoints: [endpoint], connectionName: "channel"),
            role: "test",
            deadline: .now + .seconds(5),
            dialing: breaker,
            sending: breaker,
        )
        return AMQPLink(handle, maximumBodySize: 1024, requestTimeout: .seconds(5), serial: 0, now: .now)
    }

    /// Deadlines are looked at between turns.
    @Test func `a turn ends even when the broker never stops talking`() throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let owner = Owner()
        let link = try link(to: broker)
        let channel = try #require(link.openChannel(owner: owner))
        let message = AMQPPublishing(exchange: "", routingKey: "flood", body: [])
        #expect(channel.publish(message, properties: message.properties, mandatory: false))
        try link.flush(now: .now)
        let deadline = ContinuousClock.now + .seconds(10)
        while !broker.isHolding("flood") { try #require(ContinuousClock.now < deadline) }
        try broker.flood("flood")
        while !link.isBehind {
            try #require(ContinuousClock.now < deadline)
            try link.receive(readable: true, now: .now)
        }
        withExtendedLifetime(owner) {}
    }

    @Test(arguments: [true, false])
    func `a channel that ends with requests open leaves nothing behind`(closedByBroker: Bool) throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let owner = Owner()
        weak var gone: AMQPChannel?
        do {
            let link = try link(to: broker)
            // Neither is held by the channel.
            defer { withExtendedLifetime((owner, link)) {} }
            let channel = try #require(link.openChannel(owner: owner))
            gone = channel
            // What comes after an answer refers to the channel, as every declaration's does.
            channel.request(.qos(prefetch: 1), expecting: .qosOK, context: "test") { _ in channel.close() }
            if closedByBroker {
                try channel.receive(.channelClose(code: 406, text: "PRECONDITION_FAILED", classID: 50, methodID: 10))
            }
        }
        #expect(owner.ends == (closedByBroker ? 1 : 0))
        // Not looked at by the macro: what a channel refers to without holding it has gone.
        let isFreed = gone == nil
        #expect(isFreed)
    }
}
