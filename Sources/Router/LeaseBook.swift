import Jobs
import Synchronization

/// The lease table and the time up to which this router has heard everything, on a monotonic clock.
///
/// A lease expires only when the router was able to hear a renewal during the whole of its time. What was heard is proven by echoes: the
/// router sends itself a message through the very queue that renewals come in, and its return says that all renewals before it have
/// been dealt with. So an echo's return needs all that hearing needs: a connection both ways, a broker that takes messages, a consumer
/// that gets on, a ledger that commits. Leases are compared with the time at which the last returned echo was *sent*.
///
/// While something of this fails no echo returns, and no lease can expire. An echo that was long on its way proves nothing: it may have
/// waited in a socket that the broker did not read, and so may the renewals, each in a socket of its own, or they were dropped when
/// their time in the queue was over. Two echoes in a row that count and were sent far apart mean that nobody was heard in between (a
/// broker or a router that stood still, a suspended machine, a disk that stalled the writer): then every lease starts anew. So a
/// router that is far behind with its work ends no lease before it has caught up. The clock must be one that goes on while the machine
/// is suspended (CLOCK_BOOTTIME, Swift's `ContinuousClock`); on CLOCK_MONOTONIC a night in suspension would be no gap.
struct LeaseWatch {
    typealias Instant = ContinuousClock.Instant

    /// Everything up to here has been heard.
    private(set) var heardUntil: Instant
    private var table: LeaseTable
    /// Between two echoes that count, and from an echo's sending to its return.
    private let longestGap: Duration

    init(duration: Duration, longestGap: Duration, at now: Instant) {
        table = LeaseTable(duration: duration)
        self.longestGap = longestGap
        heardUntil = now
    }

    mutating func extend(_ job: JobID, token: Int, at now: Instant) { table.extend(job, token: token, at: now) }
    mutating func release(_ lease: LeaseTable.Lease) { table.release(lease) }

    /// Nobody could renew for some time.
    mutating func wasDeaf(at now: Instant) { table.extendAll(at: now) }

    /// An echo has come back.
    mutating func heard(until sent: Instant, at now: Instant) {
        guard sent > heardUntil, now - sent <= longestGap else { return }
        if sent - heardUntil > longestGap { table.extendAll(at: now) }
        heardUntil = sent
    }

    var expired: [LeaseTable.Lease] { table.expired(at: heardUntil) }
    func hasExpired(_ lease: LeaseTable.Lease) -> Bool { table.hasExpired(lease, at: heardUntil) }
}

/// A `LeaseWatch` that the writer and the connection's watcher share.
final class LeaseBook: Sendable {
    private let watch: Mutex<LeaseWatch>

    init(duration: Duration, longestGap: Duration) {
        watch = Mutex(LeaseWatch(duration: duration, longestGap: longestGap, at: .now))
    }

    func extend(_ job: JobID, token: Int) { watch.withLock { $0.extend(job, token: token, at: .now) } }
    func release(_ lease: LeaseTable.Lease) { watch.withLock { $0.release(lease) } }
    func wasDeaf() { watch.withLock { $0.wasDeaf(at: .now) } }
    func hasExpired(_ lease: LeaseTable.Lease) -> Bool { watch.withLock { $0.hasExpired(lease) } }

    /// - Returns: the leases that have run out.
    func heard(until sent: ContinuousClock.Instant) -> [LeaseTable.Lease] {
        watch.withLock { watch in
            watch.heard(until: sent, at: .now)
            return watch.expired
        }
    }
}
