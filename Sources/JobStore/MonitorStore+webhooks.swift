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
    /// What it is told of, and after which fact of the ledger each of that begins.
    package var since: [WebhookEvent: Int64]
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
    /// Every fact of the ledger up to here has been handed to the broker, or was none of this webhook's business.
    package var place: LedgerPlace
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
        createdAt: Date, place: LedgerPlace
    ) {
        self.id = id
        self.name = name
        self.url = url
        since = Dictionary(uniqueKeysWithValues: events.map { ($0, place.sequence) })
        self.isEnabled = isEnabled
        self.secret = secret
        self.createdBy = createdBy
        self.createdAt = createdAt
        self.place = place
        (failures, delivered, failed, dead) = (0, 0, 0, 0)
    }

    package var events: Set<WebhookEvent> { Set(since.keys) }

    /// Whether it is to be told of this.
    package func wants(_ ending: LedgerEnding) -> Bool {
        guard ending.sequence > place.sequence, let since = since[ending.event] else { return false }
        return ending.sequence > since
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
            events        TEXT NOT NULL,      -- event@fact, with commas: told of from after that fact on
            is_enabled    INTEGER NOT NULL,
            disabled_because TEXT,            -- when the monitor did it
            secret        TEXT NOT NULL,      -- as it is: signing needs it
            previous_secret TEXT,
            previous_until REAL,
            created_by    TEXT NOT NULL,
            created_at    REAL NOT NULL,
            fact          INTEGER NOT NULL,   -- handed to the broker up to this fact of the ledger
            fact_at       REAL NOT NULL,      -- when that fact was, by which another ledger is noticed
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
            ended_at      REAL,               -- NULL as long as it waits
            tried_at      REAL,
            status        INTEGER,            -- of the last answer
            milliseconds  INTEGER,
            problem       TEXT
        );
        CREATE INDEX webhook_delivery_of ON webhook_delivery (webhook, seq);
        CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook, due_at, created_at) WHERE due_at IS NOT NULL;
        CREATE INDEX webhook_delivery_good ON webhook_delivery (webhook, ended_at) WHERE state = 'delivered';
        CREATE INDEX webhook_delivery_bad ON webhook_delivery (webhook, ended_at) WHERE state IN ('dead', 'cancelled');
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
    package func addWebhook(_ webhook: MonitorWebhook, audit: AuditEntry? = nil) async throws {
        try await write { db in
            try Self.checkName(webhook.name, of: webhook.id, db)
            try db.execute(
                sql: """
                    INSERT INTO webhook (id, name, url, events, is_enabled, secret, created_by, created_at, fact, fact_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    webhook.id, webhook.name, webhook.url, Self.text(webhook.since), webhook.isEnabled, webhook.secret,
                    webhook.createdBy, webhook.createdAt.timeIntervalSince1970, webhook.place.sequence,
                    webhook.place.at.timeIntervalSince1970,
                ])
            if let audit { try Self.record(audit, db) }
        }
    }

    /// - Parameter fact: the newest one: what is told from now on begins after it.
    /// - Returns: how it is then.
    /// - Throws: `MonitorStoreError` `.missing`, `.exists`.
    package func changeWebhook(
        _ id: String, name: String, url: String, events: Set<WebhookEvent>, from fact: Int64, audit: AuditEntry? = nil
    ) async throws -> MonitorWebhook {
        try await changing(id, audit: audit) { db, webhook in
            guard name != webhook.name || url != webhook.url || events != webhook.events else { return false }
            try Self.checkName(name, of: id, db)
            // What it was told of before goes on where it was: the broker may be behind.
            let since = Dictionary(uniqueKeysWithValues: events.map { ($0, webhook.since[$0] ?? fact) })
            try db.execute(
                sql: "UPDATE webhook SET name = ?, url = ?, events = ? WHERE id = ?", arguments: [name, url, Self.text(since), id])
            // Of another address nobody knows yet whether it answers.
            if url != webhook.url {
                try db.execute(sql: "UPDATE webhook SET failures = 0, failing_since = NULL WHERE id = ?", arguments: [id])
            }
            return true
        }
    }

    /// - Parameter place: where it begins again. What happened while it was disabled is not told.
    package func enableWebhook(_ id: String, from place: LedgerPlace, audit: AuditEntry? = nil) async throws -> MonitorWebhook {
        try await changing(id, audit: audit) { db, webhook in
            guard !webhook.isEnabled else { return false }
            try db.execute(
                sql: """
                    UPDATE webhook SET is_enabled = 1, disabled_because = NULL, fact = ?, fact_at = ?, failures = 0, failing_since = NULL
                    WHERE id = ?
                    """, arguments: [place.sequence, place.at.timeIntervalSince1970, id])
            return true
        }
    }

    /// What waits for it is dropped.
    ///
    /// - Parameters:
    ///   - reason: why the monitor itself does it.
    ///   - url: only as long as this is its address: another one may have other answers.
    package func disableWebhook(
        _ id: String, because reason: String? = nil, ifStillAt url: String? = nil, audit: AuditEntry? = nil
    ) async throws -> MonitorWebhook {
        try await changing(id, audit: audit) { db, webhook in
            guard webhook.isEnabled, url == nil || url == webhook.url else { return false }
            try db.execute(sql: "UPDATE webhook SET is_enabled = 0, disabled_because = ? WHERE id = ?", arguments: [reason, id])
            try Self.dropDeliveries(of: id, at: Date(), db)
            return true
        }
    }

    /// - Parameter until: how long messages are signed with the old one, too.
    /// - Throws: `MonitorStoreError` `.tooSoon` while the one before still counts: a receiver may have no other.
    package func setWebhookSecret(
        _ id: String, _ secret: String, keepingOldUntil until: Date, at now: Date, audit: AuditEntry? = nil
    ) async throws -> MonitorWebhook {
        try await changing(id, audit: audit) { db, webhook in
            guard webhook.secrets(at: now).count == 1 else {
                throw MonitorStoreError(
                    code: .tooSoon,
                    message: """
                        The webhook has had a new secret within the last day, and its receiver may still check with the one before. \
                        Wait until that no longer counts; if it is known to others, remove the webhook and add it again.
                        """)
            }
            try db.execute(
                sql: "UPDATE webhook SET secret = ?, previous_secret = ?, previous_until = ? WHERE id = ?",
                arguments: [secret, webhook.secret, until.timeIntervalSince1970, id])
            return true
        }
    }

    /// Its deliveries go with it.
    package func removeWebhook(_ id: String, audit: AuditEntry? = nil) async throws {
        _ = try await changing(id, audit: audit) { db, _ in
            try db.execute(sql: "DELETE FROM webhook WHERE id = ?", arguments: [id])
            return true
        }
    }

    /// Everything up to `place` has been handed to the broker. None goes back: who was enabled meanwhile begins later.
    package func moveWebhooks(_ ids: [String], to place: LedgerPlace) async throws {
        try await write { db in
            for id in ids {
                try db.execute(
                    sql: "UPDATE webhook SET fact = ?, fact_at = ? WHERE id = ? AND fact < ?",
                    arguments: [place.sequence, place.at.timeIntervalSince1970, id, place.sequence])
            }
        }
    }

    /// The facts' numbers have begun anew.
    ///
    /// - Returns: how it is then.
    package func moveWebhook(_ id: String, toOtherLedger place: LedgerPlace) async throws -> MonitorWebhook {
        try await changing(id, audit: nil) { db, webhook in
            let since = webhook.since.mapValues { min($0, place.sequence) }
            try db.execute(
                sql: "UPDATE webhook SET fact = ?, fact_at = ?, events = ? WHERE id = ?",
                arguments: [place.sequence, place.at.timeIntervalSince1970, Self.text(since), id])
            return true
        }
    }

    /// - Parameter body: false when there was nothing to do, and so is nothing to record.
    private func changing(
        _ id: String, audit: AuditEntry?, _ body: @escaping @Sendable (Database, MonitorWebhook) throws -> Bool
    ) async throws -> MonitorWebhook {
        try await write { db in
            guard let webhook = try Self.webhook(id, db) else { throw Self.noWebhook(id) }
            if try body(db, webhook), let audit { try Self.record(audit, db) }
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

    private static func text(_ since: [WebhookEvent: Int64]) -> String {
        WebhookEvent.allCases.compactMap { event in since[event].map { "\(event.rawValue)@\($0)" } }.joined(separator: ",")
    }
}

extension MonitorWebhook {
    fileprivate init(_ row: Row) {
        func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
        self.init(
            id: row["id"], name: row["name"], url: row["url"], events: [], isEnabled: row["is_enabled"], secret: row["secret"],
            createdBy: row["created_by"], createdAt: Date(timeIntervalSince1970: row["created_at"]),
            place: LedgerPlace(sequence: row["fact"], at: Date(timeIntervalSince1970: row["fact_at"])))
        for part in (row["events"] as String).split(separator: ",") {
            let sides = part.split(separator: "@")
            guard sides.count == 2, let event = WebhookEvent(rawValue: String(sides[0])), let fact = Int64(sides[1]) else { continue }
            since[event] = fact
        }
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
