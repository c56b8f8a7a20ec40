import Synchronization

/// Hands everything that has piled up to one reader at once: the longer a commit takes, the more the next one carries.
final class BatchQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        /// What stands before it has been handed out. Removed in large pieces: each removal moves all that is left.
        var head = 0
        /// Something here must not wait for company.
        var isUrgent = false
        var isFinished = false
        var waiting: CheckedContinuation<Void, Never>?

        var isDue: Bool { isUrgent || isFinished }

        mutating func take(upTo limit: Int) -> [Element] {
            guard isDue else { return [] }
            let batch = Array(elements[head...].prefix(limit))
            head += batch.count
            if head == elements.count {
                // A burst's memory goes back; the usual few elements keep theirs.
                elements.removeAll(keepingCapacity: elements.capacity <= 4096)
                head = 0
                isUrgent = false
            } else if head > elements.count / 2 {
                elements.removeFirst(head)
                head = 0
            }
            return batch
        }
    }

    private let state = Mutex(State())

    var count: Int { state.withLock { $0.elements.count - $0.head } }

    func append(_ element: Element) { append(contentsOf: CollectionOfOne(element)) }

    func append(contentsOf elements: some Collection<Element>) {
        guard !elements.isEmpty else { return }
        let waiting = state.withLock { state in
            state.elements.append(contentsOf: elements)
            state.isUrgent = true
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }

    /// Adds what has time: the reader gets it together with the next element that has none, or after ``hurry()``.
    func appendPatiently(_ element: Element) {
        state.withLock { $0.elements.append(element) }
    }

    /// What is here is handed out now.
    func hurry() {
        let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard state.head < state.elements.count else { return nil }
            state.isUrgent = true
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

    /// Waits until there is something that is due. One reader only.
    /// - Returns: at most `limit` elements in their order; nil when the queue is finished and empty.
    func next(upTo limit: Int) async -> [Element]? {
        while true {
            let (batch, isFinished) = state.withLock { state in (state.take(upTo: limit), state.isFinished) }
            if !batch.isEmpty { return batch }
            if isFinished { return nil }
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state in
                    guard !state.isDue else { return true }
                    state.waiting = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        }
    }
}
