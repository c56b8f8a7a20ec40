import Foundation
import JobStore
import Jobs

/// What a list offers for everything that it shows, and for what is chosen in it by hand.
struct BulkBar {
    struct Link {
        var title: String
        var url: String
    }

    struct Button {
        var title: String
        var action: String
    }

    var kind: String
    /// The rows are dead jobs that were discarded.
    var isDiscarded = false
    /// For all that match, on this page and the others.
    var all: [Link]
    /// For the rows whose boxes are checked.
    var chosen: [Button]

    /// What the runs' states allow; nil is nothing.
    ///
    /// - Parameter shown: the states in the filter. Without any, each action takes those that it is for.
    static func runs(_ list: ListFilter, _ shown: [RunState], _ counts: LedgerRunCounts) -> BulkBar? {
        let offers: [(action: BulkOrder.Action, states: [RunState], one: String, words: String)] = [
            (.retry, [.failed, .cancelled], "that failed or was cancelled", "that failed or were cancelled"),
            (.cancel, [.active], "that is active", "that are active"),
            (.reprocess, [.succeeded, .failed, .cancelled, .declined], "that has ended", "that have ended"),
        ]
        var bar = BulkBar(kind: BulkOrder.Kind.runs.rawValue, all: [], chosen: [])
        for offer in offers {
            let states = shown.isEmpty ? offer.states : shown.filter(offer.states.contains)
            let count = states.reduce(0) { $0 + (counts.states[$1] ?? 0) }
            guard count > 0 else { continue }
            let words = shown.isEmpty ? (one: offer.one, all: offer.words) : (one: "that matches", all: "that match")
            bar.all.append(
                Link(
                    title: title(offer.action, count, isCut: counts.isCut, words.one, words.all),
                    url: link(
                        .runs, offer.action,
                        list.order.filter { $0.0 != "state" } + [("state", states.map(\.rawValue).joined(separator: ","))])))
            bar.chosen.append(Button(title: offer.action.title, action: offer.action.rawValue))
        }
        return bar.all.isEmpty ? nil : bar
    }

    /// `Retry all 25 that match`, `Retry the one that matches`.
    ///
    /// - Parameter isCut: whether there are more than were counted.
    static func title(_ action: BulkOrder.Action, _ count: Int, isCut: Bool, _ one: String, _ many: String) -> String {
        let which = count == 1 && !isCut ? "the one \(one)" : "all \(Display.number(count))\(isCut ? "+" : "") \(many)"
        return "\(action.title) \(which)".trimmingCharacters(in: .whitespaces)
    }

    static func link(_ kind: BulkOrder.Kind, _ action: BulkOrder.Action, _ fields: [(String, String?)]) -> String {
        PagerModel.path("/bulk/new", [("kind", kind.rawValue), ("action", action.rawValue)] + fields)
    }
}
