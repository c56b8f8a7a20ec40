import Testing

@testable import AMQP

@Suite struct TopologyDeclarationTests {
    private let exchange = AMQPExchange(name: "e", kind: .topic)
    private let durable = AMQPQueue(name: "q", arguments: ["x-queue-type": "classic", "x-max-priority": 4])
    private let control = AMQPQueue.serverNamed("control")
    private let toDurable = AMQPBinding(queue: "q", exchange: "e", routingKey: "k")
    private let toControl = AMQPBinding(queue: "control", exchange: "e", routingKey: "c")
    private let toStranger = AMQPBinding(queue: "elsewhere", exchange: "e", routingKey: "s")

    private var topology: AMQPTopology {
        AMQPTopology(exchanges: [exchange], queues: [durable, control], bindings: [toStranger, toControl, toDurable])
    }

    @Test func `exchanges, then each queue with its bindings; a server-named queue is bound as the last one declared`() {
        #expect(
            TopologyDeclaration.steps(of: topology, includesExclusive: true) == [
                .exchange(exchange), .queue(durable), .binding(toDurable, queue: "q"), .queue(control), .binding(toControl, queue: ""),
                .binding(toStranger, queue: "elsewhere"),
            ]
        )
    }

    @Test func `a server-named queue that is there keeps its name and gets its bindings`() {
        #expect(
            TopologyDeclaration.steps(of: topology, includesExclusive: true, names: ["control": "amq.gen-1"]) == [
                .exchange(exchange), .queue(durable), .binding(toDurable, queue: "q"), .binding(toControl, queue: "amq.gen-1"),
                .binding(toStranger, queue: "elsewhere"),
            ]
        )
    }

    @Test func `the publish connection leaves exclusive queues alone`() {
        #expect(
            TopologyDeclaration.steps(of: topology, includesExclusive: false) == [
                .exchange(exchange), .queue(durable), .binding(toDurable, queue: "q"), .binding(toStranger, queue: "elsewhere"),
            ]
        )
    }

    @Test func `a mismatch names the queue, what we want, the broker's words and the cure`() {
        let words = "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received '4' but current is '2'"
        let error = AMQPError.broker(replyCode: 406, text: words, context: "Declaring the queue \"q\"", fallback: .channelClosed)
        let explained = TopologyDeclaration.explain(error, at: .queue(durable))
        #expect(explained.code == .topologyMismatch)
        #expect(explained.replyCode == 406)
        for part in [words, "\"q\"", "x-max-priority=4", "x-queue-type=classic", "new name", "rabbitmqctl delete_queue q"] {
            #expect(explained.message.contains(part))
        }
    }

    @Test func `other refusals stay what they are`() {
        let error = AMQPError.broker(replyCode: 403, text: "ACCESS_REFUSED", context: "Declaring", fallback: .channelClosed)
        #expect(TopologyDeclaration.explain(error, at: .queue(durable)) == error)
        #expect(error.code == .accessRefused)
        #expect(!error.isRetriable)
    }
}
