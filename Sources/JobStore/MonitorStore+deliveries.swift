package import Foundation
import GRDB

/// One message to one webhook, from the ledger's fact to its end.
package struct WebhookDelivery: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable {
        /// The broker has it, or is about to.
        case queued
        /// The last try failed; the next one is due at `dueAt`.
        case retrying
        /// The receiver answered 2xx.
        case delivered
        /// Given up.
        case dead
        /// The webhook was disabled before it was accepted.
        case cancelled

        package var isOver: Bool { self != .queued && self != .retrying }
    }

    package var sequence: Int64
    /// The same for every try, so that a receiver can tell a repetition.
    package var id: String
    package var webhook: String
    package var event: String
    package var run: String?
    package var job: String?
    /// The document as it is sent, the same for every try.
    package var body: String
    package var state: State
    /// 1, and one more each time that somebody wants it delivered again.
    package var round: Int
    /// Tries of this round that have ended.
    package var attempt: Int
    package var createdAt: Date
    /// When the next try is due.
    package var dueAt: Date?
    package var triedAt: Date?
    /// Of the last answer; nil when there was none.
    package var status: Int?
    /// What the last try took.
    package var milliseconds: Int?
    /// What was wrong with the last try. Nothing of what the receiver wrote.
    package var problem: String?

    package init(id: String, webhook: String, event: String, run: String? = nil, job: String? = nil, body: String, createdAt: Date) {
        sequence = 0
        self.id = id
        self.webhook = webhook
        self.event = event
        self.run = run
        self.job = job
        self.body = body
        state = .queued
        round = 1
        attempt = 0
        self.createdAt = createdAt
        dueAt = createdAt
    }
}

/// How a try ended.
package struct WebhookTry: Sendable, Hashable {
    package var state: WebhookDelivery.State
    /// Which try of the round it was, from 1.
    package var attempt: Int
    package var at: Date
    /// Of the next one.
    package var dueAt: Date?
    package var status: Int?
    package var milliseconds: Int
    package var problem: String?

    package init(
        _ state: WebhookDelivery.State, attempt: Int, at: Date, dueAt: Date? = nil, status: Int?, milliseconds: Int, problem: String? = nil
    ) {
        self.state = state
        self.attempt = attempt
        self.at = at
        self.dueAt = dueAt
        self.status = status
        self.milliseconds = milliseconds
        self.problem = problem
    }
}

extension MonitorStore {
    /// How many deliveries of a webhook stay on record that were accepted, and as many that were not.
    package static let deliveriesKept = 500

    /// Those that are on record already stay as they are. A webhook that is disabled has none that wait.
    package func queueDeliveries(_ deliveries: [WebhookDelivery], audit: AuditEntry? = nil) async throws {
        try await write { db in
            let insert = try db.makeStatement(
                sql: """
                    INSERT OR IGNORE INTO webhook_delivery (id, webhook, event, run, job, body, state, round, attempt, created_at, due_at)
                    SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM webhook WHERE id = ? AND is_enabled = 1)
                    """)
            for delivery in deliveries {
                try insert.execute(arguments: [
                    delivery.id, delivery.webhook, delivery.event, delivery.run, delivery.job, delivery.body, delivery.state.rawValue,
                    delivery.round, delivery.attempt, delivery.createdAt.timeIntervalSince1970, delivery.dueAt?.timeIntervalSince1970,
                    delivery.webhook,
                ])
            }
            if let audit { try Self.record(audit, db) }
        }
    }

    package func delivery(_ id: String) async throws -> WebhookDelivery? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM webhook_delivery WHERE id = ?", arguments: [id]).map(WebhookDelivery.init)
        }
    }

    /// Newest first.
    ///
    /// - Parameters:
    ///   - states: nothing is every state.
    ///   - before: only those with a smaller number.
    package func deliveries(
        of webhook: String, states: [WebhookDelivery.State] = [], limit: Int, before: Int64? = nil
    ) async throws -> LedgerPage<WebhookDelivery> {
        try await read { db in
            let condition = states.isEmpty ? "" : "AND state IN (\(databaseQuestionMarks(count: states.count)))"
            let rows = try Row.fetchAll(
                db, sql: "SELECT * FROM webhook_delivery WHERE webhook = ? AND seq < ? \(condition) ORDER BY seq DESC LIMIT ?",
                arguments: [webhook, before ?? .max] + StatementArguments(states.map(\.rawValue)) + [limit + 1])
            return LedgerPage(rows.map(WebhookDelivery.init), limit: limit) { String($0.sequence) }
        }
    }

    /// Begins a new round of a delivery that has ended. Messages of the round before no longer count.
    ///
    /// - Returns: nil when there is no such delivery of the webhook, it is still on its way, or the webhook is disabled.
    package func deliverAgain(_ id: String, of webhook: String, at now: Date, audit: AuditEntry? = nil) async throws -> WebhookDelivery? {
        try await write { db in
            try db.execute(
                sql: """
                    UPDATE webhook_delivery SET state = 'queued', round = round + 1, attempt = 0, due_at = ?, ended_at = NULL, problem = NULL
                    WHERE id = ? AND webhook = ? AND due_at IS NULL AND EXISTS (SELECT 1 FROM webhook WHERE id = ? AND is_enabled = 1)
                    """, arguments: [now.timeIntervalSince1970, id, webhook, webhook])
            guard db.changesCount > 0 else { return nil }
            if let audit { try Self.record(audit, db) }
            return try Row.fetchOne(db, sql: "SELECT * FROM webhook_delivery WHERE id = ?", arguments: [id]).map(WebhookDelivery.init)
        }
    }

    /// Writes down how a try ended, once, and what that says of the webhook. Forgets the oldest deliveries that have ended.
    ///
    /// - Returns: the webhook as it is then; nil when the try does not count: the webhook was removed, or the delivery went on without it.
    package func record(_ attempt: WebhookTry, of id: String, round: Int) async throws -> MonitorWebhook? {
        try await write { db in
            let at = attempt.at.timeIntervalSince1970
            // A webhook that was disabled during the try waits for nothing more; that the message was accepted is true all the same.
            try db.execute(
                sql: """
                    UPDATE webhook_delivery SET state = ?, attempt = ?, tried_at = ?, due_at = ?, ended_at = ?, status = ?, milliseconds = ?,
                        problem = ?
                    WHERE id = ? AND round = ? AND attempt < ? AND (due_at IS NOT NULL OR state = 'cancelled' AND ?)
                    """,
                arguments: [
                    attempt.state.rawValue, attempt.attempt, at, attempt.dueAt?.timeIntervalSince1970,
                    attempt.state.isOver ? Date().timeIntervalSince1970 : nil, attempt.status, attempt.milliseconds, attempt.problem, id,
                    round, attempt.attempt, attempt.state == .delivered,
                ])
            guard db.changesCount > 0,
                let webhook = try String.fetchOne(db, sql: "SELECT webhook FROM webhook_delivery WHERE id = ?", arguments: [id])
            else { return nil }
            if attempt.state == .delivered {
                try db.execute(
                    sql: "UPDATE webhook SET delivered = delivered + 1, failures = 0, failing_since = NULL, tried_at = ? WHERE id = ?",
                    arguments: [at, webhook])
            } else {
                try db.execute(
                    sql: """
                        UPDATE webhook SET failed = failed + 1, dead = dead + ?, failures = failures + 1,
                            failing_since = coalesce(failing_since, ?), tried_at = ? WHERE id = ?
                        """, arguments: [attempt.state == .dead ? 1 : 0, at, at, webhook])
            }
            if attempt.state.isOver { try Self.forgetDeliveries(of: webhook, db) }
            return try Self.webhook(webhook, db)
        }
    }

    /// The oldest that have ended, with those that were not accepted apart: a thousand that were must not push them out.
    private static func forgetDeliveries(of webhook: String, _ db: Database) throws {
        for states in ["state = 'delivered'", "state IN ('dead', 'cancelled')"] {
            try db.execute(
                sql: """
                    DELETE FROM webhook_delivery WHERE seq IN
                        (SELECT seq FROM webhook_delivery WHERE webhook = ? AND \(states) ORDER BY ended_at DESC LIMIT -1 OFFSET ?)
                    """, arguments: [webhook, deliveriesKept])
        }
    }

    static func dropDeliveries(of webhook: String, at now: Date, _ db: Database) throws {
        try db.execute(
            sql: """
                UPDATE webhook_delivery SET state = 'cancelled', due_at = NULL, ended_at = ?,
                    problem = 'The webhook was disabled before this message was accepted.'
                WHERE webhook = ? AND due_at IS NOT NULL
                """, arguments: [now.timeIntervalSince1970, webhook])
        try forgetDeliveries(of: webhook, db)
    }

    /// Another time for the next tries, which is none of those that are counted.
    package func postpone(_ messages: [(id: String, round: Int)], to due: Date) async throws {
        try await write { db in
            for message in messages {
                try db.execute(
                    sql: "UPDATE webhook_delivery SET due_at = ? WHERE id = ? AND round = ? AND due_at IS NOT NULL",
                    arguments: [due.timeIntervalSince1970, message.id, message.round])
            }
        }
    }

    /// Those of a webhook whose try should have been before, the oldest first.
    package func overdueDeliveries(of webhook: String, before: Date, limit: Int) async throws -> [WebhookDelivery] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM webhook_delivery WHERE webhook = ? AND due_at < ? ORDER BY due_at LIMIT ?",
                arguments: [webhook, before.timeIntervalSince1970, limit]
            ).map(WebhookDelivery.init)
        }
    }

    /// What waits, by webhook.
    package func webhookBacklogs() async throws -> [String: WebhookBacklog] {
        try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT webhook, COUNT(*) AS n, min(created_at) AS oldest FROM webhook_delivery WHERE due_at IS NOT NULL GROUP BY webhook
                    """)
            return Dictionary(
                uniqueKeysWithValues: rows.map { row in
                    (row["webhook"], WebhookBacklog(waiting: row["n"], oldest: Date(timeIntervalSince1970: row["oldest"])))
                })
        }
    }
}

extension WebhookDelivery {
    fileprivate init(_ row: Row) {
        func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
        self.init(
            id: row["id"], webhook: row["webhook"], event: row["event"], run: row["run"], job: row["job"], body: row["body"],
            createdAt: Date(timeIntervalSince1970: row["created_at"]))
        sequence = row["seq"]
        state = State(rawValue: row["state"]) ?? .dead
        round = row["round"]
        attempt = row["attempt"]
        dueAt = date("due_at")
        triedAt = date("tried_at")
        status = row["status"]
        milliseconds = row["milliseconds"]
        problem = row["problem"]
    }
}
