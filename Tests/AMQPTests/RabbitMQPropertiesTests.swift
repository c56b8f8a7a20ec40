import Foundation
import Testing

@testable import AMQP

@Suite struct RabbitMQPropertiesTests {
    /// Whoever puts a strange message aside publishes its properties again.
    @Test(arguments: [-1, 0, 1_700_000_000, 18_446_744_073_709_551_616, .infinity, .nan] as [Double])
    func `no timestamp is too strange to be sent`(_ seconds: Double) throws {
        let pool = RabbitMQPool()
        let sent = AMQPProperties(timestamp: Date(timeIntervalSince1970: seconds))
        let read = try #require(AMQPProperties(pool.properties(sent))?.timestamp)
        if seconds == 1_700_000_000 {
            #expect(read == sent.timestamp)
        } else {
            #expect(read.timeIntervalSince1970 >= 0)
        }
    }
}
