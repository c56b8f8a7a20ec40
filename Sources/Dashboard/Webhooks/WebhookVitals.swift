package import Foundation
import Synchronization

/// Whether messages get from the ledger to the broker, and from there to webhooks.
package final class WebhookVitals: Sendable {
    package enum Part: Sendable, Hashable {
        case handingOver
        /// To the webhook with this id.
        case delivering(String)
    }

    private struct Trouble {
        var reason: String
        var since: Date
    }

    /// What passes by itself is no alarm.
    static let patience: TimeInterval = 60
    private let troubles = Mutex<[Part: Trouble]>([:])

    package init() {}

    package func noteSuccess(_ part: Part) { troubles.withLock { $0[part] = nil } }

    /// - Parameter reason: a sentence for people.
    /// - Returns: whether that is news.
    package func note(_ part: Part, _ reason: String, at now: Date) -> Bool {
        troubles.withLock { troubles in
            let old = troubles[part]
            troubles[part] = Trouble(reason: reason, since: old?.since ?? now)
            return old?.reason != reason
        }
    }

    func alarm(at now: Date) -> PageFrame.Alarm? {
        let lasting = troubles.withLock { $0.values.filter { now.timeIntervalSince($0.since) >= Self.patience } }
        guard let first = lasting.min(by: { $0.since < $1.since }) else { return nil }
        return PageFrame.Alarm(
            isError: true, text: "Webhooks are told nothing, and told it later: \(first.reason)", url: "/webhooks", since: first.since)
    }
}
