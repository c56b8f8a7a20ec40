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
        let lasting = troubles.withLock { $0.filter { now.timeIntervalSince($0.value.since) >= Self.patience } }
        guard let (part, trouble) = lasting.min(by: { $0.value.since < $1.value.since }) else { return nil }
        let (who, url) =
            switch part {
            case .handingOver: ("Webhooks are", "/webhooks")
            case .delivering(let webhook): ("A webhook is", "/webhooks/\(webhook)")
            }
        return PageFrame.Alarm(
            isError: true, text: "\(who) told nothing, and told it later: \(trouble.reason)", url: url, since: trouble.since)
    }
}
