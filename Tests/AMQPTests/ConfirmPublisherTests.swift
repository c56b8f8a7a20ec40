import Metrics
import Testing

@testable import AMQP

@Suite struct ConfirmPublisherTests {
    private func publisher() throws -> ConfirmPublisher {
        let endpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1")
        return ConfirmPublisher(configuration: AMQPConfiguration(endpoints: [endpoint], connectionName: "test"), metrics: AMQPMetrics())
    }

    private func submission(_ count: Int, deadline: ContinuousClock.Instant) -> PublishSubmission {
        let messages = (0..<count).map { _ in AMQPPublishing(exchange: "", routingKey: "q", body: [1]) }
        return PublishSubmission(messages, deadline: deadline)
    }

    @Test func `what is cancelled while nothing can be sent is let go when more comes`() throws {
        let publisher = try publisher()
        let deadline = ContinuousClock.now + .seconds(60)
        let first = submission(1, deadline: deadline)
        publisher.submit(first)
        var cancelled: [() -> PublishSubmission?] = []
        for _ in 0..<500 {
            let submission = submission(1, deadline: deadline)
            cancelled.append { [weak submission] in submission }
            publisher.submit(submission)
            submission.settle(0, .failure(AMQPError(.cancelled, "test")))
        }
        #expect(cancelled.count { $0() != nil } <= 64)
        #expect(!publisher.isIdle)
        publisher.finish(AMQPError(.shutdown, "test"))
        #expect(first.isSettled(0))
    }

    @Test(arguments: [nil, "low on memory"])
    func `what has timed out while nothing can be sent is let go`(blockedReason: String?) async throws {
        let publisher = try publisher()
        let start = ContinuousClock.now
        weak var first: PublishSubmission?
        weak var last: PublishSubmission?
        do {
            let early = submission(1500, deadline: start + .seconds(1))
            let late = submission(2, deadline: start + .seconds(2))
            publisher.submit(early)
            publisher.submit(late)
            (first, last) = (early, late)
        }
        publisher.expire(now: start, blockedReason: blockedReason)
        #expect(first != nil && last != nil)
        publisher.expire(now: start + .seconds(1), blockedReason: blockedReason)
        #expect(first == nil)
        #expect(last?.isSettled(0) == false)
        #expect(publisher.nextDeadline == start + .seconds(2))
        publisher.expire(now: start + .seconds(2), blockedReason: blockedReason)
        #expect(last == nil)
        #expect(publisher.isIdle)
        #expect(publisher.nextDeadline == nil)
    }
}
