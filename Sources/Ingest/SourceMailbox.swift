import Jobs
import Orthanc
import Synchronization

/// What others want of a follower, which does one thing at a time: a look at the change log at once, or one resource's event.
final class SourceMailbox: Sendable {
    struct Request: Sendable {
        var level: ResourceLevel
        var id: OrthancID
        var replay: String?
        fileprivate var number: UInt64
    }

    enum Signal: Sendable, Hashable {
        case request
        case wake
        case timeout
    }

    private struct State {
        var isOpen = true
        var isWoken = false
        var lastNumber: UInt64 = 0
        /// Waiting, the oldest first.
        var requests: [Request] = []
        /// Of those who wait for an answer, by the request's number.
        var answers: [UInt64: CheckedContinuation<Submission, any Error>] = [:]
        /// The follower, while it rests.
        var sleeper: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Any number of calls between two looks are one.
    func wake() {
        signal { $0.isWoken = true }
    }

    /// - Throws: `CancellationError` when the task is cancelled. What has begun by then goes on.
    func submit(_ level: ResourceLevel, _ id: OrthancID, replay: String?) async throws -> Submission {
        let number = state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let refused: Submission? = state.withLock { state in
                    guard state.isOpen else { return .stopping }
                    state.requests.append(Request(level: level, id: id, replay: replay, number: number))
                    state.answers[number] = continuation
                    return nil
                }
                if let refused {
                    continuation.resume(returning: refused)
                } else {
                    signal { _ in }
                    // Cancelled before there was anything to take back.
                    if Task.isCancelled { withdraw(number) }
                }
            }
        } onCancel: {
            withdraw(number)
        }
    }

    private func withdraw(_ number: UInt64) {
        let answer = state.withLock { state in
            state.requests.removeAll { $0.number == number }
            return state.answers.removeValue(forKey: number)
        }
        answer?.resume(throwing: CancellationError())
    }

    // MARK: The follower's side

    func nextRequest() -> Request? {
        state.withLock { $0.requests.isEmpty ? nil : $0.requests.removeFirst() }
    }

    func answer(_ request: Request, _ submission: Submission) {
        state.withLock { $0.answers.removeValue(forKey: request.number) }?.resume(returning: submission)
    }

    /// Rests until somebody wants something, or until `end`.
    func wait(until end: ContinuousClock.Instant) async -> Signal {
        if let signal = takeSignal() { return signal }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.sleep() }
            group.addTask { try? await Task.sleep(until: end, clock: .continuous) }
            await group.next()
            group.cancelAll()
        }
        return takeSignal() ?? .timeout
    }

    /// The follower ends: nobody waits in vain.
    func close() {
        let answers = state.withLock { state in
            state.isOpen = false
            state.requests = []
            defer { state.answers = [:] }
            return Array(state.answers.values)
        }
        for answer in answers { answer.resume(returning: .stopping) }
    }

    private func takeSignal() -> Signal? {
        state.withLock { state in
            if !state.requests.isEmpty { return .request }
            defer { state.isWoken = false }
            return state.isWoken ? .wake : nil
        }
    }

    private func sleep() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isAwake = state.withLock { state in
                    if state.isWoken || !state.requests.isEmpty { return true }
                    state.sleeper = continuation
                    return false
                }
                if isAwake { continuation.resume() } else if Task.isCancelled { signal { _ in } }
            }
        } onCancel: {
            signal { _ in }
        }
    }

    private func signal(_ change: (inout sending State) -> Void) {
        let sleeper = state.withLock { state in
            change(&state)
            defer { state.sleeper = nil }
            return state.sleeper
        }
        sleeper?.resume()
    }
}
