package import Foundation
package import Jobs
package import Pipeline

/// A confirmed hint that no claim has followed yet.
package struct WaitingHint: Sendable, Hashable {
    package var job: JobID
    package var attempt: Int
    package var dispatch: Int
    package var channel: String
}

/// Hints of one channel and one priority, which the broker hands out in their order.
package struct WaitingLane: Sendable, Hashable {
    package var channel: String
    package var priority: Priority
    /// Since when the first of them waits.
    package var oldest: Date
}

/// An attempt that some worker holds the lease of.
package struct RunningAttempt: Sendable, Hashable {
    package var job: JobID
    package var token: Int
}

/// An event that could not be planned yet.
package struct UnplannedEvent: Sendable, Hashable {
    package var event: EventMessage
    package var attempts: Int
    /// Why the last one failed.
    package var reason: Reason
    package var triedAt: Date
}
