import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs

/// Asks before the work: what will be done, to how many and which, and what is left out.
private struct BulkOrderPage {
    struct Row {
        var url: String
        var name: String
        var isID: Bool
        var service: String?
        var runURL: String?
        var run: String?
        var mark: String
        var level: String
        var resource: String
        var shortResource: String
        var at: String
        var why: String?
    }

    struct Reason {
        var count: String
        var reason: String
    }

    struct Field {
        var name: String
        var value: String
    }

    var title: String
    var sentence: String?
    var warning: String?
    /// The filter's conditions.
    var words: [String]
    /// What it is without any condition.
    var everything: String
    var areJobs: Bool
    var rows: [Row]
    var rest: String?
    var leftOut: [Reason]
    var hasLeftOut: Bool
    var leftOutCount: String
    var canStart: Bool
    var isDangerous: Bool
    var fields: [Field]
    var back: String
}

private struct BulkListPage {
    struct Row {
        var url: String
        var title: String
        var mark: String
        var words: [String]
        var actor: String
        var started: String
        var took: String
        var bar: String
        var done: String
        var skipped: String
        var failed: String
        var total: String
    }

    var rows: [Row]
    var pager: PagerModel
}

private struct BulkPage {
    struct Item {
        var number: String
        var url: String
        var target: String
        var mark: String
        var reason: String?
        var newURL: String?
        var newRun: String?
    }

    struct Reason {
        var count: String
        var mark: String
        var reason: String
    }

    var id: String
    var title: String
    var mark: String
    var actor: String
    var started: String
    var took: String
    var bar: String
    var progress: String
    var stopReason: String?
    var canCancel: Bool
    var words: [String]
    var everything: String
    var list: String?
    var leftOut: [BulkOrderPage.Reason]
    var hasLeftOut: Bool
    var reasons: [Reason]
    var hasReasons: Bool
    /// What the reasons are about.
    var notDone: String
    var tabs: [PageTab]
    var items: [Item]
    var hasReasonColumn: Bool
    var pager: PagerModel
    var hasPager: Bool
}

/// The pages of bulk operations.
struct BulkPages: Sendable {
    let desk: BulkDesk
    let pages: PageController

    private var ledger: LedgerReader { desk.ledger }
    private var store: MonitorStore { desk.store }
    /// How many of what will be done are shown before.
    private static let shown = 20

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/bulk", use: list)
        router.get("/bulk/new", use: ask)
        router.get("/bulk/:id", use: show)
        router.post("/bulk", use: start)
        router.post("/bulk/:id/cancel", use: cancel)
    }

    // MARK: Before

    /// Looks, and changes nothing: what is asked for is pinned when it is started.
    @Sendable private func ask(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let ids = request.queries("id")
        if request.query("chosen") != nil, ids.isEmpty {
            throw Problem.badRequest("Nothing is chosen. Go back and check the boxes of the rows that it is about.")
        }
        let order = try Self.order(FormDecoding.fields(request.uri.query ?? ""), ids: ids)
        return try await page(
            order, try await desk.find(order), once: UUID().uuidString.lowercased(), request: request, context: context)
    }

    /// Starts what the page showed. When that has become something else meanwhile, it says so and asks again, for what it shows then and
    /// nothing else, so that a set which never stands still can be ordered, too.
    @Sendable private func start(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let form = context.form
        guard let once = form["once"]?.lowercased(), UUID(uuidString: once) != nil else {
            throw Problem.badRequest("The form is not whole. Go back to the list and begin again.")
        }
        if let known = try await store.bulk(once) {
            // Ordered already: the second click of two, or the page loaded anew.
            guard known.state == .preview else { return .redirect(to: "/bulk/\(once)") }
            return try await start(pinned: once, identity)
        }
        let ids = form["ids"].map { $0.split(separator: "_").map(String.init) } ?? []
        let order = try Self.order(form, ids: ids)
        let findings = try await desk.find(order)
        guard !findings.wanted.isEmpty, findings.wanted.fingerprint == form["seen"] else {
            let pinned = UUID().uuidString.lowercased()
            if !findings.wanted.isEmpty { try await desk.pin(findings, of: order, id: pinned, by: identity) }
            let before = form["count"].flatMap { Int($0) }.map { BulkOrder.count($0, order.kind.rawValue) } ?? "others"
            let now = BulkOrder.count(findings.wanted.count, order.kind.rawValue)
            let warning =
                findings.wanted.isEmpty
                ? "Nothing was started: it was \(before) when you looked, and nothing of it is left."
                : "Nothing was started: it was \(before) when you looked, and is \(now) now, not all of them the same. "
                    + "Look again. If you start this, it is done to exactly these; what changes until its turn comes is left out."
            return try await page(
                order, findings, once: pinned, warning: warning, status: .conflict, request: request, context: context)
        }
        try await desk.pin(findings, of: order, id: once, by: identity)
        return try await start(pinned: once, identity)
    }

    private func start(pinned id: String, _ identity: Identity) async throws -> Response {
        do {
            _ = try await desk.start(id, by: identity)
        } catch let problem as Problem where problem.status == .conflict {
            // Another click was quicker.
            guard let record = try await store.bulk(id), record.state != .preview else { throw problem }
        }
        return .redirect(to: "/bulk/\(id)")
    }

    /// Names of the forms that are no conditions.
    private static let own: Set<String> = ["kind", "action", "id", "ids", "chosen", "csrf", "once", "seen", "count"]

    private static func order(_ fields: [String: String], ids: [String]) throws -> BulkOrder {
        try BulkOrder(
            kind: fields["kind"], action: fields["action"],
            fields: fields.filter { !own.contains($0.key) }.mapValues { $0.trimmingCharacters(in: .whitespacesAndNewlines) },
            ids: ids.isEmpty ? nil : ids)
    }

    private func page(
        _ order: BulkOrder, _ findings: BulkDesk.Findings, once: String, warning: String? = nil, status: HTTPResponse.Status = .ok,
        request: Request, context: DashboardContext
    ) async throws -> Response {
        let count = findings.wanted.count
        let kind = order.kind.rawValue
        let title = count == 0 ? "Nothing to \(order.action.rawValue)" : BulkOrder.title(order.action.rawValue, count, kind)
        let examples = findings.wanted.prefix(Self.shown).map(\.target)
        let record = BulkRecord(
            id: once, kind: kind, action: order.action.rawValue, filter: order.filterOnRecord, actor: "", previewedAt: Date(),
            leftOut: findings.leftOut, total: count)
        var fields: [BulkOrderPage.Field] = [
            .init(name: "kind", value: kind), .init(name: "action", value: order.action.rawValue), .init(name: "once", value: once),
            .init(name: "seen", value: findings.wanted.fingerprint), .init(name: "count", value: String(count)),
        ]
        fields += order.fields.sorted { $0.key < $1.key }.map { .init(name: $0.key, value: $0.value) }
        if let ids = order.ids { fields.append(.init(name: "ids", value: ids.joined(separator: "_"))) }
        let model = BulkOrderPage(
            title: title, sentence: count == 0 ? nil : order.sentence(count), warning: warning,
            words: BulkOrder.words(of: record.filter), everything: Self.everything(order.kind), areJobs: order.kind == .jobs,
            rows: order.kind == .runs
                ? try await ledger.runs(examples).map(BulkOrderPage.Row.init) : try await ledger.jobs(examples).map(BulkOrderPage.Row.init),
            rest: count > examples.count ? "and \(Display.number(count - examples.count)) more" : nil,
            leftOut: Self.reasons(findings.leftOut), hasLeftOut: !findings.leftOut.isEmpty,
            leftOutCount: Display.number(findings.leftOut.values.reduce(0, +)),
            canStart: count > 0, isDangerous: order.action == .cancel || order.action == .discard, fields: fields,
            back: BulkOrder.list(of: record) ?? (order.kind == .runs ? "/runs" : "/dead"))
        var frame = try await pages.frame("/bulk", request)
        // Nothing in it follows what happens: what is asked is what was looked at.
        frame.fact = nil
        return try pages.pages.response("bulk-order", model, title: title, context, frame: frame, status: status)
    }

    private static func everything(_ kind: BulkOrder.Kind) -> String {
        kind == .runs ? "No condition: all runs" : "No condition: all failed and dead jobs"
    }

    private static func reasons(_ counts: [String: Int]) -> [BulkOrderPage.Reason] {
        counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { .init(count: Display.number($0.value), reason: $0.key) }
    }

    // MARK: While and after

    @Sendable private func list(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let page = try await store.bulks(limit: ListQuery.pageLimit(request), cursor: request.query("cursor"))
        let now = Date()
        let model = BulkListPage(
            rows: page.items.map { BulkListPage.Row($0, at: now) }, pager: PagerModel("/bulk", request.query("cursor"), page.next))
        return try pages.pages.response("bulks", model, title: "Bulk", context, frame: await pages.frame("/bulk", request))
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let record = try await store.bulk(id), record.state != .preview else {
            throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'. Records are kept for 90 days.")
        }
        let now = Date()
        let waiting = record.total - record.done - record.skipped - record.failed
        let choices: [(name: String, title: String, states: [BulkItem.State], count: Int)] = [
            ("refused", "Refused or changed", [.skipped], record.skipped), ("failed", "Unanswered", [.failed], record.failed),
            ("done", "Done", [.done], record.done), ("waiting", "To do", [.pending, .sent], waiting), ("all", "All", [], record.total),
        ]
        let wanted = request.query("items") ?? (record.skipped > 0 ? "refused" : "all")
        guard let choice = choices.first(where: { $0.name == wanted }) else {
            throw Problem.badRequest("items is one of \(choices.map(\.name).joined(separator: ", ")).")
        }
        let limit = try ListQuery.pageLimit(request)
        let cursor = request.query("cursor")
        let first = try cursor.map { text in
            guard let first = Int(text), first >= 0 else { throw Problem.badRequest("cursor is what the page before gave as next.") }
            return first
        }
        let items = try await store.bulkItems(id, states: choice.states, from: first ?? 0, limit: limit + 1)
        let next = items.count > limit ? String(items[limit].sequence) : nil
        let reasons = try await store.bulkReasons(id)
        let model = BulkPage(
            id: id, title: BulkOrder.title(record.action, record.total, record.kind), mark: Self.mark(record), actor: record.actor,
            started: Markup.time(record.startedAt, isRelative: true), took: Self.took(record, at: now), bar: Self.bar(record),
            progress: Self.progress(record), stopReason: record.stopReason, canCancel: record.state == .running,
            words: BulkOrder.words(of: record.filter),
            everything: BulkOrder.Kind(rawValue: record.kind).map(Self.everything) ?? "", list: BulkOrder.list(of: record),
            leftOut: Self.reasons(record.leftOut), hasLeftOut: !record.leftOut.isEmpty,
            reasons: reasons.map { .init(count: Display.number($0.count), mark: Self.mark($0.state), reason: $0.reason) },
            hasReasons: !reasons.isEmpty,
            notDone: record.failed == 0 ? "Not done" : record.skipped == 0 ? "Unanswered" : "Not done, or unanswered",
            tabs: choices.filter { $0.count > 0 || $0.name == wanted }.map {
                .init(
                    title: $0.title, url: "/bulk/\(id)?items=\($0.name)#items", count: Display.number($0.count),
                    isCurrent: $0.name == wanted)
            },
            items: items.prefix(limit).map { BulkPage.Item($0, record) },
            hasReasonColumn: items.prefix(limit).contains { $0.reason != nil },
            pager: PagerModel("/bulk/\(id)?items=\(wanted)", cursor, next), hasPager: cursor != nil || next != nil)
        return try pages.pages.response("bulk", model, title: model.title, context, frame: await pages.frame("/bulk", request))
    }

    @Sendable private func cancel(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        do {
            _ = try await desk.cancel(id, by: identity)
        } catch let problem as Problem where problem.status == .conflict {
            // It has ended meanwhile: its page says how.
            guard let record = try await store.bulk(id), record.state != .preview else { throw problem }
        }
        return .redirect(to: "/bulk/\(id)")
    }

    fileprivate static func mark(_ record: BulkRecord) -> String {
        switch record.state {
        case .preview: StateMark.html("preview", like: "waiting")
        case .running: StateMark.html("running", like: "running")
        case .cancelling: StateMark.html("stopping", like: "draining")
        case .done: StateMark.html("done", like: "succeeded")
        case .cancelled: StateMark.html("cancelled", like: "cancelled")
        }
    }

    fileprivate static func mark(_ state: BulkItem.State) -> String {
        switch state {
        case .pending: StateMark.html("to do", like: "waiting")
        case .sent: StateMark.html("sent", like: "dispatched")
        case .done: StateMark.html("done", like: "succeeded")
        case .skipped: StateMark.html("not done", like: "skipped")
        case .failed: StateMark.html("unanswered", like: "warning")
        }
    }

    fileprivate static func took(_ record: BulkRecord, at now: Date) -> String {
        record.startedAt.map { Display.duration((record.endedAt ?? now).timeIntervalSince($0)) } ?? ""
    }

    fileprivate static func progress(_ record: BulkRecord) -> String {
        let rest = record.total - record.done - record.skipped - record.failed
        var words = ["\(Display.number(record.done)) of \(Display.number(record.total)) done"]
        if record.skipped > 0 { words.append("\(Display.number(record.skipped)) left as they were") }
        if record.failed > 0 { words.append("\(Display.number(record.failed)) unanswered, which may have been done") }
        if rest > 0 { words.append("\(Display.number(rest)) to do") }
        return words.joined(separator: ", ")
    }

    fileprivate static func bar(_ record: BulkRecord) -> String {
        Markup.bar(
            [("succeeded", record.done), ("skipped", record.skipped), ("warning", record.failed)], of: record.total, progress(record))
    }
}

extension BulkOrderPage.Row {
    fileprivate init(_ run: LedgerRun) {
        self.init(
            url: "/runs/\(run.id)", name: String(run.id.suffix(8)), isID: true, service: nil, runURL: nil, run: nil,
            mark: StateMark.html(run.state), level: run.level, resource: run.resourceID, shortResource: Display.short(run.resourceID),
            at: Markup.time(run.createdAt, isRelative: true), why: run.reason?.text)
    }

    fileprivate init(_ broken: LedgerDeadJob) {
        let job = broken.job
        self.init(
            url: "/jobs/\(job.id)", name: job.name, isID: false,
            service: Display.service(job.service), runURL: "/runs/\(job.runID)",
            run: String(job.runID.suffix(8)), mark: StateMark.html(job.state), level: broken.level, resource: broken.resourceID,
            shortResource: Display.short(broken.resourceID), at: Markup.time(job.finishedAt, isRelative: true), why: job.reason.text)
    }
}

extension BulkListPage.Row {
    fileprivate init(_ record: BulkRecord, at now: Date) {
        self.init(
            url: "/bulk/\(record.id)", title: BulkOrder.title(record.action, record.total, record.kind), mark: BulkPages.mark(record),
            words: BulkOrder.words(of: record.filter), actor: record.actor, started: Markup.time(record.startedAt, isRelative: true),
            took: BulkPages.took(record, at: now), bar: BulkPages.bar(record), done: Display.number(record.done),
            skipped: Display.number(record.skipped), failed: Display.number(record.failed), total: Display.number(record.total))
    }
}

extension BulkPage.Item {
    fileprivate init(_ item: BulkItem, _ record: BulkRecord) {
        let isRun = record.kind == BulkOrder.Kind.runs.rawValue
        // What a reprocessing has made: `run <id>`.
        let made = item.reason.flatMap { $0.hasPrefix("run ") ? RunID(rawValue: String($0.dropFirst(4))) : nil }
        self.init(
            number: Display.number(item.sequence + 1), url: isRun ? "/runs/\(item.target)" : "/jobs/\(item.target)", target: item.target,
            mark: BulkPages.mark(item.state), reason: made == nil ? item.reason : nil, newURL: made.map { "/runs/\($0)" },
            newRun: made.map { String($0.rawValue.suffix(8)) })
    }
}
