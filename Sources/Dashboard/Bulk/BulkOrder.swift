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
        /// Takes dead jobs off the list.
        case discard

        /// As a button says it.
        var title: String { rawValue.prefix(1).uppercased() + rawValue.dropFirst() }
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
    /// Only these, of what the filter matches; nil is all of it. Without repetitions.
    var ids: [String]?

    /// More than so many are no longer one decision: the filter has to be narrower.
    static let limit = 200_000
    /// As many as one answer of the API's lists can hold.
    static let longestChoice = 500

    private static func command(_ kind: Kind, _ action: Action) -> CommandMessage.Action {
        switch (kind, action) {
        case (.jobs, .discard): .discardJob
        case (.jobs, _): .retryJob
        case (.runs, .cancel): .cancelRun
        case (.runs, .reprocess): .reprocessRun
        case (.runs, _): .retryRun
        }
    }

    /// `retry-run`, as single commands are named.
    static func command(of record: BulkRecord) -> CommandMessage.Action? {
        guard let kind = Kind(rawValue: record.kind), let action = Action(rawValue: record.action) else { return nil }
        return command(kind, action)
    }

    static func actions(of kind: Kind) -> [Action] {
        switch kind {
        case .runs: [.retry, .cancel, .reprocess]
        case .jobs: [.retry, .discard]
        }
    }

    /// - Throws: `Problem` that names the key, its value and what is allowed.
    init(kind: String?, action: String?, fields: [String: String], ids: [String]? = nil) throws(Problem) {
        guard let known = kind.flatMap(Kind.init) else {
            throw .parameter("kind", kind, allowed: Kind.allCases.map(\.rawValue).joined(separator: ", "))
        }
        self.kind = known
        let actions = Self.actions(of: known)
        guard let wanted = action.flatMap(Action.init), actions.contains(wanted) else {
            throw .parameter("action", action, allowed: actions.map(\.rawValue).joined(separator: ", ") + " for \(known.rawValue)")
        }
        self.action = wanted
        // A word that is not understood would make the set larger than it was meant.
        let parameters = known == .runs ? RunParameters.filter : JobParameters.filter
        self.fields = fields.filter { !$0.value.isEmpty }
        for (name, value) in self.fields.sorted(by: { $0.key < $1.key }) {
            guard let parameter = parameters.first(where: { $0.name == name }) else {
                throw .parameter("filter", name, allowed: parameters.map(\.name).joined(separator: ", "))
            }
            try parameter.check(value)
        }
        switch known {
        case .runs: filter = .runs(try RunParameters.filter(self.fields))
        case .jobs: filter = .jobs(JobParameters.filter(self.fields))
        }
        if wanted == .discard, case .jobs(let filter) = filter, filter.discarded {
            throw .parameter("discarded", self.fields["discarded"], allowed: "nothing with discard: such jobs are off the list already")
        }
        self.ids = try ids.map { (ids) throws(Problem) in try Self.checked(ids, known) }
    }

    private static func checked(_ ids: [String], _ kind: Kind) throws(Problem) -> [String] {
        let unique = Set(ids)
        guard !unique.isEmpty, unique.count <= longestChoice else {
            throw .parameter("ids", "\(unique.count) of them", allowed: "1 to \(longestChoice)")
        }
        for id in ids {
            let isID = kind == .runs ? RunID(rawValue: id) != nil : JobID(rawValue: id) != nil
            guard isID else { throw .parameter("ids", id, allowed: "ids of \(kind.rawValue)") }
        }
        return unique.sorted()
    }

    /// From the body of a request.
    init(_ body: JSONValue?) throws(Problem) {
        guard let members = body?.object else { throw .badRequest("Send an object with kind, action and filter.") }
        if let other = members.keys.sorted().first(where: { !["kind", "action", "filter", "ids"].contains($0) }) {
            throw .parameter(other, members[other]?.text, allowed: "only the keys kind, action, filter and ids")
        }
        guard let filter = (members["filter"] ?? [:]).object else {
            throw .parameter("filter", members["filter"]?.text, allowed: "an object of texts")
        }
        var fields: [String: String] = [:]
        for (name, value) in filter {
            guard let text = value.string else { throw .parameter("filter.\(name)", value.text, allowed: "text") }
            fields[name] = text
        }
        var ids: [String]?
        if let given = members["ids"] {
            guard let list = given.array, case let texts = list.compactMap(\.string), texts.count == list.count else {
                throw .parameter("ids", given.text, allowed: "a list of ids")
            }
            ids = texts
        }
        try self.init(kind: members["kind"]?.string, action: members["action"]?.string, fields: fields, ids: ids)
    }
}

// MARK: - What is kept of it, and how people read it

extension BulkOrder {
    /// What people type into: a name may stand there.
    private static let typed: Set<String> = ["q", "error"]

    /// As a preview keeps it.
    var filterOnRecord: JSONValue {
        var members = fields.mapValues(JSONValue.string)
        // Which ones they are is in the items.
        if let ids { members["chosen"] = .string(String(ids.count)) }
        return .object(members)
    }

    /// The filter of a preview, as records and the audit keep it: without what somebody typed.
    static func withoutText(_ filter: JSONValue) -> JSONValue {
        var members = filter.object ?? [:]
        for name in typed {
            guard let text = members[name]?.string else { continue }
            members[name] = .string("text filter (\(text.count) characters)")
        }
        return .object(members)
    }

    /// In the order of the forms.
    private static let words: [(name: String, word: String)] = [
        ("chosen", "Chosen by hand"), ("state", "State"), ("level", "Level"), ("service", "Service"), ("name", "Job"),
        ("channel", "Channel"), ("modality", "Modality"), ("reason", "Cause"), ("type", "Error type"), ("error", "Error holds"),
        ("q", "Search"), ("event", "Event"), ("run", "Run"), ("discarded", "Discarded"), ("from", "From"), ("to", "Until"),
    ]

    /// `State: failed`, one for each condition; none is everything.
    static func words(of filter: JSONValue) -> [String] {
        let members = filter.object ?? [:]
        return words.compactMap { name, _ in members[name]?.string.map { words(name, $0) } }
    }

    /// `Level: study`.
    static func words(_ name: String, _ value: String) -> String {
        let word = words.first { $0.name == name }?.word ?? name
        switch name {
        case "state": return "\(word): \(value.replacing(",", with: " or "))"
        case "from", "to": return "\(word): \(APITime.date(value).map { Display.time($0) } ?? value)"
        case "type" where value == JobParameters.noType: return "\(word): none"
        default: return "\(word): \(value)"
        }
    }

    /// The list that shows what the filter matches; nil where no list does.
    static func list(of record: BulkRecord) -> String? {
        let members = record.filter.object ?? [:]
        guard members["chosen"] == nil, typed.allSatisfy({ members[$0] == nil || record.state == .preview }) else { return nil }
        var fields = members.compactMapValues(\.string)
        for name in ["from", "to"] {
            // As the list's form has it.
            fields[name] = fields[name].map { text in APITime.date(text).map { Display.time($0).replacing(" ", with: "T") } ?? text }
        }
        if record.kind == Kind.runs.rawValue {
            // The page's list has a tab for one state.
            if fields["state"]?.contains(",") == true { fields["state"] = nil }
            return PagerModel.path("/runs", fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        }
        guard fields.removeValue(forKey: "state") == "dead" else { return nil }
        return PagerModel.path("/dead", fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }

    /// `312 jobs`, `1 run`.
    static func count(_ count: Int, _ kind: String) -> String {
        "\(Display.number(count)) \(count == 1 ? String(kind.dropLast()) : kind)"
    }

    /// `Retry 312 jobs`.
    static func title(_ action: String, _ count: Int, _ kind: String) -> String {
        "\(Action(rawValue: action)?.title ?? action) \(Self.count(count, kind))"
    }

    /// What happens to `count` of them, in plain words.
    func sentence(_ count: Int) -> String {
        let number = Display.number(count)
        let isOne = count == 1
        switch (kind, action) {
        case (.jobs, .discard):
            return isOne
                ? "One dead job leaves the dead letters. Its run stays failed as it is, and a retry brings the job back."
                : "\(number) dead jobs leave the dead letters. Their runs stay failed as they are, and a retry brings a job back."
        case (.jobs, _):
            return isOne
                ? "One job begins a new attempt, and with it the jobs that were skipped because of it."
                : "\(number) jobs begin a new attempt, and with each of them the jobs that were skipped because of it."
        case (.runs, .retry), (.runs, .discard):
            return "In \(isOne ? "one run" : "\(number) runs") every job that failed, died, was cancelled or was skipped begins anew. "
                + "What succeeded stays as it is."
        case (.runs, .cancel):
            return "\(isOne ? "One run is" : "\(number) runs are") cancelled: what runs is stopped, and what waits does not start."
        case (.runs, .reprocess):
            return "\(isOne ? "One series, study or patient is" : "\(number) series, studies or patients are") planned again, from the "
                + "newest run of each, with today's services. New results come as further series beside the old ones."
        }
    }
}
