import Synchronization

/// Lets through one after the other, so far apart.
final class WebhookPace: Sendable {
    private let apart: Duration
    private let next = Mutex<ContinuousClock.Instant?>(nil)

    init(apart: Duration) { self.apart = apart }

    /// - Returns: when it is whose turn it is who asks now.
    func reserve(at now: ContinuousClock.Instant = .now) -> ContinuousClock.Instant {
        next.withLock { next in
            let turn = max(next ?? now, now)
            next = turn + apart
            return turn
        }
    }
}
