import Synchronization

/// How long an attempt is certainly ours by this machine's own clock, whatever the network does.
///
/// It counts from the moment a request left, because the router's clock starts somewhere between that and the answer, and it ends some
/// seconds early, because whoever gets the job next may start at once. The clock goes on while the machine is suspended.
final class Lease: Sendable {
    private static let margin = Duration.seconds(8)

    private let length: Duration
    private let end: Mutex<ContinuousClock.Instant>

    init(seconds: Int, since asked: ContinuousClock.Instant) {
        let whole = Duration.seconds(seconds)
        length = max(whole - Self.margin, whole / 2)
        end = Mutex(asked + length)
    }

    var isOver: Bool { remaining <= .zero }
    var remaining: Duration { end.withLock { $0 } - ContinuousClock.now }

    func renew(since asked: ContinuousClock.Instant) {
        end.withLock { $0 = max($0, asked + length) }
    }
}
