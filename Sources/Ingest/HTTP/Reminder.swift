import Synchronization

/// Lets the same thing be said once a minute.
final class Reminder: Sendable {
    private let pause: Duration
    private let told = Mutex<[String: ContinuousClock.Instant]>([:])

    init(pause: Duration = .seconds(60)) { self.pause = pause }

    func isDue(_ key: String, now: ContinuousClock.Instant = .now) -> Bool {
        told.withLock { told in
            if let last = told[key], now - last < pause { return false }
            if told.count > 1000 { told.removeAll() }
            told[key] = now
            return true
        }
    }
}
