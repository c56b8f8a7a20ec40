import Synchronization

/// One answer that a task waits for: the answer, a cancellation and the wait may come in any order, and the first answer counts.
final class AMQPPromise<Value: Sendable>: Sendable {
    private enum State {
        case initial
        case waiting([CheckedContinuation<Result<Value, AMQPError>, Never>])
        case completed(Result<Value, AMQPError>)
    }

    private let state = Mutex(State.initial)

    var isCompleted: Bool {
        state.withLock { if case .completed = $0 { true } else { false } }
    }

    func complete(_ result: Result<Value, AMQPError>) {
        let waiting = state.withLock { state -> [CheckedContinuation<Result<Value, AMQPError>, Never>] in
            switch state {
            case .initial:
                state = .completed(result)
                return []
            case .waiting(let continuations):
                state = .completed(result)
                return continuations
            case .completed:
                return []
            }
        }
        for continuation in waiting { continuation.resume(returning: result) }
    }

    /// The answer, whatever happens to the waiting task.
    var result: Result<Value, AMQPError> {
        get async {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state -> Result<Value, AMQPError>? in
                    switch state {
                    case .initial:
                        state = .waiting([continuation])
                        return nil
                    case .waiting(let others):
                        state = .waiting(others + [continuation])
                        return nil
                    case .completed(let result):
                        return result
                    }
                }
                if let result { continuation.resume(returning: result) }
            }
        }
    }

    /// The answer; a cancellation of the waiting task completes the promise for everyone.
    func value(cancelled: String) async throws(AMQPError) -> Value {
        try await withTaskCancellationHandler {
            await result
        } onCancel: {
            complete(.failure(AMQPError(.cancelled, cancelled)))
        }.get()
    }
}
