import Foundation
import Hummingbird
import JobStore
import Jobs

private struct DeadPage {
    struct Choice {
        var value: String
        var title: String
        var isChosen: Bool
    }

    struct Condition {
        var words: String
        var url: String
    }

    /// Jobs that died the same way.
    struct Group {
        var count: String
        var name: String
        var service: String
        var how: String
        var type: String?
        var url: String
        var retry: String
        var newest: String
    }

    struct JobRow {
        var id: String
        var name: String
        var service: String
        var runID: String
        var shortRun: String
        var level: String
        var resource: String
        var shortResource: String
        /// Already HTML.
        var explanation: String
        var type: String?
        var message: String?
        var attempt: String
        var finished: String
        var canDiscard: Bool
        /// By whom and when. Already HTML.
        var discarded: String?
    }

    /// How many there are, all pages together.
    var count: String
    var services: [Choice]
    var reasons: [Choice]
    var name: String
    var type: String
    var channel: String
    var run: String
    var error: String
    var from: String
    var to: String
    var zone: String
    var conditions: [Condition]
    var isFiltered: Bool
    var summary: String
    var groups: [Group]
    var hasGroups: Bool
    var jobs: [JobRow]
    var hasJobs: Bool
    var bulk: BulkBar?
    var jobPager: PagerModel
    var hasJobPager: Bool
    /// How many are left out, when there are any.
    var discarded: String?
    var isDiscarded: Bool
    var parked: ParkedMessagesPanel
}

/// The fields by which the dead letters are asked, in the page's address.
private struct DeadFilterQuery {
    private static let names = ["service", "name", "channel", "reason", "type", "error", "run", "from", "to"]

    /// Those that are set, in the order of `names`.
    var fields: [(name: String, value: String)]
    var filter: LedgerJobFilter
    /// Only those that were discarded, instead of all others.
    var isDiscarded: Bool { filter.discarded }

    init(_ request: Request) throws {
        fields = Self.names.compactMap { name in
            request.query(name).map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.flatMap { $0.isEmpty ? nil : (name, $0) }
        }
        var values = Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.value) })
        values["run"] = values["run"]?.uppercased()
        filter = BulkOrder.jobFilter(values)
        filter.states = [.dead]
        filter.discarded = request.query("discarded") == "true"
        filter.from = try RunFilterQuery.time(values["from"], "from")
        filter.to = try RunFilterQuery.time(values["to"], "to")
    }

    func value(_ name: String) -> String { fields.first { $0.name == name }?.value ?? "" }

    func path(without names: Set<String> = []) -> String {
        PagerModel.path(
            "/dead",
            [("discarded", isDiscarded ? "true" : nil)] + fields.filter { !names.contains($0.name) }.map { ($0.name, $0.value) })
    }

    /// As a bulk order takes them.
    var order: [(String, String?)] {
        [("state", JobState.dead.rawValue), ("discarded", isDiscarded ? "true" : nil)]
            + fields.map { name, value in
                switch name {
                case "from": (name, filter.from?.formatted(.iso8601))
                case "to": (name, filter.to?.formatted(.iso8601))
                case "run": (name, filter.run)
                default: (name, value)
                }
            }
    }
}

extension PageController {
    @Sendable func showDead(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let query = try DeadFilterQuery(request)
        let cursor = request.query("cursor")
        let ledger = ledger
        let filter = query.filter
        let isDiscarded = query.isDiscarded
        let every = try await reads.get("dead groups \(isDiscarded)") {
            try await ledger.brokenGroups(LedgerJobFilter(states: [.dead], discarded: isDiscarded))
        }
        let found =
            query.fields.isEmpty ? every : try await reads.get("dead groups " + query.path()) { try await ledger.brokenGroups(filter) }
        let limit = try ListQuery.limit(request)
        let jobs = try await reads.get("dead \(query.path()) \(limit) \(cursor ?? "")") {
            let page = try await ledger.brokenJobs(filter, limit: limit, cursor: cursor)
            let runs = try await ledger.runs(asked: Set(page.items.compactMap { RunID(rawValue: $0.job.runID) }))
            return (page: page, runs: runs)
        }
        let totals = try await overview.get().totals
        let count = found.groups.reduce(0) { $0 + $1.count }
        let number = Display.number(count) + (found.isCut ? "+" : "")
        let now = Date()
        let model = DeadPage(
            count: number,
            services: Self.choices(every.groups.map { $0.service.isEmpty ? RunFilterQuery.builtIn : $0.service }, query.value("service")),
            reasons: Self.choices(every.groups.map(\.reason), query.value("reason")),
            name: query.value("name"), type: query.value("type"), channel: query.value("channel"), run: query.value("run"),
            error: query.value("error"), from: query.value("from"), to: query.value("to"),
            zone: TimeZone.current.abbreviation(for: now) ?? "the monitor's time",
            conditions: query.fields.map { name, value in
                let shown = name == "type" && value == BulkOrder.noType ? "none" : value
                return DeadPage.Condition(words: "\(Self.deadWords[name] ?? name): \(shown)", url: query.path(without: [name]))
            },
            isFiltered: !query.fields.isEmpty,
            summary: count == 1 ? "1 dead job" : "\(number) dead jobs",
            groups: found.groups.prefix(20).map { DeadPage.Group($0, isDiscarded: isDiscarded) },
            hasGroups: found.groups.count > 1 || query.fields.isEmpty && !found.groups.isEmpty,
            jobs: jobs.page.items.map { DeadPage.JobRow($0, of: jobs.runs, at: now) },
            hasJobs: !jobs.page.items.isEmpty,
            bulk: BulkBar.dead(query.order, number, isNone: count == 0, isFiltered: !query.fields.isEmpty, isDiscarded: isDiscarded),
            jobPager: PagerModel(query.path(), cursor, jobs.page.next), hasJobPager: cursor != nil || jobs.page.next != nil,
            discarded: isDiscarded || totals.discarded == 0 ? nil : Display.number(totals.discarded), isDiscarded: isDiscarded,
            parked: try await ledger.parkedMessages(
                cursor: request.query("messageCursor"), isDecided: request.query("decided") == "true", open: totals.deadMessages))
        return try pages.response("dead", model, title: "Dead letters", context, frame: await frame("/dead", request))
    }

    private static let deadWords = [
        "service": "Service", "name": "Job", "channel": "Channel", "reason": "Cause", "type": "Error type", "error": "Error holds",
        "run": "Run", "from": "From", "to": "Until",
    ]

    private static func choices(_ values: [String], _ chosen: String) -> [DeadPage.Choice] {
        Set(values + (chosen.isEmpty ? [] : [chosen])).sorted().map { .init(value: $0, title: $0, isChosen: $0 == chosen) }
    }
}

extension BulkBar {
    /// - Parameters:
    ///   - fields: of the filter, as an order takes them.
    ///   - number: how many match, as people read it.
    fileprivate static func dead(
        _ fields: [(String, String?)], _ number: String, isNone: Bool, isFiltered: Bool, isDiscarded: Bool
    ) -> BulkBar? {
        if isNone { return nil }
        let which = "all \(number)\(isFiltered ? " that match" : "")"
        let actions: [BulkOrder.Action] = isDiscarded ? [.retry] : [.retry, .discard]
        let names: [BulkOrder.Action: String] = [.retry: "Retry", .discard: "Discard"]
        return BulkBar(
            kind: BulkOrder.Kind.jobs.rawValue, isDiscarded: isDiscarded,
            all: actions.map { Link(title: "\(names[$0] ?? "") \(which)", url: link(.jobs, $0, fields)) },
            chosen: actions.map { Button(title: names[$0] ?? "", action: $0.rawValue) })
    }
}

extension DeadPage.Group {
    fileprivate init(_ group: LedgerJobGroup, isDiscarded: Bool) {
        let service = group.service.isEmpty ? RunFilterQuery.builtIn : group.service
        let fields: [(String, String?)] = [
            ("discarded", isDiscarded ? "true" : nil), ("service", service), ("name", group.name), ("reason", group.reason),
            ("type", group.type ?? BulkOrder.noType),
        ]
        self.init(
            count: Display.number(group.count), name: group.name, service: service, how: group.reason, type: group.type,
            url: PagerModel.path("/dead", fields), retry: BulkBar.link(.jobs, .retry, [("state", JobState.dead.rawValue)] + fields),
            newest: "/jobs/\(group.newest)")
    }
}

extension DeadPage.JobRow {
    fileprivate init(_ dead: LedgerDeadJob, of runs: [RunID: Run], at now: Date) {
        let job = dead.job
        // Nothing around a dead job matters any more: its run says all of it.
        let run = RunID(rawValue: job.runID).flatMap { runs[$0] }
        let explanation = run.flatMap { run in
            run.jobs.indices.contains(job.position) && run.jobs[job.position].state == .dead
                ? run.explain(job: job.position, surroundings: JobSurroundings(now: now, workersOfChannel: 0)).html : nil
        }
        self.init(
            id: job.id, name: job.name, service: job.service.isEmpty ? RunFilterQuery.builtIn : job.service, runID: job.runID,
            shortRun: String(job.runID.suffix(8)), level: dead.level, resource: dead.resourceID,
            shortResource: Display.short(dead.resourceID), explanation: explanation ?? HTMLText.escape(job.reason.text),
            type: job.error?.type, message: (job.error?.message).map { $0.count > 300 ? String($0.prefix(280)) + "…" : $0 },
            attempt: String(job.attempt), finished: Markup.time(job.finishedAt, isRelative: true), canDiscard: job.discarded == nil,
            discarded: job.discarded.map { "\(HTMLText.escape($0.actor)) \(Markup.time($0.at, isRelative: true))" })
    }
}
