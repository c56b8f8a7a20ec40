import Foundation
import Hummingbird
import JobStore
import Jobs

/// `/api/v1/bulk`.
struct BulkController: Sendable {
    let desk: BulkDesk
    let store: MonitorStore

    var routes: [APIRoute] {
        [
            .post(
                "/bulk/preview", "previewBulk", "bulk", "Counts and pins what a command for everything that matches would do",
                details: """
                    Of runs: retry, cancel or reprocess; the filter's keys are the parameters of GET /runs. Of jobs that failed or are dead: \
                    retry or, of dead ones, discard; the keys are state (failed, dead), service, name, channel, reason, type, error, run, \
                    discarded, from, to. With `ids`, \
                    only those of them. Reprocessing takes the newest run of each series, study or patient. `count` is exactly what will be \
                    sent; start it with its `token` within 15 minutes.
                    """,
                body: "BulkOrder", status: .ok, answer: Schema.ref("BulkPreview"), failures: [.conflict], handler: preview),
            .post(
                "/bulk", "startBulk", "bulk", "Starts what was previewed", body: "BulkStart", answer: Schema.ref("Bulk"),
                failures: [.notFound, .conflict], handler: start),
            .get(
                "/bulk", "listBulk", "bulk", "Bulk operations that were started, newest first", parameters: [.limit, .cursor],
                answer: APISchemas.page("operations", "Bulk"), handler: list),
            .get(
                "/bulk/{id}", "getBulk", "bulk", "How far a bulk operation is", parameters: [.path("The token of its preview.")],
                answer: Schema.ref("BulkDetail"), failures: [.notFound], handler: show),
            .get(
                "/bulk/{id}/items", "listBulkItems", "bulk", "What became of each item, in the order of the work",
                parameters: [
                    .path("The token of its preview."),
                    .query("state", .several(BulkItem.State.allCases.map(\.rawValue)), "Only items in these states.", example: "skipped"),
                    .limit, .cursor,
                ], answer: APISchemas.page("items", "BulkItem"), failures: [.notFound], handler: items),
            .post(
                "/bulk/{id}/cancel", "cancelBulk", "bulk", "Sends nothing more of it", parameters: [.path("The token of its preview.")],
                answer: Schema.ref("Bulk"), failures: [.notFound, .conflict], handler: cancel),
        ]
    }

    @Sendable private func preview(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let identity = try context.requireIdentity()
        let preview = try await desk.preview(BulkOrder(try await APIBody.read(request)), by: identity)
        return .json([
            "token": .string(preview.record.id),
            "expiresAt": JSONValue(preview.expiresAt),
            "kind": .string(preview.record.kind),
            "action": .string(preview.record.action),
            "filter": preview.record.filter,
            "count": JSONValue(preview.record.total),
            "leftOut": JSONValue(reasons: preview.record.leftOut),
            "examples": .array(preview.examples.map { ["id": .string($0.id), "run": .string($0.runID), "state": .string($0.state)] }),
        ])
    }

    @Sendable private func start(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let identity = try context.requireIdentity()
        guard let body = try await APIBody.read(request), let token = body["token"]?.string else {
            throw Problem.parameter("token", nil, allowed: "the token of a preview")
        }
        return .json(JSONValue(try await desk.start(token, by: identity)))
    }

    @Sendable private func list(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let cursor = Cursor("bulk")
        let page = try await store.bulks(limit: ListQuery.limit(request), cursor: cursor.key(request.query("cursor")))
        return .json(["operations": .array(page.items.map { JSONValue($0) }), "next": JSONValue(cursor.text(page.next))])
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let record = try await record(context)
        guard var value = JSONValue(record).object else { preconditionFailure("a record is an object") }
        value["reasons"] = .array(
            try await store.bulkReasons(record.id).map {
                ["state": .string($0.state.rawValue), "reason": .string($0.reason), "count": JSONValue($0.count)]
            })
        return .json(.object(value))
    }

    @Sendable private func items(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let record = try await record(context)
        let states = (request.query("state") ?? "").split(separator: ",").compactMap { BulkItem.State(rawValue: String($0)) }
        let cursor = Cursor("bulk.items", filter: record.id + (request.query("state") ?? ""))
        let first = try cursor.key(request.query("cursor")).flatMap { Int($0) } ?? 0
        let limit = try ListQuery.limit(request)
        let found = try await store.bulkItems(record.id, states: states, from: first, limit: limit + 1)
        return .json([
            "items": .array(found.prefix(limit).map { JSONValue($0) }),
            "next": JSONValue(cursor.text(found.count > limit ? String(found[limit].sequence) : nil)),
        ])
    }

    @Sendable private func cancel(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let identity = try context.requireIdentity()
        return .json(JSONValue(try await desk.cancel(context.parameters.require("id"), by: identity)))
    }

    private func record(_ context: DashboardContext) async throws -> BulkRecord {
        let id = try context.parameters.require("id")
        guard let record = try await store.bulk(id) else { throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'.") }
        return record
    }
}

extension JSONValue {
    /// The most frequent first.
    init(reasons: [String: Int]) {
        self = .array(
            reasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ["reason": .string($0.key), "count": JSONValue($0.value)] })
    }

    init(_ record: BulkRecord) {
        self = [
            "id": .string(record.id),
            "state": .string(record.state.rawValue),
            "kind": .string(record.kind),
            "action": .string(record.action),
            "filter": record.state == .preview ? BulkOrder.withoutText(record.filter) : record.filter,
            "actor": .string(record.actor),
            "startedAt": JSONValue(record.startedAt),
            "endedAt": JSONValue(record.endedAt),
            "total": JSONValue(record.total),
            "done": JSONValue(record.done),
            "skipped": JSONValue(record.skipped),
            "failed": JSONValue(record.failed),
            "leftOut": JSONValue(reasons: record.leftOut),
            "stopReason": JSONValue(record.stopReason),
        ]
    }

    init(_ item: BulkItem) {
        self = [
            "number": JSONValue(item.sequence), "target": .string(item.target), "state": .string(item.state.rawValue),
            "reason": JSONValue(item.reason),
        ]
    }
}

extension APISchemas {
    private static let reasons = Schema.list(Schema.object(["reason": Schema.text, "count": Schema.count]))

    private static let record = Schema.object([
        "id": Schema.text,
        "state": Schema.one(of: BulkRecord.State.self),
        "kind": Schema.one(of: BulkOrder.Kind.self),
        "action": Schema.one(of: BulkOrder.Action.self),
        "filter": Schema.described(
            Schema.map(Schema.text), "Without what was typed into `q` and `error`; `chosen` is how many were named by `ids`."),
        "actor": Schema.text,
        "startedAt": Schema.nullable(Schema.time),
        "endedAt": Schema.nullable(Schema.time),
        "total": Schema.count,
        "done": Schema.count,
        "skipped": Schema.described(Schema.count, "Had changed since the preview, or the router refused them."),
        "failed": Schema.described(Schema.count, "Sent, and no answer came before it was no longer waited for: they may have been done."),
        "leftOut": reasons,
        "stopReason": Schema.nullable(
            Schema.described(
                Schema.text, "Why it ended before everything was done: who cancelled it, or that its starter may no longer do it.")),
    ])

    static let bulk: [String: JSONValue] = [
        "BulkOrder": order,
        "BulkStart": Schema.object(["token": Schema.described(Schema.text, "Of the preview.")]),
        "BulkPreview": Schema.object([
            "token": Schema.text,
            "expiresAt": Schema.time,
            "kind": Schema.one(of: BulkOrder.Kind.self),
            "action": Schema.one(of: BulkOrder.Action.self),
            "filter": Schema.map(Schema.text),
            "count": Schema.described(Schema.count, "How many commands will be sent."),
            "leftOut": Schema.described(reasons, "What matches and is left out, and why."),
            "examples": Schema.list(Schema.object(["id": Schema.text, "run": Schema.text, "state": Schema.text])),
        ]),
        "Bulk": record,
        "BulkDetail": Schema.extending(
            record,
            [
                "reasons": Schema.list(
                    Schema.object(["state": Schema.one(of: BulkItem.State.self), "reason": Schema.text, "count": Schema.count]))
            ]),
        "BulkItem": Schema.object([
            "number": Schema.count, "target": Schema.text, "state": Schema.one(of: BulkItem.State.self),
            "reason": Schema.nullable(Schema.text),
        ]),
    ]

    private static func idPattern(_ kind: BulkOrder.Kind) -> String {
        let run = "[0-9A-HJKMNP-TV-Z]{26}"
        return kind == .runs ? "^\(run)$" : "^\(run)\\.(0|[1-9][0-9]{0,5})$"
    }

    private static var order: JSONValue {
        func form(_ kind: BulkOrder.Kind, _ actions: [BulkOrder.Action], _ parameters: [APIParameter]) -> JSONValue {
            var filter =
                Schema.object(
                    Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.bodySchema) }), optional: Set(parameters.map(\.name))
                ).object ?? [:]
            filter["additionalProperties"] = false
            filter["required"] = nil
            var whole =
                Schema.object(
                    [
                        "kind": Schema.one(of: [kind.rawValue]), "action": Schema.one(of: actions.map(\.rawValue)),
                        "filter": .object(filter),
                        "ids": [
                            "type": "array", "minItems": 1, "maxItems": .integer(Int64(BulkOrder.longestChoice)),
                            "items": ["type": "string", "pattern": .string(idPattern(kind))],
                            "description": "Only these, of what the filter matches.",
                        ],
                    ], optional: ["filter", "ids"]
                ).object ?? [:]
            whole["additionalProperties"] = false
            return .object(whole)
        }
        return [
            "oneOf": [
                form(.runs, BulkOrder.actions(of: .runs), RunParameters.filter),
                form(.jobs, BulkOrder.actions(of: .jobs), JobParameters.filter),
            ]
        ]
    }
}
