import Foundation
import Hummingbird
import JobStore
import Jobs

private struct EventsPage {
    struct Row {
        struct Run {
            var id: String
            var shortID: String
            var mark: String
        }

        var sequence: String
        var at: String
        var level: String
        var resource: String
        var shortResource: String
        var size: String
        var refused: String?
        var mark: String
        var reason: String?
        var runs: [Run]
    }

    var tabs: [PageTab]
    struct Source {
        var server: String
        var mark: String
        var lag: String
        var checked: String
        var reason: String?
    }

    struct Account {
        var server: String
        var level: String
        var text: String
        var swept: String?
    }

    struct Pending {
        var server: String
        var level: String
        var resource: String
        var shortResource: String
        var since: String
        var reason: String
    }

    var sources: [Source]
    var accounts: [Account]
    var pending: [Pending]
    var hasPending: Bool
    var accounting: String
    var rows: [Row]
    var pager: PagerModel
}

extension PageController {
    @Sendable func showEvents(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let cursor = request.query("cursor")
        let filter = try ListQuery.eventFilter(request)
        var read = try await pageReads()
        let page = try await ledger.events(filter, limit: ListQuery.pageLimit(request), cursor: cursor)
        let overview = try await read.overview()
        let totals = overview.totals
        let model = EventsPage(
            tabs: Self.tabs(totals, filter),
            sources: overview.sources.map { source in
                EventsPage.Source(
                    server: source.server, mark: StateMark.html(source.state.rawValue, like: source.state.mark),
                    lag: source.lag == 0 ? "up to date" : "\(Display.number(Int(clamping: source.lag))) changes behind",
                    checked: Markup.time(source.checkedAt, isRelative: true), reason: source.error?.text)
            },
            accounts: overview.accounts.map { account in
                EventsPage.Account(
                    server: account.server, level: account.level.rawValue, text: account.text,
                    swept: account.sweptAt.map { Markup.time($0, isRelative: true) })
            },
            pending: overview.pending.map { pending in
                EventsPage.Pending(
                    server: pending.server, level: pending.level.rawValue, resource: pending.resource,
                    shortResource: Display.short(pending.resource), since: Markup.time(pending.since, isRelative: true),
                    reason: pending.reason.text)
            },
            hasPending: !overview.pending.isEmpty,
            accounting: Self.accounting(totals),
            rows: page.items.map(EventsPage.Row.init),
            pager: PagerModel(
                PagerModel.path("/events", [("filtered", request.query("filtered")), ("reason", request.query("reason"))]), cursor,
                page.next)
        )
        return try pages.response("events", model, title: "Events", context, frame: await frame("/events", request, read))
    }

    private static func tabs(_ totals: LedgerTotals, _ filter: LedgerEventFilter) -> [PageTab] {
        let accepted = totals.eventCount - totals.filteredEventCount
        let fixed: [(String, String, Int, LedgerEventFilter)] = [
            ("All", "/events", totals.eventCount, .all),
            ("Accepted", "/events?filtered=false", accepted, .accepted),
            ("Filtered", "/events?filtered=true", totals.filteredEventCount, .filtered),
        ]
        let reasons = totals.events.compactMap { group in
            group.code.map { ($0, PagerModel.path("/events", [("reason", $0)]), group.count, LedgerEventFilter.reason($0)) }
        }
        return (fixed + reasons).map { title, url, count, tab in
            PageTab(title: title, url: url, count: Display.number(count), isCurrent: tab == filter)
        }
    }

    /// Where every event went.
    private static func accounting(_ totals: LedgerTotals) -> String {
        let accepted = totals.eventCount - totals.filteredEventCount
        return "\(Display.count(totals.eventCount, "event")) = \(Display.number(accepted)) handed to the router + "
            + "\(Display.number(totals.filteredEventCount)) filtered."
    }
}

extension LedgerEvent {
    /// Why there is no run of it yet, or never will be one.
    fileprivate var planningTrouble: String? {
        guard let problem, planningFailures > 0 else { return nil }
        let times = planningFailures == 1 ? "once" : "\(planningFailures) times"
        return "Planning failed \(times)\(isAbandoned ? " and was given up" : " and is tried again"): \(problem.text)"
    }
}

extension EventsPage.Row {
    /// What goes on to the router; where nothing does, what was refused.
    private static func size(_ event: LedgerEvent) -> String {
        if event.series.isEmpty, event.refusedSeries > 0 { return "\(Display.count(event.refusedSeries, "series", "series")) refused" }
        let images = event.series.reduce(0) { $0 + $1.instances }
        return "\(Display.count(event.series.count, "series", "series")), \(Display.count(images, "image"))"
    }

    init(_ event: LedgerEvent) {
        self.init(
            sequence: String(event.sequence),
            at: Markup.time(event.observedAt, isRelative: true),
            level: event.level,
            resource: event.resourceID,
            shortResource: Display.short(event.resourceID),
            size: Self.size(event),
            refused: event.refusedSeries == 0 || event.series.isEmpty ? nil : "\(event.refusedSeries) series refused",
            mark: event.filtered == nil ? StateMark.html("accepted", like: "accepted") : StateMark.html("filtered", like: "filtered"),
            reason: event.filtered?.text ?? event.planningTrouble,
            runs: event.runs.map { .init(id: $0.id, shortID: String($0.id.suffix(8)), mark: StateMark.html($0.state)) }
        )
    }
}

extension IngestSource.State {
    /// Which shape and colour it has.
    fileprivate var mark: String {
        switch self {
        case .starting: "waiting"
        case .following: "ok"
        case .unavailable: "error"
        case .blocked: "warning"
        }
    }
}
