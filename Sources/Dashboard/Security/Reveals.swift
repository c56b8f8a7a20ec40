import Foundation
import Synchronization

/// Which browser sees what identifies a patient, of which run, and until when. In memory: a restart hides everything.
final class Reveals: Sendable {
    static let lifetime: TimeInterval = 15 * 60

    /// Who looks at what, through which browser.
    struct Key: Hashable, Sendable {
        var actor: String
        var session: String
        var run: String

        init(actor: String, session: String, run: String) {
            self.actor = actor
            self.session = session
            self.run = run
        }

        /// - Returns: nil for who has no session to remember it by.
        init?(_ run: String, _ context: DashboardContext) {
            guard let identity = context.identity, let session = context.session else { return nil }
            self.init(actor: identity.actor, session: session.id, run: run)
        }
    }

    private let until = Mutex<[Key: Date]>([:])
    private let capacity: Int

    init(capacity: Int = 10_000) { self.capacity = capacity }

    func reveal(_ key: Key, at now: Date) {
        until.withLock { until in
            if until.count >= capacity { until = until.filter { $0.value > now } }
            if until.count >= capacity { until.removeAll() }
            until[key] = now.addingTimeInterval(Self.lifetime)
        }
    }

    func hide(_ key: Key) { until.withLock { $0[key] = nil } }

    /// - Returns: when it ends; nil for what is hidden.
    func end(_ key: Key, at now: Date) -> Date? { until.withLock { $0[key] }.flatMap { $0 > now ? $0 : nil } }
}
