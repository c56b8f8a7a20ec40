import AMQP
import Synchronization
import Testing

/// What was put into a queue, what the publisher was told, and what came out: the checker of Jepsen's total-queue.
///
/// What was confirmed must come out; nothing may come out that was not put in; what comes out twice must say that it was redelivered.
final class QueueLedger: Sendable {
    private struct State {
        var attempted = 0
        var confirmed: Set<Int> = []
        var failed: [Int: AMQPError.Code] = [:]
        /// How often each number came, and whether a second time came without the redelivered flag.
        var received: [Int: Int] = [:]
        var silentDuplicates: [Int] = []
    }

    private let state = Mutex(State())

    /// The numbers of the next `count` messages.
    func attempt(_ count: Int) -> Range<Int> {
        state.withLock { state in
            defer { state.attempted += count }
            return state.attempted..<state.attempted + count
        }
    }

    func settle(_ number: Int, _ outcome: Result<Void, AMQPError>) {
        state.withLock { state in
            switch outcome {
            case .success: state.confirmed.insert(number)
            case .failure(let error): state.failed[number] = error.code
            }
        }
    }

    func receive(_ delivery: AMQPDelivery) {
        // The rest is padding.
        guard let number = Int(String(decoding: delivery.body.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self)) else {
            Issue.record("A message that nobody sent: \(delivery.text.prefix(40))")
            return
        }
        state.withLock { state in
            let times = state.received[number, default: 0]
            state.received[number] = times + 1
            if times > 0, !delivery.redelivered { state.silentDuplicates.append(number) }
        }
    }

    var attempted: Int { state.withLock(\.attempted) }
    var confirmed: Int { state.withLock(\.confirmed.count) }
    var received: Int { state.withLock(\.received.count) }
    /// How many publishes failed, by code.
    var failures: [AMQPError.Code: Int] { state.withLock { Dictionary($0.failed.values.map { ($0, 1) }, uniquingKeysWith: +) } }
    /// What was confirmed and has not come out.
    var missing: Set<Int> { state.withLock { $0.confirmed.subtracting($0.received.keys) } }

    /// Once the queue is empty and every publish has ended.
    func verify(_ location: SourceLocation = #_sourceLocation) {
        let state = state.withLock { $0 }
        let lost = state.confirmed.subtracting(state.received.keys)
        #expect(lost.isEmpty, "confirmed and lost: \(lost.sorted().prefix(20))", sourceLocation: location)
        let unknown = state.received.keys.filter { $0 >= state.attempted }
        #expect(unknown.isEmpty, "never sent: \(unknown.prefix(20))", sourceLocation: location)
        #expect(state.silentDuplicates.isEmpty, "twice, not as redelivered: \(state.silentDuplicates.prefix(20))", sourceLocation: location)
        let unanswered = state.attempted - state.confirmed.count - state.failed.count
        #expect(unanswered == 0, "publishes without an outcome", sourceLocation: location)
        let allowed: Set<AMQPError.Code> = [.connectionLost, .channelClosed, .timeout, .cancelled, .nacked, .shutdown]
        let wrong = state.failed.values.filter { !allowed.contains($0) }
        #expect(wrong.isEmpty, "failures with an unexpected reason", sourceLocation: location)
    }

    var summary: String {
        let state = state.withLock { $0 }
        let failures = self.failures.map { "\($0.value) \($0.key)" }.sorted().joined(separator: ", ")
        let twice = state.received.values.filter { $0 > 1 }.count
        return """
            \(state.attempted) sent, \(state.confirmed.count) confirmed, \(failures.isEmpty ? "no failures" : failures); \
            \(state.received.count) received, \(twice) more than once
            """
    }
}
