import Dispatch
import Glibc
import Synchronization

/// Ends a call of the C library that blocks, by shutting its socket down from another thread. Nothing else of the library is
/// touched from there.
///
/// Two things use it: a stop while a connect or a login waits for a silent broker, and a send on TLS that takes longer than the limit.
final class StuckCallBreaker: Sendable {
    private struct State {
        var descriptor: Int32?
        var entered = ContinuousClock.now
        var limit: Duration
        var stopped = false
        var timerRuns = false
    }

    private let state: Mutex<State>

    init(limit: Duration) {
        state = Mutex(State(limit: limit))
    }

    var isStopped: Bool { state.withLock { $0.stopped } }

    /// The connection's thread goes into a call that may block on this socket.
    func enter(descriptor: Int32) {
        let (stopped, startTimer) = state.withLock { state in
            state.descriptor = descriptor
            state.entered = .now
            defer { state.timerRuns = true }
            return (state.stopped, !state.timerRuns)
        }
        if stopped { shutdown(descriptor, Int32(SHUT_RDWR)) }
        if startTimer { check() }
    }

    /// It came back. From here on the descriptor may be closed and its number used again.
    func leave() {
        state.withLock { $0.descriptor = nil }
    }

    /// From any thread: from now on no call may take longer than this.
    func shorten(to limit: Duration) {
        state.withLock { $0.limit = min($0.limit, limit) }
    }

    /// From any thread: ends the current blocking call and each later one.
    func stop() {
        state.withLock { state in
            state.stopped = true
            if let descriptor = state.descriptor { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }

    private func check() {
        // The lock is held while the socket is shut down, so that `leave` cannot let the number go in between.
        let again = state.withLock { state in
            guard let descriptor = state.descriptor else {
                state.timerRuns = false
                return false
            }
            if ContinuousClock.now - state.entered > state.limit { shutdown(descriptor, Int32(SHUT_RDWR)) }
            return true
        }
        guard again else { return }
        DispatchQueue.global().asyncAfter(deadline: .now() + 1) { [weak self] in self?.check() }
    }
}
