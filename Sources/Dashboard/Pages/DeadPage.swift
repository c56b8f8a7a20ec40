import Foundation
import Hummingbird
import JobStore
import Jobs

private struct DeadPage {
    /// Jobs that died the same way.
    struct Group {
        var count: String
        var name: String
        var service: String
        var how: String
        var type: String?
        var url: String
        var retry: String
        /// nil where they are off the list already.
        var discard: String?
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
    var services: [ListFilter.Choice]
    var reasons: [ListFilter.Choice]
    var name: String
    var type: String
    var channel: String
    var run: String
    var error: String
    var from: String
    var to: String
    var zone: String
    var conditions: [ListFilter.Condition]
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

extension PageController {
    @Sendable func showDead(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let list = try ListFilter("/dead", JobParameters.dead, request)
        let filter = JobParameters.deadFilter(list.parameters)
        let isDiscarded = filter.discarded
        // Which half of the dead letters it is, is no condition.
        let conditions = list.conditions(without: ["discarded"])
        let cursor = request.query("cursor")
        let ledger = ledger
        var read = try await pageReads()
        let every = try await read.get("dead groups \(isDiscarded)") {
            try await ledger.brokenGroups(LedgerJobFilter(states: [.dead], discarded: isDiscarded))
        }
        let found =
            conditions.isEmpty ? every : try await read.get("dead groups " + list.path()) { try await ledger.brokenGroups(filter) }
        let limit = try ListQuery.pageLimit(request)
        let jobs = try await read.get("dead \(list.path()) \(limit) \(cursor ?? "")") {
            let page = try await ledger.brokenJobs(filter, limit: limit, cursor: cursor)
            return (page: page, asked: try await ledger.jobs(asked: page.items.map(\.job.id)))
        }
        let totals = try await read.overview().totals
        let count = found.groups.reduce(0) { $0 + $1.count }
        let number = Display.number(count) + (found.isCut ? "+" : "")
        let model = DeadPage(
            count: number,
            services: list.choices("service", of: Set(every.groups.map { Display.service($0.service) }).sorted()),
            reasons: list.choices("reason", of: Set(every.groups.map(\.reason)).sorted()),
            name: list["name"], type: list["type"], channel: list["channel"], run: list["run"], error: list["error"],
            from: list["from"], to: list["to"],
            zone: TimeZone.current.abbreviation() ?? "the monitor's time",
            conditions: conditions,
            isFiltered: !conditions.isEmpty,
            summary: count == 1 ? "1 dead job" : "\(number) dead jobs",
            groups: found.groups.prefix(20).map { DeadPage.Group($0, in: list, isDiscarded: isDiscarded) },
            hasGroups: found.groups.count > 1 || conditions.isEmpty && !found.groups.isEmpty,
            jobs: jobs.page.items.map { DeadPage.JobRow($0, jobs.asked[$0.job.id]) },
            hasJobs: !jobs.page.items.isEmpty,
            bulk: BulkBar.dead(list, count, isCut: found.isCut, isFiltered: !conditions.isEmpty, isDiscarded: isDiscarded),
            jobPager: PagerModel(list.path(with: [("limit", request.query("limit"))]), cursor, jobs.page.next),
            hasJobPager: cursor != nil || jobs.page.next != nil,
            discarded: isDiscarded || totals.discarded == 0 ? nil : Display.number(totals.discarded), isDiscarded: isDiscarded,
            parked: try await ledger.parkedMessages(
                cursor: request.query("messageCursor"), isDecided: request.query("decided") == "true", open: totals.deadMessages))
        return try pages.response("dead", model, title: "Dead letters", context, frame: await frame("/dead", request, read))
    }
}

extension BulkBar {
    /// - Parameters:
    ///   - count: how many match.
    ///   - isCut: whether there are more.
    fileprivate static func dead(_ list: ListFilter, _ count: Int, isCut: Bool, isFiltered: Bool, isDiscarded: Bool) -> BulkBar? {
        if count == 0 { return nil }
        let fields = [("state", JobState.dead.rawValue)] + list.order
        let (one, many) = isFiltered ? ("that matches", "that match") : ("dead job", "")
        let actions: [BulkOrder.Action] = isDiscarded ? [.retry] : [.retry, .discard]
        return BulkBar(
            kind: BulkOrder.Kind.jobs.rawValue, isDiscarded: isDiscarded,
            all: actions.map { Link(title: title($0, count, isCut: isCut, one, many), url: link(.jobs, $0, fields)) },
            chosen: actions.map { Button(title: $0.title, action: $0.rawValue) })
    }
}

extension DeadPage.Group {
    fileprivate init(_ group: LedgerJobGroup, in list: ListFilter, isDiscarded: Bool) {
        let service = Display.service(group.service)
        let own: [(String, String?)] = [
            ("service", service), ("name", group.name), ("reason", group.reason), ("type", group.type ?? JobParameters.noType),
        ]
        let names = Set(own.map(\.0))
        // The list's other conditions stay: what was counted is what the links are about.
        let fields = [("state", JobState.dead.rawValue)] + list.order.filter { !names.contains($0.0) } + own
        self.init(
            count: Display.number(group.count), name: group.name, service: service, how: group.reason, type: group.type,
            url: list.path(without: names, with: own), retry: BulkBar.link(.jobs, .retry, fields),
            discard: isDiscarded ? nil : BulkBar.link(.jobs, .discard, fields),
            newest: "/jobs/\(group.newest)")
    }
}

extension DeadPage.JobRow {
    /// - Parameter asked: the job as the router sees it, read a moment later.
    fileprivate init(_ dead: LedgerDeadJob, _ asked: Job?) {
        let job = dead.job
        let explanation = asked?.state == .dead ? asked?.explainedFailure?.html : nil
        self.init(
            id: job.id, name: job.name, service: Display.service(job.service), runID: job.runID,
            shortRun: String(job.runID.suffix(8)), level: dead.level, resource: dead.resourceID,
            shortResource: Display.short(dead.resourceID), explanation: explanation ?? HTMLText.escape(job.reason.text),
            type: job.error?.type, message: (job.error?.message).map { $0.count > 300 ? String($0.prefix(280)) + "…" : $0 },
            attempt: String(job.attempt), finished: Markup.time(job.finishedAt, isRelative: true), canDiscard: job.discarded == nil,
            discarded: job.discarded.map { "\(HTMLText.escape($0.actor)) \(Markup.time($0.at, isRelative: true))" })
    }
}
