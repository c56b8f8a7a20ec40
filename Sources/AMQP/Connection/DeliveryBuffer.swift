import Synchronization

/// Deliveries on their way from the connection's thread to the tasks that iterate. Bounded by the consumer's prefetch: the broker
/// sends no more than that without an ack.
final class DeliveryBuffer: Sendable {
    private struct State {
        /// Nil in front of `head`, so that a message's memory goes when it is taken.
        var deliveries: [AMQPDelivery?] = []
        var head = 0
        var waiting: [(id: UInt64, continuation: CheckedContinuation<AMQPDelivery?, Never>)] = []
        var nextID: UInt64 = 0
        var finished = false

        mutating func popFirst() -> AMQPDelivery? {
            guard head < deliveries.count else { return nil }
            let first = deliveries[head].take()
            head += 1
            if head == deliveries.count {
                deliveries.removeAll(keepingCapacity: true)
                head = 0
            } else if head > 64, head * 2 > deliveries.count {
                deliveries.removeFirst(head)
                head = 0
            }
            return first
        }
    }

    private let state = Mutex(State())

    func append(_ arrived: [AMQPDelivery]) {
        let served = state.withLock { state -> [(CheckedContinuation<AMQPDelivery?, Never>, AMQPDelivery)] in
            guard !state.finished else { return [] }
            let count = min(state.waiting.count, arrived.count)
            let waiting = state.waiting.prefix(count).map(\.continuation)
            state.waiting.removeFirst(count)
            state.deliveries.append(contentsOf: arrived[count...].lazy.map(Optional.some))
            return Array(zip(waiting, arrived))
        }
        for (waiter, delivery) in served { waiter.resume(returning: delivery) }
    }

    /// Drops what nobody took yet: after a lost channel the broker delivers it again.
    func discardAll() {
        state.withLock { state in
            state.deliveries = []
            state.head = 0
        }
    }

    func finish() {
        let waiting = state.withLock { state in
            state.finished = true
            state.deliveries = []
            state.head = 0
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in waiting { waiter.continuation.resume(returning: nil) }
    }

    /// The next delivery; nil when the consumer has ended or the task is cancelled.
    func next() async -> AMQPDelivery? {
        // They come in bursts: all but the first of one are here already, and need neither a handler nor a continuation.
        if !Task.isCancelled, let delivery = state.withLock({ $0.popFirst() }) { return delivery }
        return await waitForNext()
    }

    private func waitForNext() async -> AMQPDelivery? {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                enum Step {
                    case wait
                    case answer(AMQPDelivery?)
                }
                let step = state.withLock { state -> Step in
                    if Task.isCancelled { return .answer(nil) }
                    if let delivery = state.popFirst() { return .answer(delivery) }
                    if state.finished { return .answer(nil) }
                    state.waiting.append((id, continuation))
                    return .wait
                }
                if case .answer(let delivery) = step { continuation.resume(returning: delivery) }
            }
        } onCancel: {
            let continuation = state.withLock { state -> CheckedContinuation<AMQPDelivery?, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return nil }
                return state.waiting.remove(at: index).continuation
            }
            continuation?.resume(returning: nil)
        }
    }
}
