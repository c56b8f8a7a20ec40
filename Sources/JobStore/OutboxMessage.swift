package import Jobs

/// What has to reach the broker, kept until the broker has confirmed it.
package struct OutboxMessage: Sendable, Hashable, Codable {
    package enum Kind: String, Sendable, Codable {
        case hint
        /// A dead job, for the dead-letter exchange.
        case dead
    }

    package var kind: Kind
    package var job: JobID
    package var attempt: Int
    package var dispatch: Int
    package var channel: String
    package var priority: Priority
    package var delay: RetryDelay?
    /// Seconds until the message leaves the delay queue, when that is sooner than the queue's own delay.
    package var pause: Double?
    /// Why the job is dead.
    package var reason: Reason?

    package init(
        kind: Kind, job: JobID, attempt: Int, dispatch: Int, channel: String, priority: Priority, delay: RetryDelay? = nil,
        pause: Double? = nil, reason: Reason? = nil
    ) {
        self.kind = kind
        self.job = job
        self.attempt = attempt
        self.dispatch = dispatch
        self.channel = channel
        self.priority = priority
        self.delay = delay
        self.pause = pause
        self.reason = reason
    }
}

package struct OutboxRow: Sendable, Hashable {
    package var id: Int64
    package var message: OutboxMessage

    package init(id: Int64, message: OutboxMessage) {
        self.id = id
        self.message = message
    }
}
