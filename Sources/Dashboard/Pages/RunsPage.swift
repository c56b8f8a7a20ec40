import Foundation
import Hummingbird
import JobStore
import Jobs
import Mustache

/// A run in a list.
struct RunRow: MustacheParent {
    var mark: String
    var id: String
    var shortID: String
    var level: String
    var resource: String
    var shortResource: String
    /// In Orthanc's own pages.
    var orthanc: String?
    /// `CT, MR`; empty when nobody knows.
    var modalities: String
    /// `3 series, 120 images`
    var holds: String
    var created: String
    var took: String
    var bar: String
    var done: String
    var reason: String?
    var isReprocessed: Bool

    init(_ run: LedgerRun, _ pages: OrthancPages, at now: Date) {
        let total = run.counts.values.reduce(0, +)
        let ended = run.counts.reduce(0) { $0 + ($1.key.isTerminal ? $1.value : 0) }
        mark = StateMark.html(run.state)
        id = run.id
        shortID = String(run.id.suffix(8))
        level = run.level
        resource = run.resourceID
        shortResource = Display.short(run.resourceID)
        orthanc = pages.url(run.level, run.resourceID, server: run.server)
        modalities = run.modalities.joined(separator: ", ")
        holds = "\(Display.count(run.series, "series", "series")), \(Display.count(run.images, "image"))"
        created = Markup.time(run.createdAt, isRelative: true)
        took = Display.duration((run.finishedAt ?? now).timeIntervalSince(run.createdAt))
        bar = Markup.bar(run.counts)
        done = total == 0 ? "no jobs" : "\(ended)/\(total)"
        reason = run.reason?.text
        isReprocessed = run.origin != "event"
    }
}

extension RunRow {
    /// By name and without reflection: a page has hundreds of these.
    func child(named name: String) -> Any? {
        switch name {
        case "mark": mark
        case "id": id
        case "shortID": shortID
        case "level": level
        case "resource": resource
        case "shortResource": shortResource
        case "orthanc": orthanc
        case "modalities": modalities
        case "holds": holds
        case "created": created
        case "took": took
        case "bar": bar
        case "done": done
        case "reason": reason
        case "isReprocessed": isReprocessed
        default: nil
        }
    }
}

private struct RunsPage {
    var tabs: [PageTab]
    var search: String
    var state: String?
    var event: String?
    var error: String
    var from: String
    var to: String
    var zone: String
    var levels: [ListFilter.Choice]
    var services: [ListFilter.Choice]
    var modalities: [ListFilter.Choice]
    var conditions: [ListFilter.Condition]
    var isFiltered: Bool
    /// Some condition is set that the small form does not show.
    var isOpen: Bool
    var summary: String
    var rows: [RunRow]
    var bulk: BulkBar?
    var pager: PagerModel
}

extension PageController {
    @Sendable func showRuns(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let list = try ListFilter("/runs", RunParameters.filter, request)
        let filter = try RunParameters.filter(list.parameters)
        let cursor = request.query("cursor")
        // Whoever pastes the id of a run or of a job wants to be there.
        if let text = filter.text, list.fields.count == 1, let target = try await Self.target(text, ledger) {
            return .redirect(to: target)
        }
        let limit = try ListQuery.pageLimit(request)
        let ledger = ledger
        var read = try await pageReads()
        let counts = try await read.get("counts " + list.path(without: ["state"])) { try await ledger.runCounts(filter) }
        let shown = filter.states.isEmpty ? counts.total : filter.states.reduce(0) { $0 + (counts.states[$1] ?? 0) }
        // To look for what is not there costs as much as to count it, and that is done.
        let isNone = shown == 0 && !counts.isCut
        let page =
            isNone
            ? LedgerPage(items: [], next: nil)
            : try await read.get("\(list.path()) \(limit) \(cursor ?? "")") {
                try await ledger.runs(filter, limit: limit, cursor: cursor)
            }
        let modalities = try await read.get("modalities") { try await ledger.modalities() }
        let services = try await read.overview().services.map(\.name)
        let tabs = [nil] + [RunState.active, .failed, .succeeded, .cancelled, .declined].map(Optional.some)
        func count(_ state: RunState?) -> String {
            let number = state.map { counts.states[$0] ?? 0 } ?? counts.total
            return Display.number(number) + (counts.isCut ? "+" : "")
        }
        // The tabs and the form's own line say these.
        let conditions = list.conditions(without: ["state", "q"])
        let model = RunsPage(
            tabs: tabs.map { tab in
                PageTab(
                    title: tab.map { $0.rawValue.capitalized } ?? "All",
                    url: list.path(without: ["state"], with: [("state", tab?.rawValue)]),
                    count: count(tab), isCurrent: tab?.rawValue ?? "" == list["state"])
            },
            search: list["q"],
            state: filter.states.isEmpty ? nil : list["state"],
            event: filter.event,
            error: list["error"],
            from: list["from"],
            to: list["to"],
            zone: TimeZone.current.abbreviation(for: now) ?? "the monitor's time",
            levels: list.choices("level", of: ["study", "series", "patient"]),
            services: list.choices("service", of: services + [Display.builtIn]),
            modalities: list.choices("modality", of: modalities),
            conditions: conditions,
            isFiltered: !list.fields.isEmpty,
            isOpen: !conditions.isEmpty,
            summary: (shown == 1 ? "1 run" : "\(Display.number(shown))\(counts.isCut ? " or more" : "") runs")
                + (counts.isCut ? "; counted are the newest \(Display.number(LedgerRunCounts.limit)) that match" : ""),
            rows: page.items.map { RunRow($0, configuration.orthanc, at: now) },
            bulk: BulkBar.runs(list, filter.states, counts),
            pager: PagerModel(list.path(with: [("limit", request.query("limit"))]), cursor, page.next)
        )
        return try pages.response("runs", model, title: "Runs", context, frame: await frame("/runs", request, read))
    }

    private static func target(_ text: String, _ ledger: LedgerReader) async throws -> String? {
        let text = text.uppercased()
        if let id = RunID(rawValue: text), try await ledger.runState(id.rawValue) != nil { return "/runs/\(id)" }
        if let id = JobID(rawValue: text), try await ledger.jobState(id.rawValue) != nil { return "/jobs/\(id)" }
        return nil
    }
}
