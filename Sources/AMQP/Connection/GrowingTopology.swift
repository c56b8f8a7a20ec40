import Synchronization

/// What a client declares at each connect. It can grow while the client runs.
final class GrowingTopology: Sendable {
    private struct State {
        var current: AMQPTopology
        /// What was there from the start, or the broker has taken.
        var taken: AMQPTopology
    }

    private let state: Mutex<State>

    init(_ topology: AMQPTopology) { state = Mutex(State(current: topology, taken: topology)) }

    var current: AMQPTopology { state.withLock(\.current) }

    /// - Returns: false when the broker has taken all of it already.
    func add(_ addition: AMQPTopology) -> Bool {
        state.withLock { state in
            state.current = state.current + addition
            return state.taken + addition != state.taken
        }
    }

    func take(_ addition: AMQPTopology) {
        state.withLock { $0.taken = $0.taken + addition }
    }

    /// Forgets what the broker has refused: nothing else could be declared with it at the next connect.
    func forget(_ addition: AMQPTopology) {
        state.withLock { state in
            let taken = state.taken
            state.current.exchanges.removeAll { addition.exchanges.contains($0) && !taken.exchanges.contains($0) }
            state.current.queues.removeAll { addition.queues.contains($0) && !taken.queues.contains($0) }
            state.current.bindings.removeAll { addition.bindings.contains($0) && !taken.bindings.contains($0) }
        }
    }
}
