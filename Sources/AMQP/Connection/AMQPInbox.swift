import Synchronization

/// What other threads ask of a connection's thread.
enum AMQPCommand: Sendable {
    case publish(PublishSubmission)
    case publishTransient(AMQPPublishing)
    case call(AMQPCall)
    case declare(AMQPTopology, deadline: ContinuousClock.Instant, AMQPPromise<Void>)
    case inspect(queue: String, deadline: ContinuousClock.Instant, AMQPPromise<AMQPQueueStatus>)
    case startConsumer(ConsumerRequest)
    case stopConsumer(id: UInt64)
    /// `channel` is the serial number of the channel that delivered; numbers are never used again.
    case settle(channel: UInt64, deliveryTag: UInt64, AMQPSettlement)
}

/// How a connection is to end.
enum AMQPStop: Sendable, Comparable {
    /// Answer what is in flight first, then say goodbye.
    case drain
    /// Now.
    case abandon
}

/// The one way into a connection's thread: commands in order, and a wake-up only when the thread sleeps, so that a burst of acks costs
/// one system call.
final class AMQPInbox: Sendable {
    private struct State {
        var commands: [AMQPCommand] = []
        var transients = 0
        var stop: AMQPStop?
        var sleeps = false
        var isClosed = false
    }

    private let state = Mutex(State())
    let wakeUp = WakeUp()

    /// - Returns: false when the connection has ended for good; the command will not be looked at.
    @discardableResult
    func submit(_ command: AMQPCommand) -> Bool {
        submit { state in
            state.commands.append(command)
            return true
        }
    }

    /// Transient messages that may wait for the thread; nobody who sends them waits, so nothing else would bound them.
    static let maximumTransients = 10_000

    /// - Returns: false when the message is dropped: too many wait, or the connection has ended for good.
    func submitTransient(_ message: AMQPPublishing) -> Bool {
        submit { state in
            guard state.transients < Self.maximumTransients else { return false }
            state.commands.append(.publishTransient(message))
            state.transients += 1
            return true
        }
    }

    /// - Parameter append: false when it appends nothing.
    @inline(__always)
    private func submit(_ append: (inout sending State) -> Bool) -> Bool {
        let (accepted, wake) = state.withLock { state in
            guard !state.isClosed, append(&state) else { return (false, false) }
            defer { state.sleeps = false }
            return (true, state.sleeps)
        }
        if wake { wakeUp.signal() }
        return accepted
    }

    func stop(_ stop: AMQPStop) {
        state.withLock { state in
            state.stop = max(state.stop ?? stop, stop)
            state.sleeps = false
        }
        wakeUp.signal()
    }

    // MARK: The connection's thread

    func take() -> (commands: [AMQPCommand], stop: AMQPStop?) {
        state.withLock { state in
            state.sleeps = false
            state.transients = 0
            defer { state.commands = [] }
            return (state.commands, state.stop)
        }
    }

    /// - Returns: whether the thread may sleep: nothing has come since the last `take()`.
    func prepareToSleep(seen stop: AMQPStop?) -> Bool {
        state.withLock { state in
            state.sleeps = state.commands.isEmpty && state.stop == stop
            return state.sleeps
        }
    }

    /// Takes no more commands.
    ///
    /// - Returns: those that nobody has seen.
    func close() -> [AMQPCommand] {
        state.withLock { state in
            state.isClosed = true
            defer { state.commands = [] }
            return state.commands
        }
    }
}
