import Foundation
import JobStore
import Jobs
import Pipeline

/// What a bulk operation is to do, and to what: as it is asked for.
///
///     {"kind": "runs", "action": "retry", "filter": {"state": "failed", "service": "dcm2nii"}}
struct BulkOrder: Sendable {
    enum Kind: String, Sendable, CaseIterable {
        case runs
        case jobs
    }

    enum Action: String, Sendable, CaseIterable {
        case retry
        case cancel
        case reprocess
    }

    enum Filter: Sendable {
        case runs(LedgerRunFilter)
        case jobs(LedgerJobFilter)
    }

    var kind: Kind
    var action: Action
    var filter: Filter
    /// The filter as it was written.
    var fields: [String: String]

    /// More than so many are no longer one decision: the filter has to be narrower.
    static let limit = 200_000

    static let jobParameters: [APIParameter] = [
        .query("state", .several(["failed", "dead"]), "Only jobs in these states; without it both.", example: "dead"),
        .query("service", .text(longest: 200), "Only jobs of this service."),
        .query("name", .text(longest: 200), "Only jobs of this name."),
        .query("channel", .text(longest: 64), "Only jobs of this channel."),
        .query(
            "reason", .text(longest: 100), "Only jobs that ended so: exception, timeout, killed, out-of-memory, crash-limit, ...",
            example: "timeout"),
        .query("from", .time, "Only jobs that ended at this time or later."),
        .query("to", .time, "Only jobs that ended before this time."),
    ]

    var command: CommandMessage.Action {
        switch (kind, action) {
        case (.jobs, _): .retryJob
        case (.runs, .retry): .retryRun
        case (.runs, .cancel): .cancelRun
        case (.runs, .reprocess): .reprocessRun
        }
    }

    /// `retry-run`, as single commands are named.
    static func command(of record: BulkRecord) -> CommandMessage.Action? {
        guard let kind = Kind(rawValue: record.kind), let action = Action(rawValue: record.action) else { return nil }
        return BulkOrder(kind: kind, action: action, filter: .jobs(LedgerJobFilter()), fields: [:]).command
    }

    private init(kind: Kind, action: Action, filter: Filter, fields: [String: String]) {
        self.kind = kind
        self.action = action
        self.filter = filter
        self.fields = fields
    }

    /// - Throws: `Problem` that names the key, its value and what is allowed.
    init(kind: String?, action: String?, fields: [String: String]) throws(Problem) {
        guard let known = kind.flatMap(Kind.init) else {
            throw .parameter("kind", kind, allowed: Kind.allCases.map(\.rawValue).joined(separator: ", "))
        }
        self.kind = known
        let actions: [Action] = known == .runs ? [.retry, .cancel, .reprocess] : [.retry]
        guard let wanted = action.flatMap(Action.init), actions.contains(wanted) else {
            throw .parameter("action", action, allowed: actions.map(\.rawValue).joined(separator: ", ") + " for \(known.rawValue)")
        }
        self.action = wanted
        // A word that is not understood would make the set larger than it was meant.
        let parameters = known == .runs ? RunParameters.filter : Self.jobParameters
        self.fields = fields.filter { !$0.value.isEmpty }
        for (name, value) in self.fields.sorted(by: { $0.key < $1.key }) {
            guard let parameter = parameters.first(where: { $0.name == name }) else {
                throw .parameter("filter", name, allowed: parameters.map(\.name).joined(separator: ", "))
            }
            try parameter.check(value)
        }
        switch known {
        case .runs: filter = .runs(try RunParameters.filter(self.fields))
        case .jobs: filter = .jobs(Self.jobFilter(self.fields))
        }
    }

    /// From the body of a request.
    init(_ body: JSONValue?) throws(Problem) {
        guard let members = body?.object else { throw .badRequest("Send an object with kind, action and filter.") }
        if let other = members.keys.sorted().first(where: { !["kind", "action", "filter"].contains($0) }) {
            throw .parameter(other, members[other]?.text, allowed: "only the keys kind, action and filter")
        }
        guard let filter = (members["filter"] ?? [:]).object else {
            throw .parameter("filter", members["filter"]?.text, allowed: "an object of texts")
        }
        var fields: [String: String] = [:]
        for (name, value) in filter {
            guard let text = value.string else { throw .parameter("filter.\(name)", value.text, allowed: "text") }
            fields[name] = text
        }
        try self.init(kind: members["kind"]?.string, action: members["action"]?.string, fields: fields)
    }

    private static func jobFilter(_ fields: [String: String]) -> LedgerJobFilter {
        LedgerJobFilter(
            states: (fields["state"] ?? "").split(separator: ",").compactMap { JobState(rawValue: String($0)) }, service: fields["service"],
            name: fields["name"], channel: fields["channel"], reason: fields["reason"], from: fields["from"].flatMap(APITime.date),
            to: fields["to"].flatMap(APITime.date))
    }
}
