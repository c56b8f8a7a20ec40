import Synchronization

/// Hands everything that has piled up to one reader at once: the longer a commit takes, the more the next one carries.
final class BatchQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        var isFinished = false
        var waiting: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func append(_ element: Element) { append(contentsOf: CollectionOfOne(element)) }

    func append(contentsOf elements: some Collection<Element>) {
        let waiting = state.withLock { state in
            state.elements.append(contentsOf: elements)
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }

    /// Lets the reader take what is left and then end.
    func finish() {
        let waiting = state.withLock { state in
            state.isFinished = true
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }

    /// Waits until there is something. One reader only.
    /// - Returns: at most `limit` elements in their order; nil when the queue is finished and empty.
    func next(upTo limit: Int) async -> [Element]? {
        while true {
            let (batch, isFinished) = state.withLock { state in
                let batch = Array(state.elements.prefix(limit))
                state.elements.removeFirst(batch.count)
                return (batch, state.isFinished)
            }
            if !batch.isEmpty { return batch }
            if isFinished { return nil }
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state in
                    guard state.elements.isEmpty, !state.isFinished else { return true }
                    state.waiting = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        }
    }
}
