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

    /// What the runs' states allow; nil is nothing. Without a state in the filter, each action takes those that it is for.
    static func runs(_ query: RunFilterQuery, _ counts: LedgerRunCounts) -> BulkBar? {
        let offers: [(action: BulkOrder.Action, states: [RunState], words: String)] = [
            (.retry, [.failed, .cancelled], "that failed or were cancelled"),
            (.cancel, [.active], "that are active"),
            (.reprocess, [.succeeded, .failed, .cancelled, .declined], "that have ended"),
        ]
        let shown = query.filter.states
        var bar = BulkBar(kind: BulkOrder.Kind.runs.rawValue, all: [], chosen: [])
        for offer in offers {
            let states = shown.isEmpty ? offer.states : shown.filter(offer.states.contains)
            let count = states.reduce(0) { $0 + (counts.states[$1] ?? 0) }
            guard count > 0 else { continue }
            let name = offer.action.rawValue.prefix(1).uppercased() + offer.action.rawValue.dropFirst()
            let number = Display.number(count) + (counts.isCut ? "+" : "")
            bar.all.append(
                Link(
                    title: "\(name) all \(number) \(shown.isEmpty ? offer.words : "that match")",
                    url: link(.runs, offer.action, fields(query) + [("state", states.map(\.rawValue).joined(separator: ","))])))
            bar.chosen.append(Button(title: name, action: offer.action.rawValue))
        }
        return bar.all.isEmpty ? nil : bar
    }

    /// As the order takes them: the state is said by itself, and times are whole ones.
    private static func fields(_ query: RunFilterQuery) -> [(String, String?)] {
        query.fields.filter { $0.name != "state" }.map { name, value in
            switch name {
            case "from": (name, query.filter.from?.formatted(.iso8601))
            case "to": (name, query.filter.to?.formatted(.iso8601))
            default: (name, value)
            }
        }
    }

    static func link(_ kind: BulkOrder.Kind, _ action: BulkOrder.Action, _ fields: [(String, String?)]) -> String {
        PagerModel.path("/bulk/new", [("kind", kind.rawValue), ("action", action.rawValue)] + fields)
    }
}
