/// Which running attempts still have the time that their worker was given. Kept in memory, on a monotonic clock.
///
/// A lease may only expire when its renewal could have been heard: after every reconnect each lease starts anew.
package struct LeaseTable: Sendable {
    package struct Lease: Sendable, Hashable {
        package var job: JobID
        package var token: Int

        package init(job: JobID, token: Int) {
            self.job = job
            self.token = token
        }
    }

    package typealias Instant = ContinuousClock.Instant

    package let duration: Duration
    private var deadlines: [JobID: (token: Int, deadline: Instant)] = [:]

    package init(duration: Duration) { self.duration = duration }

    package var count: Int { deadlines.count }

    /// Starts or renews a lease.
    package mutating func extend(_ job: JobID, token: Int, at now: Instant) {
        deadlines[job] = (token, now + duration)
    }

    /// Forgets a lease, unless the job has another one by now.
    package mutating func release(_ lease: Lease) {
        if deadlines[lease.job]?.token == lease.token { deadlines[lease.job] = nil }
    }

    package mutating func extendAll(at now: Instant) {
        for job in deadlines.keys { deadlines[job]?.deadline = now + duration }
    }

    package func hasExpired(_ lease: Lease, at now: Instant) -> Bool {
        guard let current = deadlines[lease.job] else { return false }
        return current.token == lease.token && current.deadline <= now
    }

    /// The leases that ran out. They stay in the table until they are released.
    package func expired(at now: Instant) -> [Lease] {
        deadlines.filter { $0.value.deadline <= now }.map { Lease(job: $0.key, token: $0.value.token) }
    }
}
