import Testing

@testable import AMQP

@Suite struct DeliveryBufferTests {
    private func delivery(_ tag: UInt64) -> AMQPDelivery {
        AMQPDelivery(deliveryTag: tag, body: [])
    }

    @Test func `deliveries come in order`() async {
        let buffer = DeliveryBuffer()
        for tag in 1...300 as ClosedRange<UInt64> { buffer.append([delivery(tag)]) }
        for tag in 1...300 as ClosedRange<UInt64> { #expect(await buffer.next()?.deliveryTag == tag) }
    }

    @Test func `a waiting task gets the next delivery`() async {
        let buffer = DeliveryBuffer()
        async let next = buffer.next()
        buffer.append([delivery(7)])
        #expect(await next?.deliveryTag == 7)
    }

    @Test func `a lost channel takes back what nobody has taken`() async {
        let buffer = DeliveryBuffer()
        buffer.append([delivery(1)])
        buffer.append([delivery(2)])
        #expect(await buffer.next()?.deliveryTag == 1)
        buffer.discardAll()
        buffer.append([delivery(9)])
        #expect(await buffer.next()?.deliveryTag == 9)
    }

    @Test func `the end ends every iteration, now and later`() async {
        let buffer = DeliveryBuffer()
        async let waiting = buffer.next()
        buffer.finish()
        #expect(await waiting?.deliveryTag == nil)
        buffer.append([delivery(1)])
        #expect(await buffer.next()?.deliveryTag == nil)
    }

    @Test func `a cancelled task takes nothing`() async {
        let buffer = DeliveryBuffer()
        let task = Task { await buffer.next() }
        task.cancel()
        #expect(await task.value?.deliveryTag == nil)
        buffer.append([delivery(1)])
        #expect(await buffer.next()?.deliveryTag == 1)
    }
}
