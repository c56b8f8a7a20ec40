package import Foundation
import GRDB
package import Jobs

/// The same command for many runs or jobs: first a preview, then, with the same id, the work, then its record.
package struct BulkRecord: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable {
        case preview
        case running
        /// What was sent is awaited, nothing more is.
        case cancelling
        case done
        case cancelled

        package var isOver: Bool { self == .done || self == .cancelled }
    }

    package var id: String
    package var state: State
    /// `runs` or `jobs`.
    package var kind: String
    /// `retry`, `cancel` or `reprocess`.
    package var action: String
    /// An object of texts: as it was asked for in a preview, and without what somebody typed into a search from the start on.
    package var filter: JSONValue
    package var actor: String
    /// By which right its starter acts, as `Identity` writes it; empty in records of an earlier version.
    package var starter = ""
    /// Why it ended before everything was done.
    package var stopReason: String?
    package var previewedAt: Date
    package var startedAt: Date?
    package var endedAt: Date?
    /// How many items there are.
    package var total: Int
    /// Matches of the filter for which the command makes no sense: how many by reason.
    package var leftOut: [String: Int]
    package var done: Int
    /// Had changed since the preview, or the router refused them.
    package var skipped: Int
    package var failed: Int
    /// The next item to send.
    package var position: Int
    /// Outcomes are read up to this fact.
    package var fact: Int64
    /// The audit's entry.
    package var audit: Int64?

    package init(
        id: String, kind: String, action: String, filter: JSONValue, actor: String, previewedAt: Date, leftOut: [String: Int], total: Int
    ) {
        self.id = id
        self.state = .preview
        self.kind = kind
        self.action = action
        self.filter = filter
        self.actor = actor
        self.previewedAt = previewedAt
        self.total = total
        self.leftOut = leftOut
        (done, skipped, failed, position, fact) = (0, 0, 0, 0, 0)
    }
}

/// One run or job of a bulk operation.
package struct BulkItem: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable {
        case pending
        /// The router has not answered yet.
        case sent
        case done
        case skipped
        case failed
    }

    package var sequence: Int
    package var target: String
    /// How it stood at the preview.
    package var mark: String
    package var state: State
    package var reason: String?

    package init(sequence: Int, target: String, mark: String, state: State = .pending, reason: String? = nil) {
        self.sequence = sequence
        self.target = target
        self.mark = mark
        self.state = state
        self.reason = reason
    }
}

extension MonitorSchema {
    static let bulk = """
        CREATE TABLE bulk (
            id            TEXT PRIMARY KEY,
            state         TEXT NOT NULL,
            kind          TEXT NOT NULL,
            action        TEXT NOT NULL,
            filter        TEXT NOT NULL,      -- JSON
            actor         TEXT NOT NULL,
            previewed_at  REAL NOT NULL,
            started_at    REAL,
            ended_at      REAL,
            total         INTEGER NOT NULL,
            left_out      TEXT NOT NULL,      -- JSON {reason: count}
            done          INTEGER NOT NULL DEFAULT 0,
            skipped       INTEGER NOT NULL DEFAULT 0,
            failed        INTEGER NOT NULL DEFAULT 0,
            position      INTEGER NOT NULL DEFAULT 0,   -- the next item to send
            fact          INTEGER NOT NULL DEFAULT 0,   -- outcomes are read up to this fact of the ledger
            audit         INTEGER
        ) WITHOUT ROWID;
        CREATE INDEX bulk_started ON bulk (started_at, id) WHERE started_at IS NOT NULL;

        CREATE TABLE bulk_item (
            bulk          TEXT NOT NULL REFERENCES bulk (id) ON DELETE CASCADE,
            seq           INTEGER NOT NULL,
            target        TEXT NOT NULL,
            mark          TEXT NOT NULL,
            state         TEXT NOT NULL,
            reason        TEXT,
            PRIMARY KEY (bulk, seq)
        ) WITHOUT ROWID;
        CREATE INDEX bulk_item_state ON bulk_item (bulk, state, seq) WHERE state <> 'pending' AND state <> 'done';
        """

    static let bulkStarter = """
        ALTER TABLE bulk ADD COLUMN starter TEXT NOT NULL DEFAULT '';   -- by which right its starter acts
        ALTER TABLE bulk ADD COLUMN stop_reason TEXT;                   -- why it ended before everything was done
        CREATE INDEX bulk_preview ON bulk (previewed_at) WHERE state = 'preview';
        """
}

extension MonitorStore {
    /// How long a preview can be started.
    package static let previewLifetime: TimeInterval = 15 * 60

    /// Pins a preview's items. Forgets previews that nobody started, and records that ended more than 90 days ago.
    ///
    /// - Returns: false when there is one of this id already: nothing was changed then.
    @discardableResult
    package func addPreview(_ record: BulkRecord, _ items: some Sequence<(target: String, mark: String)> & Sendable) async throws -> Bool {
        try await write { db in
            let now = record.previewedAt.timeIntervalSince1970
            try Self.forget(at: now, db)
            try db.execute(
                sql: """
                    INSERT OR IGNORE INTO bulk (id, state, kind, action, filter, actor, starter, previewed_at, total, left_out)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    record.id, record.state.rawValue, record.kind, record.action, record.filter.text, record.actor, record.starter, now,
                    record.total, JSONValue.object(record.leftOut.mapValues { .integer(Int64($0)) }).text,
                ])
            guard db.changesCount > 0 else { return false }
            let insert = try db.makeStatement(sql: "INSERT INTO bulk_item (bulk, seq, target, mark, state) VALUES (?, ?, ?, ?, 'pending')")
            for (sequence, item) in items.enumerated() { try insert.execute(arguments: [record.id, sequence, item.target, item.mark]) }
            return true
        }
    }

    /// Previews that nobody started keep nothing for longer than they can be started.
    package func forgetPreviews(at now: Date) async throws {
        let seconds = now.timeIntervalSince1970
        let hasOld = try await read { db in
            try Bool.fetchOne(
                db, sql: "SELECT EXISTS (SELECT 1 FROM bulk WHERE state = 'preview' AND previewed_at < ?)",
                arguments: [seconds - Self.previewLifetime]) ?? false
        }
        guard hasOld else { return }
        try await write { db in try Self.forget(at: seconds, db) }
    }

    private static func forget(at now: Double, _ db: Database) throws {
        try db.execute(
            sql: "DELETE FROM bulk WHERE (state = 'preview' AND previewed_at < ?) OR ended_at < ?",
            arguments: [now - previewLifetime, now - 90 * 86400])
    }

    /// Starts what was previewed, once.
    ///
    /// - Parameters:
    ///   - record: with its filter, actor and starter as they are kept from now on.
    ///   - fact: no outcome of it can be at this fact of the ledger or before.
    /// - Returns: false when it was no preview any more.
    package func startBulk(_ record: BulkRecord, fact: Int64, audit: Int64, at now: Date) async throws -> Bool {
        try await write { db in
            try db.execute(
                sql: """
                    UPDATE bulk SET state = 'running', filter = ?, actor = ?, starter = ?, started_at = ?, fact = ?, audit = ?
                    WHERE id = ? AND state = 'preview'
                    """,
                arguments: [
                    record.filter.text, record.actor, record.starter, now.timeIntervalSince1970, fact, audit, record.id,
                ])
            return db.changesCount > 0
        }
    }

    /// - Parameter reason: as its record says it.
    /// - Returns: false when it does not run.
    package func cancelBulk(_ id: String, reason: String) async throws -> Bool {
        try await write { db in
            try db.execute(
                sql: "UPDATE bulk SET state = 'cancelling', stop_reason = ? WHERE id = ? AND state = 'running'", arguments: [reason, id])
            return db.changesCount > 0
        }
    }

    package func bulk(_ id: String) async throws -> BulkRecord? {
        try await read { db in try Row.fetchOne(db, sql: "SELECT * FROM bulk WHERE id = ?", arguments: [id]).map(BulkRecord.init) }
    }

    /// Those that were started, the newest first.
    ///
    /// - Parameter cursor: `<seconds>/<id>`, the `next` of the page before.
    package func bulks(limit: Int, cursor: String? = nil) async throws -> LedgerPage<BulkRecord> {
        let parts = (cursor ?? "").split(separator: "/", maxSplits: 1)
        let before = parts.first.flatMap { Double($0) } ?? .greatestFiniteMagnitude
        let id = parts.count > 1 ? String(parts[1]) : ""
        return try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM bulk WHERE started_at IS NOT NULL AND (started_at, id) < (?, ?) ORDER BY started_at DESC, id DESC LIMIT ?
                    """, arguments: [before, id, limit + 1])
            return LedgerPage(rows.map(BulkRecord.init), limit: limit) { "\($0.startedAt?.timeIntervalSince1970 ?? 0)/\($0.id)" }
        }
    }

    /// Those that have work left, the oldest first.
    package func openBulks() async throws -> [BulkRecord] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM bulk WHERE started_at IS NOT NULL AND ended_at IS NULL ORDER BY started_at"
            ).map(BulkRecord.init)
        }
    }

    /// - Parameter states: nothing is every state.
    package func bulkItems(_ id: String, states: [BulkItem.State] = [], from sequence: Int, limit: Int) async throws -> [BulkItem] {
        try await read { db in
            let condition = states.isEmpty ? "" : "AND state IN (\(databaseQuestionMarks(count: states.count)))"
            return try Row.fetchAll(
                db, sql: "SELECT * FROM bulk_item WHERE bulk = ? AND seq >= ? \(condition) ORDER BY seq LIMIT ?",
                arguments: [id, sequence] + StatementArguments(states.map(\.rawValue)) + [limit]
            ).map(BulkItem.init)
        }
    }

    /// Why items were skipped or failed, the most frequent first.
    package func bulkReasons(_ id: String) async throws -> [(state: BulkItem.State, reason: String, count: Int)] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT state, coalesce(reason, '') AS reason, COUNT(*) AS n FROM bulk_item
                    WHERE bulk = ? AND state <> 'pending' AND state <> 'done' AND state <> 'sent'
                    GROUP BY state, reason ORDER BY n DESC, reason LIMIT 20
                    """, arguments: [id]
            ).map { (BulkItem.State(rawValue: $0["state"]) ?? .failed, $0["reason"], $0["n"]) }
        }
    }

    /// Writes down what became of items, and how far the work is, in one step.
    ///
    /// - Parameters:
    ///   - items: in their new state. One that has ended is not changed again.
    ///   - position: the next item to send.
    ///   - fact: outcomes are read up to this fact.
    /// - Returns: the record as it is then.
    package func advanceBulk(_ id: String, items: [BulkItem], position: Int? = nil, fact: Int64? = nil) async throws -> BulkRecord? {
        try await write { db in
            var ended: [BulkItem.State: Int] = [:]
            let update = try db.makeStatement(
                sql: "UPDATE bulk_item SET state = ?, reason = ? WHERE bulk = ? AND seq = ? AND state IN ('pending', 'sent')")
            for item in items {
                try update.execute(arguments: [item.state.rawValue, item.reason, id, item.sequence])
                if db.changesCount > 0, item.state != .sent { ended[item.state, default: 0] += 1 }
            }
            try db.execute(
                sql: """
                    UPDATE bulk SET done = done + ?, skipped = skipped + ?, failed = failed + ?, position = coalesce(?, position),
                        fact = coalesce(?, fact) WHERE id = ?
                    """, arguments: [ended[.done] ?? 0, ended[.skipped] ?? 0, ended[.failed] ?? 0, position, fact, id])
            return try Row.fetchOne(db, sql: "SELECT * FROM bulk WHERE id = ?", arguments: [id]).map(BulkRecord.init)
        }
    }

    /// Nothing more of it is sent: what was not sent counts as skipped.
    package func stopBulk(_ id: String, reason: String) async throws {
        try await write { db in
            try db.execute(
                sql: "UPDATE bulk_item SET state = 'skipped', reason = ? WHERE bulk = ? AND state = 'pending'", arguments: [reason, id])
            let count = db.changesCount
            try db.execute(sql: "UPDATE bulk SET skipped = skipped + ?, position = total WHERE id = ?", arguments: [count, id])
        }
    }

    package func endBulk(_ id: String, _ state: BulkRecord.State, at now: Date) async throws {
        try await write { db in
            try db.execute(
                sql: "UPDATE bulk SET state = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL",
                arguments: [state.rawValue, now.timeIntervalSince1970, id])
        }
    }
}

extension BulkRecord {
    fileprivate init(_ row: Row) {
        func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
        func object(_ column: String) -> JSONValue { (try? JSONValue(json: Data((row[column] as String).utf8))) ?? [:] }
        self.init(
            id: row["id"], kind: row["kind"], action: row["action"], filter: object("filter"), actor: row["actor"],
            previewedAt: Date(timeIntervalSince1970: row["previewed_at"]),
            leftOut: (object("left_out").object ?? [:]).compactMapValues { $0.integer.map(Int.init) }, total: row["total"])
        state = State(rawValue: row["state"]) ?? .cancelled
        startedAt = date("started_at")
        endedAt = date("ended_at")
        done = row["done"]
        skipped = row["skipped"]
        failed = row["failed"]
        position = row["position"]
        fact = row["fact"]
        audit = row["audit"]
        starter = row["starter"]
        stopReason = row["stop_reason"]
    }
}

extension BulkItem {
    fileprivate init(_ row: Row) {
        self.init(
            sequence: row["seq"], target: row["target"], mark: row["mark"], state: State(rawValue: row["state"]) ?? .failed,
            reason: row["reason"])
    }
}
