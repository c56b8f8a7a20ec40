import Synchronization

/// The state of both connections, for everyone who wants to know.
final class AMQPStatus: Sendable {
    enum Part: Int, Sendable {
        case publish, consume
    }

    private struct State {
        var parts: [AMQPConnectionState] = [.connecting, .connecting]
        var watchers: [UInt64: AsyncStream<AMQPConnectionState>.Continuation] = [:]
        var nextID: UInt64 = 0

        var combined: AMQPConnectionState {
            // Closed only when both are: until then the client is still draining.
            let states =
                parts.contains(.closed) && Set(parts.map(\.severity)).count > 1 ? parts.map { $0 == .closed ? .draining : $0 } : parts
            return states.max { $0.severity < $1.severity }!
        }
    }

    private let state = Mutex(State())
    /// One change at a time is told: the last that a watcher hears is the newest. Taken before `state`, and by nobody who is called back.
    private let order = Mutex(())

    var current: AMQPConnectionState {
        state.withLock { $0.combined }
    }

    subscript(part: Part) -> AMQPConnectionState {
        state.withLock { $0.parts[part.rawValue] }
    }

    func update(_ part: Part, _ new: AMQPConnectionState) {
        order.withLock { _ in
            let (combined, watchers) = state.withLock { state -> (AMQPConnectionState, [AsyncStream<AMQPConnectionState>.Continuation]) in
                let old = state.combined
                state.parts[part.rawValue] = new
                let combined = state.combined
                return (combined, combined == old ? [] : Array(state.watchers.values))
            }
            // Not under the state's lock: who is being cancelled while he waits for this holds a lock that the yield needs, and calls back
            // into `remove`. So does a stream's end.
            for watcher in watchers {
                watcher.yield(combined)
                if combined == .closed { watcher.finish() }
            }
        }
    }

    /// The state now and each later one; slow readers see the newest.
    func stream() -> AsyncStream<AMQPConnectionState> {
        let (stream, continuation) = AsyncStream.makeStream(of: AMQPConnectionState.self, bufferingPolicy: .bufferingNewest(1))
        let id = state.withLock { state in
            continuation.yield(state.combined)
            if state.combined == .closed { continuation.finish() }
            state.nextID += 1
            state.watchers[state.nextID] = continuation
            return state.nextID
        }
        continuation.onTermination = { [weak self] _ in
            self?.remove(id)
        }
        return stream
    }

    private func remove(_ id: UInt64) {
        // The continuation must not die under the lock: its end calls back into here.
        let removed = state.withLock { $0.watchers.removeValue(forKey: id) }
        withExtendedLifetime(removed) {}
    }
}
