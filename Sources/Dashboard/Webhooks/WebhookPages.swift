import Foundation
import Hummingbird
import JobStore
import Jobs

private struct EventChoice {
    var name: String
    var words: String
    var isChosen: Bool
}

private struct WebhooksPage {
    struct Row {
        var id: String
        var name: String
        var host: String
        var isPlain: Bool
        var mark: String
        var events: [String]
        var delivered: String
        var waiting: String
        var dead: String
        var tried: String
    }

    struct Draft {
        var name = ""
        var url = ""
    }

    var webhooks: [Row]
    var events: [EventChoice]
    var draft: Draft
    var message: String?
    var notice: String?
}

private struct WebhookPage {
    struct Delivery {
        var id: String
        var at: String
        var event: String
        var run: String?
        var shortRun: String?
        var job: String?
        var mark: String
        var tries: String
        var status: String?
        var problem: String?
        var took: String
        var next: String?
        var body: String
        var canAgain: Bool
    }

    var id: String
    var name: String
    var url: String
    var mark: String
    var because: String?
    var isEnabled: Bool
    var isPlain: Bool
    var events: [EventChoice]
    var secret: String?
    var isRotated: Bool
    var oldSecretUntil: String?
    var created: String
    var createdBy: String
    var tried: String
    var counts: [String]
    var deliveries: [Delivery]
    var tabs: [PageTab]
    var isFiltered: Bool
    var pager: PagerModel
    var message: String?
    var notice: String?
}

/// Whom the monitor tells of ended runs, for admins.
struct WebhookPages: Sendable {
    let desk: WebhookDesk
    let pages: PageController

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/webhooks", use: showAll)
        router.post("/webhooks", use: add)
        router.get("/webhooks/:id", use: show)
        router.post("/webhooks/:id", use: save)
        router.post("/webhooks/:id/secret", use: rotate)
        router.post("/webhooks/:id/remove", use: remove)
        router.post("/webhooks/:id/enable") { try await act("enable", $0, $1) { _ = try await desk.setEnabled($0, true, by: $1) } }
        router.post("/webhooks/:id/disable") { try await act("disable", $0, $1) { _ = try await desk.setEnabled($0, false, by: $1) } }
        router.post("/webhooks/:id/test") { try await act("test", $0, $1) { _ = try await desk.test($0, by: $1) } }
        router.post("/webhooks/:id/deliveries/:delivery/again", use: again)
    }

    // MARK: All of them

    @Sendable private func showAll(_ request: Request, _ context: DashboardContext) async throws -> Response {
        try await list(request, context, notice: request.query("done") == "remove" ? "The webhook is removed." : nil)
    }

    @Sendable private func add(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        do {
            let webhook = try await desk.add(
                name: context.form["name"] ?? "", url: context.form["url"] ?? "", events: Self.events(context), by: identity)
            // Not by way of a redirect: the secret is on this one answer alone.
            return try await page(of: webhook, request, context, secret: webhook.secret)
        } catch let refusal as WebhookDesk.Refusal {
            return try await list(request, context, message: refusal.message)
        }
    }

    private func list(
        _ request: Request, _ context: DashboardContext, message: String? = nil, notice: String? = nil
    ) async throws -> Response {
        let backlogs = try await desk.store.webhookBacklogs()
        let rows = try await desk.store.webhooks().map { webhook in
            WebhooksPage.Row(
                id: webhook.id, name: webhook.name, host: WebhookDesk.host(webhook.url), isPlain: Self.isPlain(webhook),
                mark: Self.mark(webhook), events: WebhookEvent.allCases.filter(webhook.events.contains).map(\.rawValue),
                delivered: Display.number(webhook.delivered), waiting: Display.number(backlogs[webhook.id]?.waiting ?? 0),
                dead: Display.number(webhook.dead), tried: Markup.time(webhook.triedAt, isRelative: true))
        }
        let isNew = message == nil
        let model = WebhooksPage(
            webhooks: rows, events: Self.choices(isNew ? WebhookEvent.standard : Self.events(context)),
            draft: isNew ? .init() : .init(name: context.form["name"] ?? "", url: context.form["url"] ?? ""), message: message,
            notice: notice)
        return try pages.pages.response(
            "webhooks", model, title: "Webhooks", context, frame: await pages.frameWithoutLedger("/webhooks", request),
            status: message == nil ? .ok : .unprocessableContent)
    }

    // MARK: One of them

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let webhook = try await desk.find(context.parameters.require("id"))
        return try await page(of: webhook, request, context, notice: Self.notice(request.query("done")))
    }

    @Sendable private func save(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        do {
            _ = try await desk.change(
                id, name: context.form["name"] ?? "", url: context.form["url"] ?? "", events: Self.events(context), by: identity)
            return .redirect(to: "/webhooks/\(id)?done=save")
        } catch let refusal as WebhookDesk.Refusal {
            return try await page(of: desk.find(id), request, context, message: refusal.message)
        }
    }

    @Sendable private func rotate(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        do {
            let webhook = try await desk.rotateSecret(id, by: identity)
            return try await page(of: webhook, request, context, secret: webhook.secret)
        } catch let refusal as WebhookDesk.Refusal {
            throw Problem.conflict(refusal.message)
        }
    }

    @Sendable private func remove(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        try await desk.remove(context.parameters.require("id"), by: identity)
        return .redirect(to: "/webhooks?done=remove")
    }

    @Sendable private func again(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let delivery = try context.parameters.require("delivery")
        return try await act("again", request, context) { _ = try await desk.deliverAgain(delivery, of: $0, by: $1) }
    }

    private func act(
        _ action: String, _ request: Request, _ context: DashboardContext, _ body: (String, Identity) async throws -> Void
    ) async throws -> Response {
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        try await body(id, identity)
        return .redirect(to: "/webhooks/\(id)?done=\(action)")
    }

    private func page(
        of webhook: MonitorWebhook, _ request: Request, _ context: DashboardContext, secret: String? = nil, message: String? = nil,
        notice: String? = nil
    ) async throws -> Response {
        let now = Date()
        let wanted = request.query("state").flatMap(WebhookDelivery.State.init(rawValue:))
        let before = request.query("cursor").flatMap { Int64($0) }
        let page = try await desk.store.deliveries(of: webhook.id, states: wanted.map { [$0] } ?? [], limit: 50, before: before)
        let waiting = try await desk.store.webhookBacklogs()[webhook.id]?.waiting ?? 0
        let address = "/webhooks/\(webhook.id)"
        let tabs = [(nil, "All")] + Self.states.map { ($0 as WebhookDelivery.State?, Self.word($0)) }
        let old = webhook.secrets(at: now).count > 1 ? webhook.previousSecretUntil : nil
        let model = WebhookPage(
            id: webhook.id, name: webhook.name, url: message == nil ? webhook.url : context.form["url"] ?? webhook.url,
            mark: Self.mark(webhook), because: webhook.disabledBecause, isEnabled: webhook.isEnabled, isPlain: Self.isPlain(webhook),
            events: Self.choices(message == nil ? webhook.events : Self.events(context)), secret: secret, isRotated: old != nil,
            oldSecretUntil: old.map { Markup.time($0) }, created: Markup.time(webhook.createdAt), createdBy: webhook.createdBy,
            tried: Markup.time(webhook.triedAt, isRelative: true),
            counts: [
                "\(Display.number(webhook.delivered)) delivered", "\(Display.number(waiting)) waiting",
                "\(Display.number(webhook.failed)) tries failed", "\(Display.number(webhook.dead)) given up",
            ],
            deliveries: page.items.map { Self.row($0, of: webhook) },
            tabs: tabs.map { state, title in
                .init(
                    title: title, url: state.map { "\(address)?state=\($0.rawValue)#deliveries" } ?? "\(address)#deliveries",
                    isCurrent: state == wanted)
            },
            isFiltered: wanted != nil,
            pager: PagerModel(PagerModel.path(address, [("state", wanted?.rawValue)]), request.query("cursor"), page.next),
            message: message, notice: notice)
        return try pages.pages.response(
            "webhook", model, title: "Webhook \(webhook.name)", context, frame: await pages.frameWithoutLedger("/webhooks", request),
            status: message == nil ? .ok : .unprocessableContent)
    }

    private static func row(_ delivery: WebhookDelivery, of webhook: MonitorWebhook) -> WebhookPage.Delivery {
        let next = delivery.state.isOver ? nil : delivery.dueAt
        return WebhookPage.Delivery(
            id: delivery.id, at: Markup.time(delivery.createdAt), event: delivery.event, run: delivery.run,
            shortRun: delivery.run.map { Display.short($0) }, job: delivery.job, mark: mark(delivery.state),
            tries: String(delivery.attempt),
            status: delivery.status.map(String.init), problem: delivery.problem,
            took: delivery.milliseconds.map { Display.duration(Double($0) / 1000) } ?? "",
            next: next.map { Markup.time($0) }, body: delivery.body,
            canAgain: delivery.state.isOver && webhook.isEnabled)
    }

    // MARK: Words

    private static let states: [WebhookDelivery.State] = [.delivered, .queued, .retrying, .dead, .cancelled]

    private static func word(_ state: WebhookDelivery.State) -> String {
        switch state {
        case .queued: "on its way"
        case .retrying: "tried again"
        case .delivered: "delivered"
        case .dead: "given up"
        case .cancelled: "dropped"
        }
    }

    private static func mark(_ state: WebhookDelivery.State) -> String {
        let like =
            switch state {
            case .queued: "ready"
            case .retrying: "retrying"
            case .delivered: "succeeded"
            case .dead: "failed"
            case .cancelled: "cancelled"
            }
        return StateMark.html(word(state), like: like)
    }

    private static func mark(_ webhook: MonitorWebhook) -> String {
        switch webhook.condition {
        case .ok: StateMark.html("on", like: "ok")
        case .failing: StateMark.html("failing", like: "warning")
        case .disabled: StateMark.html("off", like: "paused")
        case .stopped: StateMark.html("off", like: "error")
        }
    }

    /// Readable for whoever is on the way.
    private static func isPlain(_ webhook: MonitorWebhook) -> Bool { !webhook.url.lowercased().hasPrefix("https:") }

    private static func choices(_ chosen: Set<WebhookEvent>) -> [EventChoice] {
        WebhookEvent.allCases.map { EventChoice(name: $0.rawValue, words: words($0), isChosen: chosen.contains($0)) }
    }

    private static func words(_ event: WebhookEvent) -> String {
        switch event {
        case .runSucceeded: "all jobs have ended well"
        case .runFailed: "a job failed or is dead"
        case .runCancelled: "somebody cancelled it"
        case .runDeclined: "no service wanted the images"
        case .jobDead: "only an operator brings it back"
        }
    }

    private static func events(_ context: DashboardContext) -> Set<WebhookEvent> {
        Set(WebhookEvent.allCases.filter { context.form["event-\($0.rawValue)"] != nil })
    }

    /// Only our own words: the address is anybody's.
    private static func notice(_ done: String?) -> String? {
        switch done {
        case "save": "The changes are saved. They count from the next message on."
        case "enable": "The webhook is enabled. It is told of what happens from now on."
        case "disable": "The webhook is disabled. What waits for it is dropped; what happens until it is enabled again is not told."
        case "test": "A test is on its way: it appears among the deliveries below."
        case "again": "The message is on its way once more, with the same id."
        default: nil
        }
    }
}
