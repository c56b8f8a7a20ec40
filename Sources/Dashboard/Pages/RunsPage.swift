import Foundation
import Hummingbird
import JobStore
import Jobs

/// A run in a list.
struct RunRow {
    var mark: String
    var id: String
    var shortID: String
    var level: String
    var resource: String
    var shortResource: String
    var created: String
    var took: String
    var bar: String
    var done: String
    var reason: String?
    var isReprocessed: Bool

    init(_ run: LedgerRun, at now: Date) {
        let total = run.counts.values.reduce(0, +)
        let ended = run.counts.reduce(0) { $0 + ($1.key.isTerminal ? $1.value : 0) }
        mark = StateMark.html(run.state)
        id = run.id
        shortID = String(run.id.suffix(8))
        level = run.level
        resource = run.resourceID
        shortResource = Display.short(run.resourceID)
        created = Markup.time(run.createdAt, isRelative: true)
        took = Display.duration((run.finishedAt ?? now).timeIntervalSince(run.createdAt))
        bar = Markup.bar(run.counts)
        done = total == 0 ? "no jobs" : "\(ended)/\(total)"
        reason = run.reason?.text
        isReprocessed = run.origin != "event"
    }
}

private struct RunsPage {
    struct Tab {
        var title: String
        var url: String
        var count: String
        var isCurrent: Bool
    }

    var tabs: [Tab]
    var search: String
    var state: String?
    var isFiltered: Bool
    var rows: [RunRow]
    var pager: PagerModel
}

extension PageController {
    @Sendable func showRuns(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let states = try ListQuery.runStates(request)
        let text = request.query("q")?.trimmingCharacters(in: .whitespaces)
        let event = request.query("event")
        let cursor = request.query("cursor")
        // Whoever pastes the id of a run or of a job wants to be there.
        if let text, states.isEmpty, let target = try await Self.target(text, ledger) { return .redirect(to: target) }
        let page = try await ledger.runs(
            LedgerRunFilter(states: states, event: event, text: text), limit: ListQuery.limit(request), cursor: cursor)
        let state = request.query("state")
        let counts = try await overview.get().totals.runs
        let tabs = [nil] + [RunState.active, .failed, .succeeded, .cancelled, .declined].map(Optional.some)
        let model = RunsPage(
            tabs: tabs.map { tab in
                RunsPage.Tab(
                    title: tab.map { $0.rawValue.capitalized } ?? "All",
                    url: PagerModel.path("/runs", [("state", tab?.rawValue), ("q", text), ("event", event)]),
                    count: text == nil && event == nil ? Display.number(tab.map { counts[$0] ?? 0 } ?? counts.values.reduce(0, +)) : "",
                    isCurrent: tab?.rawValue == state)
            },
            search: text ?? "",
            state: state,
            isFiltered: !states.isEmpty || text != nil || event != nil,
            rows: page.items.map { RunRow($0, at: now) },
            pager: PagerModel(PagerModel.path("/runs", [("state", state), ("q", text), ("event", event)]), cursor, page.next)
        )
        return try pages.response("runs", model, title: "Runs", context, frame: await frame("/runs", request))
    }

    private static func target(_ text: String, _ ledger: LedgerReader) async throws -> String? {
        let text = text.uppercased()
        if let id = RunID(rawValue: text), try await ledger.runState(id.rawValue) != nil { return "/runs/\(id)" }
        if let id = JobID(rawValue: text), try await ledger.jobState(id.rawValue) != nil { return "/jobs/\(id)" }
        return nil
    }
}
