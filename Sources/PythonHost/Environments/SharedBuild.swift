import Foundation
import Jobs
import Synchronization

/// A build and everybody who waits for it. When the last one has left it is broken off.
final class SharedBuild: Sendable {
    typealias Outcome = Result<String, JobExit.Failure>

    private struct Waiter {
        /// nil until it waits.
        var continuation: CheckedContinuation<Outcome?, Never>?
        var onProgress: @Sendable (String) -> Void
    }

    private struct State {
        var waiters: [Int: Waiter] = [:]
        var next = 0
        var isAbandoned = false
        var progress: String?
        /// Set at the end: nil inside when it was abandoned.
        var outcome: Outcome??
        var onEnd: [CheckedContinuation<Void, Never>] = []
    }

    let key: String
    private let state = Mutex(State())

    init(_ build: EnvironmentBuild) {
        key = build.recipe.key
        Thread.detachNewThread { [self] in
            finish(build.run(isAbandoned: { isAbandoned }, onProgress: { report($0) }))
        }
    }

    private var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    /// - Returns: a place among those who wait; nil when it has ended or is being broken off.
    func join(onProgress: @escaping @Sendable (String) -> Void) -> Int? {
        let joined: (number: Int, progress: String?)? = state.withLock { state in
            guard !state.isAbandoned, state.outcome == nil else { return nil }
            state.next += 1
            state.waiters[state.next] = Waiter(onProgress: onProgress)
            return (state.next, state.progress)
        }
        guard let joined else { return nil }
        if let progress = joined.progress { onProgress(progress) }
        return joined.number
    }

    /// Waits for the end; nil when the task is cancelled before.
    func outcome(for waiter: Int) async -> Outcome? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let known: Outcome?? = state.withLock { state in
                    if let outcome = state.outcome { return outcome }
                    // Cancelled before it began to wait.
                    guard state.waiters[waiter] != nil else { return .some(nil) }
                    state.waiters[waiter]?.continuation = continuation
                    return nil
                }
                if let known { continuation.resume(returning: known) }
            }
        } onCancel: {
            leave(waiter)
        }
    }

    /// Breaks it off, whoever waits.
    func abandon() {
        state.withLock { $0.isAbandoned = true }
    }

    /// Returns once its last program has ended.
    func end() async {
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.outcome == nil { state.onEnd.append(continuation) }
                return state.outcome != nil
            }
            if hasEnded { continuation.resume() }
        }
    }

    private func leave(_ number: Int) {
        let waiter = state.withLock { state in
            let waiter = state.waiters.removeValue(forKey: number)
            if state.waiters.isEmpty { state.isAbandoned = true }
            return waiter
        }
        waiter?.continuation?.resume(returning: nil)
    }

    private func report(_ text: String) {
        let listeners = state.withLock { state in
            state.progress = text
            return state.waiters.values.map(\.onProgress)
        }
        for listener in listeners { listener(text) }
    }

    private func finish(_ outcome: Outcome?) {
        let (waiters, others) = state.withLock { state in
            state.outcome = .some(outcome)
            defer { (state.waiters, state.onEnd) = ([:], []) }
            return (state.waiters.values.compactMap(\.continuation), state.onEnd)
        }
        for waiter in waiters { waiter.resume(returning: outcome) }
        for other in others { other.resume() }
    }
}
