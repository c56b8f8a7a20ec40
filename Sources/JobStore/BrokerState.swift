package import Foundation

/// How the router sees the broker.
package struct BrokerState: Sendable, Hashable {
    package enum Condition: String, Sendable {
        case open
        case disconnected
        /// The broker takes nothing: its memory or its disk is at the limit.
        case blocked
    }

    package var condition: Condition
    /// What the broker said, or why it cannot be reached.
    package var reason: String?
    package var since: Date

    package init(_ condition: Condition, reason: String? = nil, since: Date) {
        self.condition = condition
        self.reason = reason
        self.since = since
    }
}
