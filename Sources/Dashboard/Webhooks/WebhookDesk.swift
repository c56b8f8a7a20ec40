import Accounts
import Foundation
package import JobStore
import Jobs
import Logging
package import Pipeline

/// What admins do with webhooks, on the page or through the API. Each thing that is done is in the audit.
struct WebhookDesk: Sendable {
    /// What was asked for cannot be.
    struct Refusal: Error {
        /// Which part of it; nil when it is the whole.
        var parameter: String?
        var message: String
    }

    /// For how long messages are signed with the old secret, too.
    static let rotation: TimeInterval = 24 * 3600

    let store: MonitorStore
    let ledger: LedgerReader
    /// nil where there is no broker to hand anything to.
    let sender: (any WebhookSender)?
    let address: String?
    let logger: Logger

    func find(_ id: String) async throws -> MonitorWebhook {
        guard let webhook = try await store.webhook(id) else { throw Problem.notFound("There is no webhook '\(id.prefix(60))'.") }
        return webhook
    }

    /// It begins with what happens from now on.
    func add(
        name: String, url: String, events: Set<WebhookEvent>, isEnabled: Bool = true, by identity: Identity
    ) async throws -> MonitorWebhook {
        let (name, url) = try check(name, url, events)
        guard try await store.webhooks().count < WebhookRules.most else {
            throw Refusal(message: "There are \(WebhookRules.most) webhooks already: remove one first.")
        }
        let now = Date()
        let webhook = MonitorWebhook(
            id: "wh\(SecretText.make(length: 10))", name: name, url: url, events: events, isEnabled: isEnabled, secret: Self.makeSecret(),
            createdBy: identity.actor, createdAt: now, place: try await newestPlace(at: now))
        try await taking { try await store.addWebhook(webhook, audit: entry("add-webhook", webhook, identity, Self.detail(webhook))) }
        return webhook
    }

    func change(
        _ id: String, name: String?, url: String?, events: Set<WebhookEvent>?, isEnabled: Bool? = nil, by identity: Identity
    ) async throws -> MonitorWebhook {
        let old = try await find(id)
        let (name, url) = try check(name ?? old.name, url ?? old.url, events ?? old.events)
        let place = try await newestPlace(at: Date())
        var new = old
        (new.name, new.url) = (name, url)
        if let events { new.since = Dictionary(uniqueKeysWithValues: events.map { ($0, old.since[$0] ?? place.sequence) }) }
        var detail = Self.detail(new)
        detail["addressChanged"] = .bool(url != old.url)
        let audit = entry("change-webhook", new, identity, detail)
        let webhook = try await taking {
            try await store.changeWebhook(id, name: name, url: url, events: new.events, from: place.sequence, audit: audit)
        }
        guard let isEnabled, isEnabled != webhook.isEnabled else { return webhook }
        return try await setEnabled(id, isEnabled, by: identity)
    }

    func setEnabled(_ id: String, _ isEnabled: Bool, by identity: Identity) async throws -> MonitorWebhook {
        let audit = entry(isEnabled ? "enable-webhook" : "disable-webhook", try await find(id), identity)
        let place = try await newestPlace(at: Date())
        return try await taking {
            isEnabled ? try await store.enableWebhook(id, from: place, audit: audit) : try await store.disableWebhook(id, audit: audit)
        }
    }

    func rotateSecret(_ id: String, by identity: Identity) async throws -> MonitorWebhook {
        let audit = entry("rotate-webhook-secret", try await find(id), identity)
        let now = Date()
        return try await taking {
            try await store.setWebhookSecret(
                id, Self.makeSecret(), keepingOldUntil: now.addingTimeInterval(Self.rotation), at: now, audit: audit)
        }
    }

    func remove(_ id: String, by identity: Identity) async throws {
        let audit = entry("remove-webhook", try await find(id), identity)
        try await taking { try await store.removeWebhook(id, audit: audit) }
    }

    /// - Returns: what is on its way.
    func test(_ id: String, by identity: Identity) async throws -> WebhookDelivery {
        let webhook = try await find(id)
        try checkEnabled(webhook)
        let now = Date()
        let delivery = WebhookDelivery(
            id: "\(id)_test_\(SecretText.make(length: 10))", webhook: id, event: WebhookDocument.testEvent,
            body: WebhookDocument.test(webhook, address: address, at: now).text, createdAt: now)
        try await store.queueDeliveries(
            [delivery], audit: entry("test-webhook", webhook, identity, ["delivery": .string(delivery.id)]))
        await send(delivery)
        return delivery
    }

    func deliverAgain(_ delivery: String, of id: String, by identity: Identity) async throws -> WebhookDelivery {
        let webhook = try await find(id)
        try checkEnabled(webhook)
        guard let old = try await store.delivery(delivery), old.webhook == id else {
            throw Problem.notFound("The webhook '\(webhook.name)' has no delivery '\(delivery.prefix(120))'.")
        }
        let audit = entry("redeliver-webhook", webhook, identity, ["delivery": .string(delivery)])
        guard let again = try await store.deliverAgain(delivery, of: id, at: Date(), audit: audit) else {
            throw Problem.conflict("The message is on its way already, or the webhook has just been disabled.")
        }
        await send(again)
        return again
    }

    /// It is on record: when the broker is away, it is sent once it is back.
    private func send(_ delivery: WebhookDelivery) async {
        do {
            try await sender?.send(WebhookMessage(delivery))
        } catch {
            logger.debug("A webhook's message waits for the broker", metadata: ["error": "\(error)"])
        }
    }

    // MARK: -

    private func checkEnabled(_ webhook: MonitorWebhook) throws(Problem) {
        guard webhook.isEnabled else { throw .conflict("The webhook '\(webhook.name)' is disabled: enable it first.") }
    }

    private func check(_ name: String, _ url: String, _ events: Set<WebhookEvent>) throws(Refusal) -> (name: String, url: String) {
        let name = name.trimmingCharacters(in: .whitespaces)
        let url = url.trimmingCharacters(in: .whitespaces)
        if let problem = WebhookRules.problem(name: name) { throw Refusal(parameter: "name", message: problem) }
        if let problem = WebhookRules.problem(url: url) { throw Refusal(parameter: "url", message: problem) }
        guard !events.isEmpty else { throw Refusal(parameter: "events", message: "A webhook is told of at least one kind of event.") }
        return (name, url)
    }

    /// Before the router's first start there is nothing that could have happened.
    private func newestPlace(at now: Date) async throws -> LedgerPlace {
        do {
            return try await ledger.newestPlace(at: now)
        } catch let error as LedgerReaderError where [.missing, .unmigrated].contains(error.code) {
            return LedgerPlace(sequence: 0, at: now)
        }
    }

    private func taking<Value>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as MonitorStoreError where error.code == .missing {
            throw Problem.notFound(error.message)
        } catch let error as MonitorStoreError where error.code == .exists {
            throw Refusal(parameter: "name", message: error.message)
        } catch let error as MonitorStoreError where error.code == .tooSoon {
            throw Refusal(message: error.message)
        }
    }

    private func entry(
        _ action: String, _ webhook: MonitorWebhook, _ identity: Identity, _ detail: [String: JSONValue] = [:]
    ) -> AuditEntry {
        var detail = detail
        detail["name"] = .string(webhook.name)
        return identity.entry(action, .init("webhook", webhook.id), detail: .object(detail))
    }

    /// Not the address: what comes after the host may be a secret of the receiver's.
    private static func detail(_ webhook: MonitorWebhook) -> [String: JSONValue] {
        [
            "host": .string(host(webhook.url)),
            "events": .string(webhook.events.map(\.rawValue).sorted().joined(separator: " ")),
        ]
    }

    static func host(_ url: String) -> String { URLComponents(string: url)?.host ?? "" }

    private static func makeSecret() -> String { "whsec_" + Data(SecretText.bytes(32)).base64EncodedString() }
}

extension WebhookMessage {
    /// The delivery's next try.
    package init(_ delivery: WebhookDelivery) {
        self.init(
            id: delivery.id, webhook: delivery.webhook, round: delivery.round, attempt: delivery.attempt + 1, event: delivery.event,
            body: delivery.body)
    }
}

extension MonitorWebhook {
    /// How it goes with it, in one word.
    enum Condition: String, CaseIterable {
        case ok
        /// The last tries failed.
        case failing
        case disabled
        /// By the monitor itself.
        case stopped
    }

    var condition: Condition {
        if !isEnabled { return disabledBecause == nil ? .disabled : .stopped }
        return failures >= WebhookRules.manyFailures ? .failing : .ok
    }

    /// What people should know, at the head of every page. Those who see it may not be admins: no address in it.
    var alarm: PageFrame.Alarm? {
        switch condition {
        case .ok, .disabled: nil
        case .failing:
            PageFrame.Alarm(
                isError: false, text: "Webhook \(name) accepts nothing: its messages wait and are tried again.", url: "/webhooks/\(id)",
                since: failingSince)
        case .stopped:
            PageFrame.Alarm(
                isError: true, text: "Webhook \(name) is disabled. \(disabledBecause ?? "")", url: "/webhooks/\(id)", since: triedAt)
        }
    }
}
