import AMQP
import Testing

/// What RabbitMQ 4.3 refuses, or has removed, is refused before it is sent.
@Suite struct AMQPTopologyValidationTests {
    private func problem(_ topology: AMQPTopology) -> AMQPError? {
        do throws(AMQPError) {
            try topology.check()
            return nil
        } catch {
            return error
        }
    }

    private func problem(_ queue: AMQPQueue) -> AMQPError? {
        problem(AMQPTopology(queues: [queue]))
    }

    @Test(
        arguments: [
            [:], ["x-max-priority": 4], ["x-queue-version": 2], ["x-expires": 60_000], ["x-message-ttl": 0],
            ["x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "k"], ["x-max-length": 10, "x-overflow": "reject-publish"],
            ["x-single-active-consumer": true], ["x-of-a-plugin": 1],
        ] as [AMQPTable]
    )
    func `classic queues of today pass`(_ arguments: AMQPTable) {
        #expect(problem(AMQPQueue(name: "q", arguments: arguments.merging(["x-queue-type": "classic"]) { $1 })) == nil)
    }

    @Test func `other kinds of today pass`() {
        #expect(problem(.serverNamed("alias")) == nil)
        #expect(problem(AMQPQueue(name: "q", arguments: ["x-queue-type": "quorum", "x-delivery-limit": 5])) == nil)
        #expect(problem(AMQPQueue(name: "q", arguments: ["x-queue-type": "stream", "x-max-age": "7D"])) == nil)
        let exclusive = AMQPQueue(name: "q", durable: false, exclusive: true, autoDelete: true, arguments: ["x-queue-type": "classic"])
        #expect(problem(exclusive) == nil)
    }

    @Test(
        arguments: [
            ([:], "x-queue-type"),
            (["x-queue-type": "mirrored"], "x-queue-type"),
            (["x-queue-type": 1], "x-queue-type"),
            (["x-queue-type": "quorum", "x-max-priority": 4], "x-max-priority"),
            (["x-queue-type": "stream", "x-message-ttl": 4], "x-message-ttl"),
            (["x-queue-type": "classic", "x-consumer-timeout": 60_000], "x-consumer-timeout"),
            (["x-queue-type": "classic", "x-delivery-limit": 3], "x-delivery-limit"),
            (["x-queue-type": "classic", "x-queue-mode": "lazy"], "x-queue-mode"),
            (["x-queue-type": "classic", "x-ha-policy": "all"], "mirrored"),
            (["x-queue-type": "classic", "x-queue-master-locator": "min-masters"], "x-queue-leader-locator"),
            (["x-queue-type": "classic", "x-queue-version": 1], "x-queue-version"),
            (["x-queue-type": "classic", "x-max-priority": 300], "x-max-priority"),
            (["x-queue-type": "classic", "x-max-priority": "4"], "x-max-priority"),
            (["x-queue-type": "classic", "x-expires": 0], "x-expires"),
            (["x-queue-type": "classic", "x-overflow": "drop-tail"], "x-overflow"),
            (["x-queue-type": "quorum", "x-overflow": "reject-publish-dlx"], "x-overflow"),
            (["x-queue-type": "classic", "x-dead-letter-routing-key": "k"], "x-dead-letter-exchange"),
            (["x-queue-type": "classic", "x-dead-letter-exchange": 1], "x-dead-letter-exchange"),
        ] as [(AMQPTable, String)]
    )
    func `an argument that a broker refuses is named`(_ arguments: AMQPTable, part: String) throws {
        let error = try #require(problem(AMQPQueue(name: "some.queue", arguments: arguments)))
        #expect(error.code == .invalidTopology)
        #expect(!error.isRetriable)
        #expect(error.message.contains(part))
        #expect(error.message.contains("\"some.queue\""))
    }

    @Test func `queues that neither last nor belong to a connection are refused`() throws {
        let error = try #require(problem(AMQPQueue(name: "q", durable: false, arguments: ["x-queue-type": "classic"])))
        #expect(error.message.contains("4.3"))
        let quorum = AMQPQueue(name: "q", autoDelete: true, arguments: ["x-queue-type": "quorum"])
        #expect(problem(quorum)?.message.contains("durable") == true)
    }

    @Test func `names are checked`() {
        let classic: AMQPTable = ["x-queue-type": "classic"]
        let long = String(repeating: "x", count: 256)
        for name in ["", "amq.mine", long] {
            #expect(problem(AMQPQueue(name: name, arguments: classic)) != nil)
            #expect(problem(AMQPTopology(exchanges: [AMQPExchange(name: name, kind: .direct)])) != nil)
        }
        #expect(problem(AMQPTopology(bindings: [AMQPBinding(queue: "q", exchange: "", routingKey: "")])) != nil)
        #expect(problem(AMQPTopology(bindings: [AMQPBinding(queue: "q", exchange: "amq.topic", routingKey: "")])) == nil)
        #expect(problem(AMQPTopology(bindings: [AMQPBinding(queue: "q", exchange: "e", routingKey: long)])) != nil)
    }

    @Test func `one name with two sets of properties is refused, the same twice is once`() {
        let one = AMQPTopology(queues: [AMQPQueue(name: "q", arguments: ["x-queue-type": "classic"])])
        let other = AMQPTopology(queues: [AMQPQueue(name: "q", arguments: ["x-queue-type": "quorum"])])
        #expect(problem(one + one) == nil)
        #expect(problem(one + other)?.message.contains("twice") == true)
    }
}
