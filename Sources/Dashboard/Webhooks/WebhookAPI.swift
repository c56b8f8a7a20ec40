import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs

/// `/api/v1/webhooks`, for admins.
struct WebhookAPI: Sendable {
    let desk: WebhookDesk

    private static let id = APIParameter.path("A webhook's id.")
    private static let delivery = APIParameter(
        name: "delivery", place: .path, kind: .text(longest: 256), description: "A delivery's id, the header `webhook-id` of its message.")

    var routes: [APIRoute] {
        [
            .get(
                "/webhooks", "listWebhooks", "webhooks", "Whom the monitor tells of ended runs", answer: Schema.ref("Webhooks"),
                role: .admin, handler: list),
            .post(
                "/webhooks", "addWebhook", "webhooks", "Adds a webhook; its secret is in this answer alone",
                details: "It is told of what happens from now on. Without `events`: \(Self.standardEvents).", body: "WebhookOrder",
                status: .created, answer: Schema.ref("WebhookWithSecret"), failures: [.conflict], role: .admin, handler: add),
            .get(
                "/webhooks/{id}", "getWebhook", "webhooks", "A webhook", parameters: [Self.id], answer: Schema.ref("Webhook"),
                failures: [.notFound], role: .admin, handler: show),
            Self.route(
                .patch, "/webhooks/{id}", "changeWebhook", "Changes what is given, and leaves the rest", body: "WebhookChange",
                status: .ok, answer: Schema.ref("Webhook"), handler: change),
            Self.route(
                .delete, "/webhooks/{id}", "removeWebhook", "Removes a webhook and the record of its deliveries", status: .ok,
                answer: Schema.object(["removed": Schema.text]), handler: remove),
            Self.route(
                .post, "/webhooks/{id}/secret", "rotateWebhookSecret",
                "Makes a new secret, shown once; the old one counts for 24 hours more",
                status: .ok, answer: Schema.ref("WebhookWithSecret"), handler: rotate),
            Self.route(
                .post, "/webhooks/{id}/test", "testWebhook", "Sends a message of type `webhook.test`", status: .accepted,
                answer: Schema.ref("WebhookDelivery"), handler: test),
            .get(
                "/webhooks/{id}/deliveries", "listWebhookDeliveries", "webhooks",
                "What a webhook was sent and what became of it, newest first",
                details: "The last \(MonitorStore.deliveriesKept) that were accepted are kept, and as many that were given up or dropped.",
                parameters: [
                    Self.id,
                    .query(
                        "state", .several(WebhookDelivery.State.allCases.map(\.rawValue)), "Only those in these states.", example: "dead"),
                    .limit, .cursor,
                ], answer: APISchemas.page("deliveries", "WebhookDelivery"), failures: [.notFound], role: .admin, handler: deliveries),
            Self.route(
                .post, "/webhooks/{id}/deliveries/{delivery}/retry", "redeliverWebhook", "Sends a message once more, with the same id",
                parameters: [Self.id, Self.delivery], status: .accepted, answer: Schema.ref("WebhookDelivery"), handler: again),
        ]
    }

    private static var standardEvents: String { WebhookEvent.standard.map(\.rawValue).sorted().joined(separator: ", ") }

    private static func route(
        _ method: HTTPRequest.Method, _ path: String, _ name: String, _ summary: String, parameters: [APIParameter] = [id],
        body: String? = nil, status: HTTPResponse.Status, answer: JSONValue, handler: @escaping APIRoute.Handler
    ) -> APIRoute {
        APIRoute(
            method: method, path: path, name: name, summary: summary, details: nil, group: "webhooks", parameters: parameters, body: body,
            isBodyRequired: body != nil, status: status, answer: answer, answerType: "application/json", failures: [.notFound, .conflict],
            role: .admin, handler: handler)
    }

    // MARK: Handlers

    @Sendable private func list(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let backlogs = try await desk.store.webhookBacklogs()
        return .json(["webhooks": .array(try await desk.store.webhooks().map { JSONValue($0, backlogs[$0.id]) })])
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        .json(try await value(desk.find(context.parameters.require("id"))))
    }

    @Sendable private func add(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let order = try Order(try await APIBody.read(request))
        guard let name = order.name else { throw Problem.parameter("name", nil, allowed: "what people call it") }
        guard let url = order.url else { throw Problem.parameter("url", nil, allowed: "where messages are posted to") }
        return try await changing(context) { identity in
            let webhook = try await desk.add(
                name: name, url: url, events: order.events ?? WebhookEvent.standard, isEnabled: order.isEnabled ?? true, by: identity)
            return try await value(webhook, withSecret: true)
        }
    }

    @Sendable private func change(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let order = try Order(try await APIBody.read(request))
        let id = try context.parameters.require("id")
        return try await changing(context) { identity in
            try await value(
                desk.change(id, name: order.name, url: order.url, events: order.events, isEnabled: order.isEnabled, by: identity))
        }
    }

    @Sendable private func remove(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        return try await changing(context) { identity in
            try await desk.remove(id, by: identity)
            return ["removed": .string(id)]
        }
    }

    @Sendable private func rotate(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        return try await changing(context) { try await value(desk.rotateSecret(id, by: $0), withSecret: true) }
    }

    @Sendable private func test(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        return try await changing(context) { JSONValue(try await desk.test(id, by: $0)) }
    }

    @Sendable private func again(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let (id, delivery) = (try context.parameters.require("id"), try context.parameters.require("delivery"))
        return try await changing(context) { JSONValue(try await desk.deliverAgain(delivery, of: id, by: $0)) }
    }

    @Sendable private func deliveries(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let webhook = try await desk.find(context.parameters.require("id"))
        let states = (request.query("state") ?? "").split(separator: ",").compactMap { WebhookDelivery.State(rawValue: String($0)) }
        let cursor = Cursor("webhook.deliveries", filter: webhook.id + (request.query("state") ?? ""))
        let before = try cursor.key(request.query("cursor")).flatMap { Int64($0) }
        let page = try await desk.store.deliveries(of: webhook.id, states: states, limit: ListQuery.limit(request), before: before)
        return .json(["deliveries": .array(page.items.map { JSONValue($0) }), "next": JSONValue(cursor.text(page.next))])
    }

    private func changing(
        _ context: DashboardContext, _ body: (Identity) async throws -> JSONValue
    ) async throws -> APIAnswer {
        let identity = try context.requireIdentity()
        do {
            return .json(try await body(identity))
        } catch let refusal as WebhookDesk.Refusal {
            var problem = refusal.parameter == nil ? Problem.conflict(refusal.message) : Problem.badRequest(refusal.message)
            if let parameter = refusal.parameter {
                problem.kind = "parameter"
                problem.members = ["parameter": .string(parameter)]
            }
            throw problem
        }
    }

    private func value(_ webhook: MonitorWebhook, withSecret: Bool = false) async throws -> JSONValue {
        let backlog = try await desk.store.webhookBacklogs()[webhook.id]
        guard withSecret, var members = JSONValue(webhook, backlog).object else { return JSONValue(webhook, backlog) }
        members["secret"] = .string(webhook.secret)
        return .object(members)
    }

    /// What a body asks for.
    private struct Order {
        var name: String?
        var url: String?
        var events: Set<WebhookEvent>?
        var isEnabled: Bool?

        init(_ body: JSONValue?) throws(Problem) {
            guard let members = body?.object else { throw .badRequest("The body is an object: name, url, events, enabled.") }
            if let other = members.keys.sorted().first(where: { !["name", "url", "events", "enabled"].contains($0) }) {
                throw .parameter(other, nil, allowed: "name, url, events and enabled alone")
            }
            name = try Self.text("name", members)
            url = try Self.text("url", members)
            if let value = members["enabled"] {
                guard case .bool(let flag) = value else { throw .parameter("enabled", value.text, allowed: "true, false") }
                isEnabled = flag
            }
            guard let value = members["events"] else { return }
            let known = WebhookEvent.allCases.map(\.rawValue).joined(separator: ", ")
            guard let names = value.array else { throw .parameter("events", value.text, allowed: "a list of \(known)") }
            var wanted: Set<WebhookEvent> = []
            for name in names {
                guard let event = name.string.flatMap(WebhookEvent.init(rawValue:)) else {
                    throw .parameter("events", name.text, allowed: "a list of \(known)")
                }
                wanted.insert(event)
            }
            events = wanted
        }

        private static func text(_ key: String, _ members: [String: JSONValue]) throws(Problem) -> String? {
            guard let value = members[key] else { return nil }
            guard let text = value.string else { throw .parameter(key, value.text, allowed: "text") }
            return text
        }
    }
}

extension JSONValue {
    init(_ webhook: MonitorWebhook, _ backlog: WebhookBacklog?) {
        self = [
            "id": .string(webhook.id),
            "name": .string(webhook.name),
            "url": .string(webhook.url),
            "events": .array(WebhookEvent.allCases.filter(webhook.events.contains).map { .string($0.rawValue) }),
            "enabled": .bool(webhook.isEnabled),
            "state": .string(webhook.condition.rawValue),
            "disabledBecause": JSONValue(webhook.disabledBecause),
            "previousSecretUntil": JSONValue(webhook.previousSecretUntil),
            "createdBy": .string(webhook.createdBy),
            "createdAt": JSONValue(webhook.createdAt),
            "failingSince": JSONValue(webhook.failingSince),
            "triedAt": JSONValue(webhook.triedAt),
            "delivered": JSONValue(webhook.delivered),
            "failedTries": JSONValue(webhook.failed),
            "dead": JSONValue(webhook.dead),
            "waiting": JSONValue(backlog?.waiting ?? 0),
            "oldestWaitingAt": JSONValue(backlog?.oldest),
        ]
    }

    init(_ delivery: WebhookDelivery) {
        self = [
            "id": .string(delivery.id),
            "webhook": .string(delivery.webhook),
            "event": .string(delivery.event),
            "run": JSONValue(delivery.run),
            "job": JSONValue(delivery.job),
            "state": .string(delivery.state.rawValue),
            "attempt": JSONValue(delivery.attempt),
            "createdAt": JSONValue(delivery.createdAt),
            "triedAt": JSONValue(delivery.triedAt),
            "dueAt": JSONValue(delivery.dueAt),
            "status": JSONValue(delivery.status),
            "duration": delivery.milliseconds.map { .number(Double($0) / 1000) } ?? .null,
            "problem": JSONValue(delivery.problem),
            "body": .string(delivery.body),
        ]
    }
}

extension APISchemas {
    private static let webhook = Schema.object([
        "id": Schema.text,
        "name": Schema.text,
        "url": Schema.text,
        "events": Schema.list(Schema.one(of: WebhookEvent.self)),
        "enabled": Schema.flag,
        "state": Schema.described(
            Schema.one(of: MonitorWebhook.Condition.self),
            "failing: the last tries failed; disabled: by an admin; stopped: by the monitor, `disabledBecause` says why."),
        "disabledBecause": Schema.nullable(Schema.text),
        "previousSecretUntil": Schema.described(Schema.nullable(Schema.time), "Until then messages are signed with the old secret, too."),
        "createdBy": Schema.text,
        "createdAt": Schema.time,
        "failingSince": Schema.nullable(Schema.time),
        "triedAt": Schema.nullable(Schema.time),
        "delivered": Schema.described(Schema.count, "Messages that were accepted, since the webhook was made."),
        "failedTries": Schema.count,
        "dead": Schema.described(Schema.count, "Messages that were given up."),
        "waiting": Schema.described(Schema.count, "Messages that are on their way or will be tried again."),
        "oldestWaitingAt": Schema.nullable(Schema.time),
    ])

    private static let wishes: [String: JSONValue] = [
        "name": ["type": "string", "minLength": 1, "maxLength": .integer(Int64(WebhookRules.longestName))],
        "url": ["type": "string", "maxLength": .integer(Int64(WebhookRules.longestURL))],
        "events": [
            "type": "array", "minItems": 1, "items": Schema.one(of: WebhookEvent.self),
        ],
        "enabled": Schema.flag,
    ]

    static let webhooks: [String: JSONValue] = [
        "Webhooks": Schema.object(["webhooks": Schema.list(Schema.ref("Webhook"))]),
        "Webhook": webhook,
        "WebhookWithSecret": Schema.extending(
            webhook, ["secret": Schema.described(Schema.text, "What signatures are checked with. It is shown this once.")]),
        "WebhookOrder": closed(Schema.object(wishes, optional: ["events", "enabled"])),
        "WebhookChange": closed(Schema.object(wishes, optional: ["name", "url", "events", "enabled"])),
        "WebhookDelivery": Schema.object([
            "id": Schema.described(Schema.text, "The header `webhook-id`, the same for every try."),
            "webhook": Schema.text,
            "event": Schema.described(Schema.text, "One of the webhook's events, or webhook.test."),
            "run": Schema.nullable(Schema.text),
            "job": Schema.nullable(Schema.text),
            "state": Schema.one(of: WebhookDelivery.State.self),
            "attempt": Schema.described(Schema.count, "Tries so far."),
            "createdAt": Schema.time,
            "triedAt": Schema.nullable(Schema.time),
            "dueAt": Schema.described(Schema.nullable(Schema.time), "When the next try is due."),
            "status": Schema.described(Schema.nullable(Schema.integer), "HTTP status of the last answer."),
            "duration": Schema.described(Schema.nullable(Schema.number), "Seconds that the last try took."),
            "problem": Schema.nullable(Schema.text),
            "body": Schema.described(Schema.text, "The message as it is sent."),
        ]),
    ]

    private static func closed(_ schema: JSONValue) -> JSONValue {
        var members = schema.object ?? [:]
        members["additionalProperties"] = false
        return .object(members)
    }
}
