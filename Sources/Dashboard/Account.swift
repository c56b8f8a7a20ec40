import Foundation
import JobStore
import Jobs

extension IngestAccount {
    /// One count of an account.
    struct Part: Sendable, Hashable {
        /// `dispatched`, `filtered`, `ignored`, `before`, `pending` or `gone`.
        var state: String
        /// The reason's code; empty where there is none.
        var reason: String
        var count: Int
    }

    /// All counts, those of the main states even when they are zero.
    var parts: [Part] {
        [Part(state: "dispatched", reason: "", count: dispatched)]
            + Self.parts("filtered", filtered) + Self.parts("pending", pending)
            + [("ignored", ignored), ("before", before), ("gone", gone)].map { Part(state: $0, reason: "", count: $1) }
    }

    private static func parts(_ state: String, _ counts: [String: Int]) -> [Part] {
        // Records of an earlier release have no reason.
        counts.sorted { $0.key < $1.key }.map { Part(state: state, reason: $0.key.isEmpty ? "unknown" : $0.key, count: $0.value) }
    }

    /// Where everything went, as a sentence.
    var text: String {
        var sum = ["\(Display.number(dispatched)) dispatched", Self.text("filtered", filtered), Self.text("pending", pending)]
        if ignored > 0 { sum.append("\(Display.number(ignored)) that grew and were left alone") }
        if before > 0 { sum.append("\(Display.number(before)) from before the first start") }
        var text = "\(Display.number(received)) received = " + sum.joined(separator: " + ") + "."
        if let listed {
            text += " Orthanc listed \(Display.number(listed)) in the last sweep"
            // What arrived or was deleted since, or between two pages of the sweep.
            text += listed == received ? "." : ": the next one counts the difference."
        }
        if gone > 0 { text += " \(Display.number(gone)) more \(gone == 1 ? "is" : "are") no longer in Orthanc." }
        return text
    }

    private static func text(_ state: String, _ counts: [String: Int]) -> String {
        let total = "\(Display.number(counts.values.reduce(0, +))) \(state)"
        guard !counts.isEmpty else { return total }
        return total + " (" + parts(state, counts).map { "\($0.reason) \(Display.number($0.count))" }.joined(separator: ", ") + ")"
    }
}

extension JSONValue {
    init(_ account: IngestAccount) {
        self = [
            "server": .string(account.server),
            "level": .string(account.level.rawValue),
            "listed": account.listed.map { .integer(Int64($0)) } ?? .null,
            "sweptAt": account.sweptAt.map { JSONValue($0) } ?? .null,
            "received": .integer(Int64(account.received)),
            "counts": .array(
                account.parts.map { ["state": .string($0.state), "reason": .string($0.reason), "count": .integer(Int64($0.count))] }),
        ]
    }

    init(_ pending: IngestPending) {
        self = [
            "server": .string(pending.server),
            "level": .string(pending.level.rawValue),
            "resourceId": .string(pending.resource),
            "since": JSONValue(pending.since),
            "reason": JSONValue(pending.reason),
        ]
    }
}
