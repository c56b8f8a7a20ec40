import Synchronization

/// How many jobs run at a time, across all channels.
final class Slots: Sendable {
    private struct State {
        var free: Int
        var lastWaiter = 0
        /// In the order of arrival.
        var waiting: [(id: Int, promise: CheckedContinuation<Bool, Never>)] = []
    }

    private let state: Mutex<State>

    init(_ count: Int) {
        state = Mutex(State(free: count))
    }

    /// Takes a slot, waiting for one if need be.
    /// - Returns: false when none became free within `limit`, or the task was cancelled.
    func take(within limit: Duration) async -> Bool {
        if state.withLock({ state in
            guard state.free > 0 else { return false }
            state.free -= 1
            return true
        }) {
            return true
        }
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let alarm = Task {
            try? await Task.sleep(for: limit)
            giveUp(id)
        }
        defer { alarm.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { promise in
                let answer: Bool? = state.withLock { state in
                    if state.free > 0 {
                        state.free -= 1
                        return true
                    }
                    if Task.isCancelled { return false }
                    state.waiting.append((id, promise))
                    return nil
                }
                if let answer { promise.resume(returning: answer) }
            }
        } onCancel: {
            giveUp(id)
        }
    }

    func release() {
        let next: CheckedContinuation<Bool, Never>? = state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst().promise
        }
        next?.resume(returning: true)
    }

    private func giveUp(_ id: Int) {
        let promise = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return nil }
            return state.waiting.remove(at: index).promise
        }
        promise?.resume(returning: false)
    }
}
