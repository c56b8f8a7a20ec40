import AMQP
import Stack
import Synchronization
import Testing

final class Counter: Sendable {
    private let value: Mutex<Int>

    init(_ value: Int) {
        self.value = Mutex(value)
    }

    func decrement() -> Int {
        value.withLock { value in
            value -= 1
            return value
        }
    }
}

/// Deletes a queue from outside, as an operator would.
func deleteQueue(_ name: String) async throws {
    let node = try #require(Broker.current?.node)
    try await node.rabbitmqctl("delete_queue", name, "--vhost", node.virtualHost)
}
