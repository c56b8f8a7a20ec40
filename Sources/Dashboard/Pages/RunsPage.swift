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

private struct RunsPage {
    struct Tab {
        var title: String
        var url: String
        var count: String
        var isCurrent: Bool
    }

    struct Choice {
        var value: String
        var title: String
        var isChosen: Bool
    }

    /// A condition that is set, and the list without it.
    struct Condition {
        var words: String
        var url: String
    }

    var tabs: [Tab]
    var search: String
    var state: String?
    var event: String?
    var error: String
    var from: String
    var to: String
    var zone: String
    var levels: [Choice]
    var services: [Choice]
    var modalities: [Choice]
    var conditions: [Condition]
    var isFiltered: Bool
    /// Some condition is set that the small form does not show.
    var isOpen: Bool
    var summary: String
    var rows: [RunRow]
    var bulk: BulkBar?
    var pager: PagerModel
}

/// The fields by which lists of runs are asked, in the address of a page and of the API.
struct RunFilterQuery {
    static let names = ["state", "level", "service", "modality", "error", "from", "to", "q", "event"]

    /// Those that are set, in the order of ``names``.
    var fields: [(name: String, value: String)]
    var filter: LedgerRunFilter

    /// - Throws: `Problem` for what cannot be read.
    init(_ request: Request) throws {
        fields = Self.names.compactMap { name in
            request.query(name).map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.flatMap { $0.isEmpty ? nil : (name, $0) }
        }
        let values = Dictionary(fields.map { ($0.name, $0.value) }) { first, _ in first }
        if let level = values["level"], !["series", "study", "patient"].contains(level) {
            throw Problem.badRequest("level is series, study or patient.")
        }
        filter = LedgerRunFilter(
            states: try ListQuery.runStates(request), event: values["event"], text: values["q"], level: values["level"],
            service: values["service"] == Self.builtIn ? "" : values["service"], modality: values["modality"], error: values["error"],
            from: try Self.time(values["from"], "from"), to: try Self.time(values["to"], "to"))
    }

    /// How the export, which has no service, is asked for.
    static let builtIn = "built-in"

    /// The address of `base` with these conditions, but for some of them.
    func path(_ base: String, without names: Set<String> = [], with extra: [(String, String?)] = []) -> String {
        PagerModel.path(base, fields.filter { !names.contains($0.name) }.map { ($0.name, $0.value) } + extra)
    }

    /// `2026-11-22`, `2026-11-22T16:20` in the monitor's time zone, or a whole ISO 8601 time with its own.
    static func time(_ text: String?, _ name: String) throws -> Date? {
        guard let text else { return nil }
        if let date = try? Date(text, strategy: .iso8601) { return date }
        if let date = try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) { return date }
        let parts = text.split { !$0.isNumber }.compactMap { Int($0) }
        guard parts.count == 3 || parts.count == 5 || parts.count == 6, text.allSatisfy({ $0.isNumber || "-T: ".contains($0) }) else {
            throw Problem.badRequest("\(name) is a time such as 2026-11-22, 2026-11-22T16:20 or 2026-11-22T16:20:00Z.")
        }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .current
        let components = DateComponents(
            year: parts[0], month: parts[1], day: parts[2], hour: parts.count > 3 ? parts[3] : 0, minute: parts.count > 3 ? parts[4] : 0,
            second: parts.count > 5 ? parts[5] : 0)
        guard components.isValidDate(in: calendar), let date = calendar.date(from: components) else {
            throw Problem.badRequest("\(name): there is no time \(text.prefix(40)).")
        }
        return date
    }
}

extension PageController {
    @Sendable func showRuns(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let query = try RunFilterQuery(request)
        let filter = query.filter
        let cursor = request.query("cursor")
        // Whoever pastes the id of a run or of a job wants to be there.
        if let text = filter.text, query.fields.count == 1, let target = try await Self.target(text, ledger) {
            return .redirect(to: target)
        }
        let limit = try ListQuery.limit(request)
        let key = query.path("runs")
        let ledger = ledger
        let page = try await reads.get("\(key) \(limit) \(cursor ?? "")") { try await ledger.runs(filter, limit: limit, cursor: cursor) }
        let counts = try await reads.get("counts " + query.path("", without: ["state"])) { try await ledger.runCounts(filter) }
        let modalities = try await reads.get("modalities") { try await ledger.modalities() }
        let services = try await overview.get().services.map(\.name)
        let state = request.query("state")
        let tabs = [nil] + [RunState.active, .failed, .succeeded, .cancelled, .declined].map(Optional.some)
        func count(_ state: RunState?) -> String {
            let number = state.map { counts.states[$0] ?? 0 } ?? counts.total
            return Display.number(number) + (counts.isCut ? "+" : "")
        }
        func choices(_ values: [(String, String)], _ chosen: String?) -> [RunsPage.Choice] {
            let all = chosen.map { chosen in values.contains { $0.0 == chosen } ? values : values + [(chosen, chosen)] } ?? values
            return all.map { .init(value: $0.0, title: $0.1, isChosen: $0.0 == chosen) }
        }
        func value(_ name: String) -> String? { query.fields.first { $0.name == name }?.value }
        let extra = query.fields.filter { !["state", "q"].contains($0.name) }
        let shown = filter.states.isEmpty ? counts.total : filter.states.reduce(0) { $0 + (counts.states[$1] ?? 0) }
        let model = RunsPage(
            tabs: tabs.map { tab in
                RunsPage.Tab(
                    title: tab.map { $0.rawValue.capitalized } ?? "All",
                    url: query.path("/runs", without: ["state"], with: [("state", tab?.rawValue)]),
                    count: count(tab), isCurrent: tab?.rawValue == state)
            },
            search: filter.text ?? "",
            state: state,
            event: filter.event,
            error: filter.error ?? "",
            from: value("from") ?? "",
            to: value("to") ?? "",
            zone: TimeZone.current.abbreviation(for: now) ?? "the monitor's time",
            levels: choices(["study", "series", "patient"].map { ($0, $0) }, filter.level),
            services: choices((services + [RunFilterQuery.builtIn]).map { ($0, $0) }, value("service")),
            modalities: choices(modalities.map { ($0, $0) }, filter.modality),
            conditions: extra.map { name, value in
                .init(words: "\(Self.words[name] ?? name): \(value)", url: query.path("/runs", without: [name]))
            },
            isFiltered: !query.fields.isEmpty,
            isOpen: !extra.isEmpty,
            summary: (shown == 1 ? "1 run" : "\(Display.number(shown))\(counts.isCut ? " or more" : "") runs")
                + (counts.isCut ? "; counted are the newest \(Display.number(LedgerRunCounts.limit)) that match" : ""),
            rows: page.items.map { RunRow($0, configuration.orthanc, at: now) },
            bulk: BulkBar.runs(query, counts),
            pager: PagerModel(query.path("/runs", with: request.query("limit").map { [("limit", $0)] } ?? []), cursor, page.next)
        )
        return try pages.response("runs", model, title: "Runs", context, frame: await frame("/runs", request))
    }

    private static let words = [
        "level": "Level", "service": "Service", "modality": "Modality", "error": "Error", "from": "From", "to": "Until", "event": "Event",
    ]

    private static func target(_ text: String, _ ledger: LedgerReader) async throws -> String? {
        let text = text.uppercased()
        if let id = RunID(rawValue: text), try await ledger.runState(id.rawValue) != nil { return "/runs/\(id)" }
        if let id = JobID(rawValue: text), try await ledger.jobState(id.rawValue) != nil { return "/jobs/\(id)" }
        return nil
    }
}
