import Foundation
import Hummingbird
import JobStore
import Jobs

private struct AuditPage {
    struct Row {
        var sequence: String
        var at: String
        var actor: String
        var role: String?
        var address: String?
        var action: String
        var mark: String
        var target: String?
        var shortTarget: String
        var kind: String
        var url: String?
        var detail: String?
    }

    struct Choice {
        var name: String
        var isCurrent: Bool
    }

    var rows: [Row]
    var isFiltered: Bool
    var actor: String
    var target: String
    var from: String
    var to: String
    var actions: [Choice]
    var outcomes: [Choice]
    var pager: PagerModel
}

/// Who did what.
struct AuditPages: Sendable {
    let store: MonitorStore
    let pages: PageController

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/audit", use: show)
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let filter = try Self.filter(request)
        let page = try await store.audit(filter, limit: ListQuery.pageLimit(request), before: Self.before(request))
        let fields = ["actor", "action", "target", "outcome", "from", "to"].map { ($0, request.query($0)) }
        let model = AuditPage(
            rows: page.items.map(AuditPage.Row.init),
            isFiltered: filter != AuditFilter(),
            actor: filter.actor ?? "",
            target: filter.target ?? "",
            from: request.query("from") ?? "",
            to: request.query("to") ?? "",
            actions: try await store.auditActions().map { .init(name: $0, isCurrent: $0 == filter.action) },
            outcomes: AuditEntry.Outcome.allCases.map { .init(name: $0.rawValue, isCurrent: $0 == filter.outcome) },
            pager: PagerModel(PagerModel.path("/audit", fields), request.query("cursor"), page.next))
        return try pages.pages.response("audit", model, title: "Audit", context, frame: await pages.frameWithoutLedger("/audit", request))
    }

    fileprivate static func filter(_ request: Request) throws -> AuditFilter {
        let outcome = try request.query("outcome").map { text in
            guard let outcome = AuditEntry.Outcome(rawValue: text) else {
                let known = AuditEntry.Outcome.allCases.map(\.rawValue).joined(separator: ", ")
                throw Problem.badRequest("outcome is one of \(known).")
            }
            return outcome
        }
        return AuditFilter(
            actor: request.query("actor"), action: request.query("action"), target: request.query("target"), outcome: outcome,
            from: try time(request, "from", endsDay: false), to: try time(request, "to", endsDay: true))
    }

    /// A day in the monitor's time zone, `to` the whole of it included, or an ISO 8601 time.
    private static func time(_ request: Request, _ name: String, endsDay: Bool) throws -> Date? {
        guard let text = request.query(name) else { return nil }
        if let date = try? Date(text, strategy: .iso8601) { return date }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .current
        let parts = text.split(separator: "-").compactMap { Int($0) }
        guard parts.count == 3, (1970...9999).contains(parts[0]), (1...12).contains(parts[1]), (1...31).contains(parts[2]),
            let day = calendar.date(from: DateComponents(year: parts[0], month: parts[1], day: parts[2])),
            let next = calendar.date(byAdding: .day, value: 1, to: day)
        else { throw Problem.badRequest("\(name) is a day, 2026-01-31, or a time, 2026-01-31T12:00:00Z.") }
        return endsDay ? next : day
    }

    private static func before(_ request: Request) throws -> Int64? {
        guard let text = request.query("cursor") else { return nil }
        guard let before = Int64(text) else { throw Problem.badRequest("cursor is what the page before gave as next.") }
        return before
    }
}

/// The same for programs.
struct AuditAPI: Sendable {
    let store: MonitorStore

    var routes: [APIRoute] {
        [
            .get(
                "/audit", "listAudit", "audit", "Who did what, newest first",
                parameters: [
                    .query("actor", .text(longest: 100), "Only what this one did.", example: "anna"),
                    .query("action", .text(longest: 100), "Only this action.", example: "reveal"),
                    .query("target", .text(longest: 256), "Only what was done to this: the id of a run, a job, a user."),
                    .query("outcome", .one(AuditEntry.Outcome.allCases.map(\.rawValue)), "Only what ended so."),
                    .query("from", .time, "From then on."),
                    .query("to", .time, "Up to then; a day as a whole."),
                    .limit, .cursor,
                ], answer: Schema.ref("AuditPage"), role: .operator, handler: list)
        ]
    }

    @Sendable private func list(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let fields = ["actor", "action", "target", "outcome", "from", "to"].map { "\($0)=\(request.query($0) ?? "")" }
        let cursor = Cursor("audit", filter: fields.joined(separator: "&"))
        let before = try cursor.key(request.query("cursor")).flatMap { Int64($0) }
        let page = try await store.audit(AuditPages.filter(request), limit: ListQuery.limit(request), before: before)
        return .json(["entries": .array(page.items.map { JSONValue($0) }), "next": JSONValue(cursor.text(page.next))])
    }
}

extension APISchemas {
    static let security: [String: JSONValue] = [
        "AuditPage": page("entries", "AuditEntry"),
        "AuditEntry": Schema.object([
            "sequence": Schema.integer,
            "at": Schema.time,
            "actor": Schema.described(Schema.text, "A user's name, `token:<name>`, `api`, `operator`, `local`, `cli` or `unknown`."),
            "role": Schema.nullable(Schema.one(of: AccountRole.self)),
            "address": Schema.nullable(Schema.text),
            "action": Schema.text,
            "target": Schema.nullable(Schema.object(["kind": Schema.text, "id": Schema.text])),
            "outcome": Schema.one(of: AuditEntry.Outcome.self),
            "detail": ["type": "object"],
        ]),
        "RevealOrder": Schema.object(
            ["reason": Schema.described(["type": "string", "maxLength": 200], "Goes into the audit: names no patient.")],
            optional: ["reason"]),
        "Revealed": Schema.object([
            "id": Schema.text,
            "headers": Schema.anything,
            "addedParams": Schema.anything,
            "jobs": Schema.list(
                Schema.object([
                    "id": Schema.text, "name": Schema.text, "params": Schema.anything, "plannedParams": Schema.anything,
                    "addedParams": Schema.anything, "result": Schema.anything,
                ])),
        ]),
    ]
}

extension AuditPage.Row {
    fileprivate init(_ record: AuditRecord) {
        let entry = record.entry
        let detail = entry.detail.object.map { members in
            members.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.string ?? $0.value.text)" }.joined(separator: ", ")
        }
        self.init(
            sequence: String(record.sequence),
            at: Markup.time(entry.at),
            actor: entry.actor,
            role: entry.role?.rawValue,
            address: entry.address,
            action: entry.action,
            mark: StateMark.html(entry.outcome.rawValue, like: Self.like(entry.outcome)),
            target: entry.target?.id,
            shortTarget: entry.target.map { Display.short($0.id) } ?? "",
            kind: entry.target?.kind ?? "",
            url: entry.target.flatMap(Self.url),
            detail: detail.flatMap { $0.isEmpty ? nil : $0 })
    }

    /// Which state's shape and colour it has.
    private static func like(_ outcome: AuditEntry.Outcome) -> String {
        switch outcome {
        case .done, .sent: "ok"
        case .refused: "warning"
        case .failed: "error"
        }
    }

    private static func url(_ target: AuditEntry.Target) -> String? {
        guard let id = target.id.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(["-", "."])) else { return nil }
        return switch target.kind {
        case "run": "/runs/\(id)"
        case "job": "/jobs/\(id)"
        case "bulk": "/bulk/\(id)"
        case "channel": "/queues#channel-\(id)"
        case "worker": "/workers#worker-\(id)"
        case "service": "/services#service-\(id)"
        case "message": "/dead#messages"
        default: nil
        }
    }
}

extension JSONValue {
    init(_ record: AuditRecord) {
        let entry = record.entry
        self = [
            "sequence": .integer(record.sequence),
            "at": JSONValue(entry.at),
            "actor": .string(entry.actor),
            "role": JSONValue(entry.role?.rawValue),
            "address": JSONValue(entry.address),
            "action": .string(entry.action),
            "target": entry.target.map { ["kind": .string($0.kind), "id": .string($0.id)] } ?? .null,
            "outcome": .string(entry.outcome.rawValue),
            "detail": entry.detail,
        ]
    }
}
