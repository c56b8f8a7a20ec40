package import Foundation
import GRDB

/// One try to tell a webhook something.
package struct WebhookAttempt: Sendable, Hashable {
    package enum Outcome: String, Sendable, Hashable, CaseIterable {
        case delivered
        /// Not accepted; it is tried again.
        case retrying
        /// Not accepted, and not tried again: it is a dead letter.
        case dead
    }

    package var sequence: Int64
    package var at: Date
    package var webhook: String
    /// The same for every try: `<webhook>:<fact>`.
    package var message: String
    package var event: String
    package var run: String?
    package var job: String?
    package var attempt: Int
    package var outcome: Outcome
    /// Of the answer; nil without one.
    package var status: Int?
    package var milliseconds: Int
    package var error: String?

    package init(
        sequence: Int64 = 0, at: Date, webhook: String, message: String, event: String, run: String?, job: String?, attempt: Int,
        outcome: Outcome, status: Int?, milliseconds: Int, error: String?
    ) {
        self.sequence = sequence
        self.at = at
        self.webhook = webhook
        self.message = message
        self.event = event
        self.run = run
        self.job = job
        self.attempt = attempt
        self.outcome = outcome
        self.status = status
        self.milliseconds = milliseconds
        self.error = error
    }
}

extension MonitorSchema {
    static let webhooks = """
        -- Up to which fact of the ledger everything has been handed to the broker.
        CREATE TABLE webhook (
            name          TEXT PRIMARY KEY,
            fact          INTEGER NOT NULL
        ) WITHOUT ROWID;

        CREATE TABLE webhook_attempt (
            seq           INTEGER PRIMARY KEY AUTOINCREMENT,
            at            REAL NOT NULL,
            webhook       TEXT NOT NULL,
            message       TEXT NOT NULL,
            event         TEXT NOT NULL,
            run           TEXT,
            job           TEXT,
            attempt       INTEGER NOT NULL,
            outcome       TEXT NOT NULL,
            status        INTEGER,
            milliseconds  INTEGER NOT NULL,
            error         TEXT
        );
        CREATE INDEX webhook_attempt_of ON webhook_attempt (webhook, seq);
        """
}

extension MonitorStore {
    /// How many tries the log keeps.
    private static let attemptsKept: Int64 = 20_000

    /// - Returns: nil for a webhook that was never there.
    package func webhookPosition(_ name: String) async throws -> Int64? {
        try await database.read { db in try Int64.fetchOne(db, sql: "SELECT fact FROM webhook WHERE name = ?", arguments: [name]) }
    }

    package func setWebhookPosition(_ name: String, _ fact: Int64) async throws {
        try await database.write { db in
            try db.execute(
                sql: "INSERT INTO webhook (name, fact) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET fact = excluded.fact",
                arguments: [name, fact])
        }
    }

    package func record(_ attempt: WebhookAttempt) async throws {
        try await database.write { db in
            try db.execute(
                sql: """
                    INSERT INTO webhook_attempt (at, webhook, message, event, run, job, attempt, outcome, status, milliseconds, error)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    attempt.at.timeIntervalSince1970, attempt.webhook, attempt.message, attempt.event, attempt.run, attempt.job,
                    attempt.attempt, attempt.outcome.rawValue, attempt.status, attempt.milliseconds, attempt.error,
                ])
            try db.execute(sql: "DELETE FROM webhook_attempt WHERE seq <= ?", arguments: [db.lastInsertedRowID - Self.attemptsKept])
        }
    }

    /// Newest first.
    ///
    /// - Parameter before: only those with a smaller number.
    package func webhookAttempts(of webhook: String? = nil, limit: Int, before: Int64? = nil) async throws -> LedgerPage<WebhookAttempt> {
        try await database.read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM webhook_attempt WHERE seq < ? \(webhook == nil ? "" : "AND webhook = ?") ORDER BY seq DESC LIMIT ?
                    """,
                arguments: [before ?? .max] + (webhook.map { [$0] } ?? []) + [limit + 1])
            return LedgerPage(
                rows.map { row in
                    WebhookAttempt(
                        sequence: row["seq"], at: Date(timeIntervalSince1970: row["at"]), webhook: row["webhook"], message: row["message"],
                        event: row["event"], run: row["run"], job: row["job"], attempt: row["attempt"],
                        outcome: WebhookAttempt.Outcome(rawValue: row["outcome"]) ?? .dead, status: row["status"],
                        milliseconds: row["milliseconds"], error: row["error"])
                }, limit: limit
            ) { String($0.sequence) }
        }
    }
}
