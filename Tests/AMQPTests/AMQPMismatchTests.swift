import Testing

@testable import AMQP

/// The texts are what RabbitMQ writes: `rabbit_misc:equivalence_fail/4` and `rabbit_amqqueue:check_arguments_*`, the same from 3.10 to 4.3.
@Suite struct AMQPMismatchTests {
    private func text(_ words: String) -> String { "PRECONDITION_FAILED - \(words)" }

    @Test func `two values of one type`() throws {
        let words = "inequivalent arg 'x-max-priority' for queue 'dcm.jobs.v1' in vhost '/': received '5' but current is '3'"
        let mismatch = try #require(AMQPMismatch(text(words)))
        #expect(mismatch.kind == .queue)
        #expect(mismatch.name == "dcm.jobs.v1")
        #expect(mismatch.virtualHost == "/")
        #expect(mismatch.argument == "x-max-priority")
        #expect(mismatch.wanted == "5")
        #expect(mismatch.current == "3")
        #expect(mismatch.objection == nil)
    }

    @Test func `an argument that only one side has`() throws {
        let mine =
            "inequivalent arg 'x-max-priority' for queue 'q' in vhost 'v': received the value '5' of type 'signedint' but current is none"
        #expect(AMQPMismatch(text(mine))?.wanted == "5")
        #expect(AMQPMismatch(text(mine))?.current == nil)
        let theirs =
            "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': received none but current is the value 'dlx' of type 'longstr'"
        #expect(AMQPMismatch(text(theirs))?.wanted == nil)
        #expect(AMQPMismatch(text(theirs))?.current == "dlx")
    }

    @Test func `a property of an exchange`() throws {
        let words = "inequivalent arg 'type' for exchange 'dcm.ingest' in vhost 'dcm': received 'direct' but current is 'topic'"
        let mismatch = try #require(AMQPMismatch(text(words)))
        #expect(mismatch.kind == .exchange)
        #expect(mismatch.name == "dcm.ingest")
        #expect(mismatch.argument == "type")
        #expect(mismatch.wanted == "direct")
        #expect(mismatch.current == "topic")
    }

    @Test(arguments: [
        (
            "invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
            "of queue type rabbit_quorum_queue"
        ),
        ("invalid arg 'x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,300}", "{max_value_exceeded,300}"),
        (
            "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
            "of queue type rabbit_classic_queue"
        ),
    ])
    func `an argument that the broker does not take`(_ words: String, objection: String) throws {
        let mismatch = try #require(AMQPMismatch(text(words)))
        #expect(mismatch.name == "q")
        #expect(mismatch.virtualHost == "/")
        #expect(mismatch.objection == objection)
        #expect(mismatch.wanted == nil && mismatch.current == nil)
    }

    @Test func `a text cut at 255 bytes gives what it still holds`() throws {
        let whole = text(
            "inequivalent arg 'x-dead-letter-exchange' for queue 'some.queue' in vhost 'host': received 'one' but current is 'two'")
        for length in 0...whole.count {
            let mismatch = AMQPMismatch(String(whole.prefix(length)))
            if length >= whole.count - 1 { #expect(mismatch?.wanted == "one") }
            if let mismatch {
                #expect("x-dead-letter-exchange" == mismatch.argument)
                #expect("some.queue".hasPrefix(mismatch.name))
                #expect(mismatch.current == nil || mismatch.current == "two")
            }
        }
        #expect(AMQPMismatch(String(whole.prefix(120)))?.name == "some.queue")
    }

    @Test(arguments: [
        "", "PRECONDITION_FAILED", "PRECONDITION_FAILED - unknown delivery tag 7",
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.",
        "inequivalent arg 'x' for shovel 's' in vhost '/'",
    ])
    func `other texts are not taken for a mismatch`(_ text: String) {
        #expect(AMQPMismatch(text) == nil)
    }

    @Test func `quotes inside values do not confuse`() throws {
        let words = "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': received 'it's' but current is 'that's'"
        let mismatch = try #require(AMQPMismatch(text(words)))
        #expect(mismatch.wanted == "it's")
        #expect(mismatch.current == "that's")
    }

    // MARK: What a person reads

    private func explained(_ words: String, _ step: TopologyDeclaration.Step) -> AMQPError {
        let method = AMQPError.Method(classID: 50, methodID: 10)
        let error = AMQPError.broker(replyCode: 406, text: text(words), method: method, context: step.context, fallback: .channelClosed)
        return TopologyDeclaration.explain(error, at: step)
    }

    @Test func `an argument that no policy can set leads to the next version`() {
        let queue = AMQPQueue(name: "dcm.jobs.cpu.v1", arguments: ["x-queue-type": "classic", "x-max-priority": 5])
        let words = "inequivalent arg 'x-max-priority' for queue 'dcm.jobs.cpu.v1' in vhost 'dcm': received '5' but current is '3'"
        let error = explained(words, .queue(queue))
        #expect(error.code == .topologyMismatch)
        #expect(error.method?.description == "queue.declare")
        #expect(error.mismatch?.argument == "x-max-priority")
        for part in [
            "exists with x-max-priority 3, we want 5", "dcm.jobs.cpu.v2", "rabbitmqctl delete_queue dcm.jobs.cpu.v1 --vhost dcm",
            "No policy",
        ] {
            #expect(error.message.contains(part), "\(error.message)")
        }
    }

    @Test func `an argument that a policy can set leads to the policy`() {
        let queue = AMQPQueue(name: "q", arguments: ["x-queue-type": "classic", "x-message-ttl": 5000])
        let error = explained(
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '5000' but current is '60000'", .queue(queue))
        for part in ["set_policy", "\"message-ttl\"", "q.v2"] { #expect(error.message.contains(part), "\(error.message)") }
        #expect(!error.message.contains("No policy"))
    }

    @Test func `an exchange is told its way too`() {
        let words = "inequivalent arg 'type' for exchange 'e.v9' in vhost '/': received 'direct' but current is 'topic'"
        let error = explained(words, .exchange(AMQPExchange(name: "e.v9", kind: .direct)))
        #expect(error.message.contains("exists with type topic, we want direct"))
        #expect(error.message.contains("e.v10"))
    }

    @Test func `a text of another shape stays whole`() {
        let error = explained("something new", .queue(AMQPQueue(name: "q")))
        #expect(error.code == .topologyMismatch)
        #expect(error.mismatch == nil)
        #expect(error.message.contains("PRECONDITION_FAILED - something new"))
        #expect(error.message.contains("exists with other properties"))
    }
}
