import Synchronization

/// What one call of `publish` handed in: its messages, and their outcomes as they become known.
final class PublishSubmission: Sendable {
    private struct State {
        var outcomes: [Result<Void, AMQPError>?]
        var open: Int
        var continuation: CheckedContinuation<Void, Never>?
    }

    let messages: [AMQPPublishing]
    let deadline: ContinuousClock.Instant
    private let state: Mutex<State>

    init(_ messages: [AMQPPublishing], deadline: ContinuousClock.Instant) {
        self.messages = messages
        self.deadline = deadline
        state = Mutex(State(outcomes: Array(repeating: nil, count: messages.count), open: messages.count))
    }

    func isSettled(_ index: Int) -> Bool {
        state.withLock { $0.outcomes[index] != nil }
    }

    /// The first outcome of each message counts.
    func settle(_ index: Int, _ outcome: Result<Void, AMQPError>) {
        let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.outcomes[index] == nil else { return nil }
            state.outcomes[index] = outcome
            state.open -= 1
            return state.open == 0 ? state.continuation.take() : nil
        }
        continuation?.resume()
    }

    /// One outcome a message, in their order. A cancellation settles at once what is still open.
    func outcomes() async -> [Result<Void, AMQPError>] {
        await settled()
        return state.withLock { $0.outcomes.map { $0! } }
    }

    /// The outcome of the only message.
    func outcome() async -> Result<Void, AMQPError> {
        await settled()
        return state.withLock { $0.outcomes[0]! }
    }

    private func settled() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let done = state.withLock { state in
                    if state.open > 0 { state.continuation = continuation }
                    return state.open == 0
                }
                if done { continuation.resume() }
            }
        } onCancel: {
            let error = AMQPError(.cancelled, "The task was cancelled while it waited for a confirm; the message may have arrived.")
            for index in messages.indices { settle(index, .failure(error)) }
        }
    }
}
