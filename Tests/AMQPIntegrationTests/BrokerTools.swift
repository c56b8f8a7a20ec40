import AMQP
import Stack
import Synchronization
import Testing

final class Counter: Sendable {
    private let value: Mutex<Int>

    init(_ value: Int = 0) {
        self.value = Mutex(value)
    }

    var current: Int { value.withLock { $0 } }

    @discardableResult
    func increment() -> Int {
        value.withLock { value in
            value += 1
            return value
        }
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

/// Deletes a queue and declares another one of its name in the same moment: durable, without arguments.
func replaceQueue(_ name: String) async throws {
    let node = try #require(Broker.current?.node)
    let resource = "rabbit_misc:r(<<\"\(node.virtualHost)\">>, queue, <<\"\(name)\">>)"
    try await node.rabbitmqctl(
        "eval",
        """
        {ok, Q} = rabbit_amqqueue:lookup(\(resource)), rabbit_amqqueue:delete(Q, false, false, <<"test">>), \
        rabbit_amqqueue:declare(\(resource), true, false, [], none, <<"test">>).
        """
    )
}
