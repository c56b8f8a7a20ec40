/// How a client stands with its broker.
package enum AMQPConnectionState: Sendable, Equatable {
    /// Not connected yet.
    case connecting
    /// Both connections are up, the topology is declared.
    case open
    /// Connected, but the broker takes no messages (memory or disk alarm); its reason. Deliveries go on.
    case blocked(reason: String)
    /// Not connected; tried again with backoff. The error says why.
    case waiting(AMQPError)
    /// Stopping: what is in flight gets its answer.
    case draining
    case closed

    /// Of two connections the one further from `open` speaks for both.
    var severity: Int {
        switch self {
        case .open: 0
        case .blocked: 1
        case .connecting: 2
        case .waiting: 3
        case .draining: 4
        case .closed: 5
        }
    }
}

extension AMQPError: Equatable {
    package static func == (left: AMQPError, right: AMQPError) -> Bool {
        left.code == right.code && left.message == right.message && left.replyCode == right.replyCode
    }
}
