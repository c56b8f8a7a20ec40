/// How a client stands with its broker.
///
///     connecting --> open <--> blocked
///          |          |  ^
///          v          v  |
///        reconnecting ---+         any state --stop--> draining --> closed
package enum AMQPConnectionState: Sendable, Equatable {
    /// The first attempt is under way, or the client does not run yet.
    case connecting
    /// Both connections are up, the topology is declared.
    case open
    /// Connected, but the broker takes no messages (memory or disk alarm); its reason. Deliveries go on, publishers wait.
    case blocked(reason: String)
    /// Not connected, or not wholly; tried again with backoff. The error says why.
    case reconnecting(AMQPError)
    /// Stopping: what is in flight gets its answer.
    case draining
    /// The end: everything that was open has been answered.
    case closed

    /// Of two connections the one further from `open` speaks for both.
    var severity: Int {
        switch self {
        case .open: 0
        case .blocked: 1
        case .connecting: 2
        case .reconnecting: 3
        case .draining: 4
        case .closed: 5
        }
    }
}
