import Testing

@testable import AMQP

@Suite struct PublishSubmissionTests {
    private func submission(_ count: Int) -> PublishSubmission {
        let messages = (0..<count).map { _ in AMQPPublishing(exchange: "", routingKey: "q", body: []) }
        return PublishSubmission(messages, deadline: .now + .seconds(60))
    }

    private func codes(_ outcomes: [Result<Void, AMQPError>]) -> [AMQPError.Code?] {
        outcomes.map { outcome in
            if case .failure(let error) = outcome { error.code } else { nil }
        }
    }

    @Test func `outcomes keep the messages' order, and the first one counts`() async {
        let submission = submission(3)
        submission.settle(2, .success(()))
        submission.settle(0, .failure(AMQPError(.nacked, "")))
        submission.settle(0, .success(()))
        async let outcomes = submission.outcomes()
        submission.settle(1, .success(()))
        #expect(codes(await outcomes) == [.nacked, nil, nil])
    }

    @Test func `a cancellation settles what is open`() async {
        let submission = submission(2)
        submission.settle(0, .success(()))
        let task = Task { await submission.outcomes() }
        task.cancel()
        #expect(codes(await task.value) == [nil, .cancelled])
        submission.settle(1, .success(()))
        #expect(submission.isSettled(1))
    }
}
