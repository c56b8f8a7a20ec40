import Logging
import Testing

@testable import AMQP

@Suite struct ConsumeRoleTests {
    @Test func `a consumer that starts during a drain gets nothing, at once`() async throws {
        let endpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1")
        let role = ConsumeRole(
            configuration: AMQPConfiguration(endpoints: [endpoint], connectionName: "test"),
            inbox: AMQPInbox(),
            metrics: AMQPMetrics(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        )
        role.beginDrain()
        let buffer = DeliveryBuffer()
        role.handle(
            .startConsumer(ConsumerRequest(id: 1, queue: "q", prefetch: 1, priority: nil, buffer: buffer, stopped: AMQPPromise())),
            link: nil,
        )
        buffer.append([AMQPDelivery(body: [1])])
        let next = await buffer.next()
        #expect(next == nil)
    }
}
