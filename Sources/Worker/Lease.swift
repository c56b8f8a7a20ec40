import Synchronization

/// How long an attempt is certainly ours by this machine's own clock, whatever the network does.
///
/// It counts from the moment a request left, because the router's clock starts somewhere between that and the answer, and it ends some
/// seconds early, because whoever gets the job next may start at once. The clock goes on while the machine is suspended.
final class Lease: Sendable {
    private let length: Duration
    private let clock: WorkerClock
    private let end: Mutex<ContinuousClock.Instant>

    /// - Parameter margin: how much earlier than the router's it ends. What ends with the lease is told to end, and killed after a grace: that
    ///   has to lie within the lease too. At most half of the lease.
    init(seconds: Int, since asked: ContinuousClock.Instant, margin: Duration = .seconds(8), clock: WorkerClock = .machine) {
        let whole = Duration.seconds(seconds)
        length = max(whole - margin, whole / 2)
        end = Mutex(asked + length)
        self.clock = clock
    }

    var isOver: Bool { remaining <= .zero }
    var remaining: Duration { end.withLock { $0 } - clock.now() }

    func renew(since asked: ContinuousClock.Instant) {
        end.withLock { $0 = max($0, asked + length) }
    }
}

/// The clock that leases end by. Tests have their own.
struct WorkerClock: Sendable {
    var now: @Sendable () -> ContinuousClock.Instant
    /// Returns early when the task is cancelled.
    var sleep: @Sendable (Duration) async -> Void

    static let machine = WorkerClock(now: { .now }, sleep: { try? await Task.sleep(for: $0) })
}
