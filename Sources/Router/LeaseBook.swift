import Jobs
import Synchronization

/// The lease table and the time up to which this router has heard everything, on a monotonic clock.
///
/// A lease expires only when the router was able to hear a renewal during the whole of its time. What was heard is proven by echoes: the
/// router sends itself a message through the very queue that renewals come in, and its return says that all renewals before it have
/// been dealt with. So an echo's return needs all that hearing needs: a connection both ways, a broker that takes messages, a consumer
/// that gets on, a ledger that commits. Leases are compared with the time at which the last returned echo was *sent*.
///
/// While something of this fails no echo returns, and no lease can expire. Two echoes in a row that were sent far apart mean that the
/// router stood still in between (SIGSTOP, a suspended machine, a disk that stalled the writer): then every lease starts anew. The clock
/// must be one that goes on while the machine is suspended (CLOCK_BOOTTIME, Swift's `ContinuousClock`); on CLOCK_MONOTONIC a night in
/// suspension would be no gap.
struct LeaseWatch {
    typealias Instant = ContinuousClock.Instant

    /// Everything up to here has been heard.
    private(set) var heardUntil: Instant
    private var table: LeaseTable
    private let longestGap: Duration

    init(duration: Duration, longestGap: Duration, at now: Instant) {
        table = LeaseTable(duration: duration)
        self.longestGap = longestGap
        heardUntil = now
    }

    mutating func extend(_ job: JobID, token: Int, at now: Instant) { table.extend(job, token: token, at: now) }
    mutating func release(_ job: JobID) { table.release(job) }

    /// Nobody could renew for some time.
    mutating func wasDeaf(at now: Instant) { table.extendAll(at: now) }

    /// An echo has come back.
    mutating func heard(until sent: Instant, at now: Instant) {
        guard sent > heardUntil else { return }
        if sent - heardUntil > longestGap { table.extendAll(at: now) }
        heardUntil = sent
    }

    var expired: [LeaseTable.Lease] { table.expired(at: heardUntil) }
}

/// A `LeaseWatch` that the writer and the connection's watcher share.
final class LeaseBook: Sendable {
    private let watch: Mutex<LeaseWatch>

    init(duration: Duration, longestGap: Duration) {
        watch = Mutex(LeaseWatch(duration: duration, longestGap: longestGap, at: .now))
    }

    func extend(_ job: JobID, token: Int) { watch.withLock { $0.extend(job, token: token, at: .now) } }
    func release(_ job: JobID) { watch.withLock { $0.release(job) } }
    func wasDeaf() { watch.withLock { $0.wasDeaf(at: .now) } }
    func isExpired(_ lease: LeaseTable.Lease) -> Bool { watch.withLock { $0.expired.contains(lease) } }

    /// - Returns: the leases that have run out.
    func heard(until sent: ContinuousClock.Instant) -> [LeaseTable.Lease] {
        watch.withLock { watch in
            watch.heard(until: sent, at: .now)
            return watch.expired
        }
    }
}
