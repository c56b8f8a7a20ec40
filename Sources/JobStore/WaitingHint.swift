package import Foundation
package import Jobs
package import Pipeline

/// A confirmed hint that no claim has followed yet.
package struct WaitingHint: Sendable, Hashable {
    package var job: JobID
    package var attempt: Int
    package var dispatch: Int
    package var channel: String

    package init(job: JobID, attempt: Int, dispatch: Int, channel: String) {
        self.job = job
        self.attempt = attempt
        self.dispatch = dispatch
        self.channel = channel
    }
}

/// Hints of one channel and one priority, which the broker hands out in their order.
package struct WaitingLane: Sendable, Hashable {
    package var channel: String
    package var priority: Priority
    /// Since when the first of them waits.
    package var oldest: Date

    package init(channel: String, priority: Priority, oldest: Date) {
        self.channel = channel
        self.priority = priority
        self.oldest = oldest
    }
}

/// An attempt that some worker holds the lease of.
package struct RunningAttempt: Sendable, Hashable {
    package var job: JobID
    package var token: Int

    package init(job: JobID, token: Int) {
        self.job = job
        self.token = token
    }
}

/// An event that could not be planned yet.
package struct UnplannedEvent: Sendable, Hashable {
    package var event: EventMessage
    package var attempts: Int
    /// Why the last one failed.
    package var reason: Reason
    package var triedAt: Date

    package init(event: EventMessage, attempts: Int, reason: Reason, triedAt: Date) {
        self.event = event
        self.attempts = attempts
        self.reason = reason
        self.triedAt = triedAt
    }
}
