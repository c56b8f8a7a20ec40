package import Foundation
import GRDB

/// What other programs can be told of. The names are those of the ledger's facts.
package enum WebhookEvent: String, Sendable, Hashable, CaseIterable {
    case runSucceeded = "run.succeeded"
    /// A job of the run failed or is dead, or the run could not be planned.
    case runFailed = "run.failed"
    case runCancelled = "run.cancelled"
    /// No service wanted the images: there was nothing to do.
    case runDeclined = "run.declined"
    /// Workers died with the job, or it cannot succeed: only an operator brings it back.
    case jobDead = "job.dead"

    /// What a webhook is told unless it says otherwise.
    package static let standard: Set<WebhookEvent> = [.runSucceeded, .runFailed, .runCancelled, .jobDead]
}

/// A program that is told how runs and jobs have ended.
package struct MonitorWebhook: Sendable, Hashable {
    /// Names it in addresses and messages.
    package var id: String
    /// As people call it; unique.
    package var name: String
    package var url: String
    package var events: Set<WebhookEvent>
    package var isEnabled: Bool
    /// Why the monitor itself has disabled it: a sentence.
    package var disabledBecause: String?
    /// `whsec_` and base 64.
    package var secret: String
    /// The one before. Messages are signed with both for a time.
    package var previousSecret: String?
    package var previousSecretUntil: Date?
    package var createdBy: String
    package var createdAt: Date
    /// Every fact of the ledger up to this one has been handed to the broker, or was none of this webhook's business.
    package var fact: Int64
    /// Tries since the last success.
    package var failures: Int
    package var failingSince: Date?
    /// Since it was made: messages that were accepted, tries that were not, messages that were given up.
    package var delivered: Int
    package var failed: Int
    package var dead: Int
    package var triedAt: Date?

    package init(
        id: String, name: String, url: String, events: Set<WebhookEvent>, isEnabled: Bool = true, secret: String, createdBy: String,
        createdAt: Date, fact: Int64
    ) {
        self.id = id
        self.name = name
        self.url = url
        self.events = events
        self.isEnabled = isEnabled
        self.secret = secret
        self.createdBy = createdBy
        self.createdAt = createdAt
        self.fact = fact
        (failures, delivered, failed, dead) = (0, 0, 0, 0)
    }

    /// What messages are signed with now, the newest first.
    package func secrets(at now: Date) -> [String] {
        guard let previousSecret, let previousSecretUntil, now < previousSecretUntil else { return [secret] }
        return [secret, previousSecret]
    }
}

/// What waits to be told.
package struct WebhookBacklog: Sendable, Hashable {
    package var waiting: Int
    package var oldest: Date?
}

extension MonitorSchema {
    static let webhooks = """
        CREATE TABLE webhook (
            id            TEXT PRIMARY KEY,
            name          TEXT NOT NULL UNIQUE COLLATE NOCASE,
            url           TEXT NOT NULL,
            events        TEXT NOT NULL,      -- with commas
            is_enabled    INTEGER NOT NULL,
            disabled_because TEXT,            -- when the monitor did it
            secret        TEXT NOT NULL,      -- as it is: signing needs it
            previous_secret TEXT,
            previous_until REAL,
            created_by    TEXT NOT NULL,
            created_at    REAL NOT NULL,
            fact          INTEGER NOT NULL,   -- handed to the broker up to this fact of the ledger
            failures      INTEGER NOT NULL DEFAULT 0,   -- since the last success
            failing_since REAL,
            delivered     INTEGER NOT NULL DEFAULT 0,
            failed        INTEGER NOT NULL DEFAULT 0,
            dead          INTEGER NOT NULL DEFAULT 0,
            tried_at      REAL
        ) WITHOUT ROWID;

        CREATE TABLE webhook_delivery (
            seq           INTEGER PRIMARY KEY AUTOINCREMENT,
            id            TEXT NOT NULL UNIQUE,
            webhook       TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
            event         TEXT NOT NULL,
            run           TEXT,
            job           TEXT,
            body          TEXT NOT NULL,      -- as it is sent
            state         TEXT NOT NULL,
            round         INTEGER NOT NULL,   -- 1, and one more each time that somebody wants it delivered again
            attempt       INTEGER NOT NULL,   -- tries of the round
            created_at    REAL NOT NULL,
            due_at        REAL,               -- of the next try; NULL when there is none
            tried_at      REAL,
            status        INTEGER,            -- of the last answer
            milliseconds  INTEGER,
            problem       TEXT
        );
        CREATE INDEX webhook_delivery_of ON webhook_delivery (webhook, seq);
        CREATE INDEX webhook_delivery_due ON webhook_delivery (due_at, webhook, created_at) WHERE due_at IS NOT NULL;
        """
}

extension MonitorStore {
    /// By name.
    package func webhooks() async throws -> [MonitorWebhook] {
        try await read { db in try Row.fetchAll(db, sql: "SELECT * FROM webhook ORDER BY name").map(MonitorWebhook.init) }
    }

    package func webhook(_ id: String) async throws -> MonitorWebhook? {
        try await read { db in try Self.webhook(id, db) }
    }

    static func webhook(_ id: String, _ db: Database) throws -> MonitorWebhook? {
        try Row.fetchOne(db, sql: "SELECT * FROM webhook WHERE id = ?", arguments: [id]).map(MonitorWebhook.init)
    }

    /// - Throws: `MonitorStoreError` `.exists`.
    package func addWebhook(_ webhook: MonitorWebhook) async throws {
        try await write { db in
            try Self.checkName(webhook.name, of: webhook.id, db)
            try db.execute(
                sql: """
                    INSERT INTO webhook (id, name, url, events, is_enabled, secret, created_by, created_at, fact)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    webhook.id, webhook.name, webhook.url, Self.text(webhook.events), webhook.isEnabled, webhook.secret,
                    webhook.createdBy, webhook.createdAt.timeIntervalSince1970, webhook.fact,
                ])
        }
    }

    /// - Returns: how it is then.
    /// - Throws: `MonitorStoreError` `.missing`, `.exists`.
    package func changeWebhook(_ id: String, name: String, url: String, events: Set<WebhookEvent>) async throws -> MonitorWebhook {
        try await changing(id) { db, webhook in
            try Self.checkName(name, of: id, db)
            try db.execute(
                sql: "UPDATE webhook SET name = ?, url = ?, events = ? WHERE id = ?", arguments: [name, url, Self.text(events), id])
            // Of another address nobody knows yet whether it answers.
            if url != webhook.url {
                try db.execute(sql: "UPDATE webhook SET failures = 0, failing_since = NULL WHERE id = ?", arguments: [id])
            }
        }
    }

    /// - Parameter fact: where it begins again. What happened while it was disabled is not told.
    package func enableWebhook(_ id: String, from fact: Int64) async throws -> MonitorWebhook {
        try await changing(id) { db, webhook in
            guard !webhook.isEnabled else { return }
            try db.execute(
                sql: """
                    UPDATE webhook SET is_enabled = 1, disabled_because = NULL, fact = ?, failures = 0, failing_since = NULL WHERE id = ?
                    """, arguments: [fact, id])
        }
    }

    /// - Parameter reason: why the monitor itself does it.
    package func disableWebhook(_ id: String, because reason: String? = nil) async throws -> MonitorWebhook {
        try await changing(id) { db, _ in
            try db.execute(sql: "UPDATE webhook SET is_enabled = 0, disabled_because = ? WHERE id = ?", arguments: [reason, id])
        }
    }

    /// - Parameter until: how long messages are signed with the old one, too.
    package func setWebhookSecret(_ id: String, _ secret: String, keepingOldUntil until: Date) async throws -> MonitorWebhook {
        try await changing(id) { db, webhook in
            try db.execute(
                sql: "UPDATE webhook SET secret = ?, previous_secret = ?, previous_until = ? WHERE id = ?",
                arguments: [secret, webhook.secret, until.timeIntervalSince1970, id])
        }
    }

    /// Its deliveries go with it.
    package func removeWebhook(_ id: String) async throws -> MonitorWebhook {
        try await write { db in
            guard let webhook = try Self.webhook(id, db) else { throw Self.noWebhook(id) }
            try db.execute(sql: "DELETE FROM webhook WHERE id = ?", arguments: [id])
            return webhook
        }
    }

    /// Up to which fact everything has been handed to the broker.
    package func moveWebhook(_ id: String, to fact: Int64) async throws {
        try await write { db in try db.execute(sql: "UPDATE webhook SET fact = ? WHERE id = ?", arguments: [fact, id]) }
    }

    private func changing(
        _ id: String, _ body: @escaping @Sendable (Database, MonitorWebhook) throws -> Void
    ) async throws -> MonitorWebhook {
        try await write { db in
            guard let webhook = try Self.webhook(id, db) else { throw Self.noWebhook(id) }
            try body(db, webhook)
            return try Self.webhook(id, db) ?? webhook
        }
    }

    static func noWebhook(_ id: String) -> MonitorStoreError {
        MonitorStoreError(code: .missing, message: "There is no webhook '\(id.prefix(60))'.")
    }

    private static func checkName(_ name: String, of id: String, _ db: Database) throws {
        let taken = try Row.fetchOne(db, sql: "SELECT 1 FROM webhook WHERE name = ? AND id <> ?", arguments: [name, id]) != nil
        guard !taken else { throw MonitorStoreError(code: .exists, message: "There is a webhook '\(name)' already.") }
    }

    private static func text(_ events: Set<WebhookEvent>) -> String {
        WebhookEvent.allCases.filter(events.contains).map(\.rawValue).joined(separator: ",")
    }
}

extension MonitorWebhook {
    fileprivate init(_ row: Row) {
        func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
        let events = (row["events"] as String).split(separator: ",").compactMap { WebhookEvent(rawValue: String($0)) }
        self.init(
            id: row["id"], name: row["name"], url: row["url"], events: Set(events), isEnabled: row["is_enabled"], secret: row["secret"],
            createdBy: row["created_by"], createdAt: Date(timeIntervalSince1970: row["created_at"]), fact: row["fact"])
        disabledBecause = row["disabled_because"]
        previousSecret = row["previous_secret"]
        previousSecretUntil = date("previous_until")
        failures = row["failures"]
        failingSince = date("failing_since")
        delivered = row["delivered"]
        failed = row["failed"]
        dead = row["dead"]
        triedAt = date("tried_at")
    }
}
