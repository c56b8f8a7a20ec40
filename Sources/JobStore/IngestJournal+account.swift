package import Foundation
import GRDB
package import Jobs

/// A series, study or patient that has no event yet, or has grown since its last one, and what it waits for.
package struct IngestPending: Sendable, Hashable {
    package var server: String
    package var level: ResourceLevel
    /// Orthanc's id.
    package var resource: String
    package var since: Date
    package var reason: Reason

    package init(server: String, level: ResourceLevel, resource: String, since: Date, reason: Reason) {
        self.server = server
        self.level = level
        self.resource = resource
        self.since = since
        self.reason = reason
    }
}

/// What became of the resources of one level of one server, each in one of its counts:
/// what Orthanc lists = dispatched + filtered + ignored + before + pending.
package struct IngestAccount: Sendable, Hashable {
    package var server: String
    package var level: ResourceLevel
    /// How many resources Orthanc listed in the last complete sweep, and when that was.
    package var listed: Int?
    package var sweptAt: Date?
    /// The broker has confirmed an event of their latest state.
    package var dispatched = 0
    /// By the reason's code.
    package var filtered: [String: Int] = [:]
    /// Grew after their event while REPEAT=ignore.
    package var ignored = 0
    /// Were there before the first start, or are changed in nothing that makes an event.
    package var before = 0
    /// By the reason's code.
    package var pending: [String: Int] = [:]
    /// Since when the oldest of them waits.
    package var oldestPending: Date?
    /// Were in one of the others once; Orthanc no longer lists them. Not part of ``received``.
    package var gone = 0

    package init(server: String, level: ResourceLevel, listed: Int? = nil, sweptAt: Date? = nil) {
        self.server = server
        self.level = level
        self.listed = listed
        self.sweptAt = sweptAt
    }

    /// All that ingest knows of and Orthanc has.
    package var received: Int {
        dispatched + filtered.values.reduce(0, +) + ignored + before + pending.values.reduce(0, +)
    }
}

extension IngestJournal {
    /// Notes what waits for its event; what waited before keeps its time.
    package func notePending(_ rows: [IngestPending]) async throws {
        guard !rows.isEmpty else { return }
        try await database.write { db in
            for row in rows {
                try db.execute(
                    sql: """
                        INSERT INTO pending (server, level, resource, since, reason_code, reason_text) VALUES (?, ?, ?, ?, ?, ?)
                        ON CONFLICT (server, level, resource)
                        DO UPDATE SET reason_code = excluded.reason_code, reason_text = excluded.reason_text
                        """,
                    arguments: [
                        row.server, row.level.rawValue, row.resource, row.since.timeIntervalSince1970, row.reason.code, row.reason.text,
                    ]
                )
            }
        }
    }

    /// The resource no longer waits: it is on record already, or was deleted.
    package func settle(_ resource: String, _ level: ResourceLevel, server: String) async throws {
        try await database.write { db in
            try db.execute(
                sql: "DELETE FROM pending WHERE server = ? AND level = ? AND resource = ?",
                arguments: [server, level.rawValue, resource]
            )
        }
    }

    /// One thing that the journal has of a level: a record, what waits, or both.
    package struct Entry: Sendable, Hashable {
        package var resource: String
        package var goneSince: Date?
        /// When it was written last.
        package var notedAt: Date
    }

    /// The next entries of a level in the order of their resources.
    package func entries(_ level: ResourceLevel, server: String, after resource: String, limit: Int) async throws -> [Entry] {
        try await database.read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT resource, gone_since, recorded_at AS noted_at FROM snapshot WHERE server = :server AND level = :level AND resource > :after
                    UNION ALL
                    SELECT resource, NULL, since FROM pending WHERE server = :server AND level = :level AND resource > :after
                        AND NOT EXISTS (
                            SELECT 1 FROM snapshot
                            WHERE server = pending.server AND level = pending.level AND resource = pending.resource)
                    ORDER BY resource LIMIT :limit
                    """,
                arguments: ["server": server, "level": level.rawValue, "after": resource, "limit": limit]
            ).map { row in
                Entry(
                    resource: row["resource"], goneSince: (row["gone_since"] as Double?).map(Date.init(timeIntervalSince1970:)),
                    notedAt: Date(timeIntervalSince1970: row["noted_at"]))
            }
        }
    }

    /// Notes what a sweep did not find in Orthanc, and what is there again. What is gone waits for nothing.
    package func mark(gone: [String], returned: [String], _ level: ResourceLevel, server: String, at now: Date) async throws {
        guard !gone.isEmpty || !returned.isEmpty else { return }
        try await database.write { db in
            for resource in gone {
                try db.execute(
                    sql: "UPDATE snapshot SET gone_since = ? WHERE server = ? AND level = ? AND resource = ? AND gone_since IS NULL",
                    arguments: [now.timeIntervalSince1970, server, level.rawValue, resource]
                )
                try db.execute(
                    sql: "DELETE FROM pending WHERE server = ? AND level = ? AND resource = ?",
                    arguments: [server, level.rawValue, resource]
                )
            }
            for resource in returned {
                try db.execute(
                    sql: "UPDATE snapshot SET gone_since = NULL WHERE server = ? AND level = ? AND resource = ?",
                    arguments: [server, level.rawValue, resource]
                )
            }
        }
    }

    /// Resources that Orthanc has not had since before `cutoff`, the oldest first.
    package func goneResources(_ level: ResourceLevel, server: String, before cutoff: Date, limit: Int) async throws -> [String] {
        try await database.read { db in
            try String.fetchAll(
                db,
                sql: "SELECT resource FROM snapshot WHERE server = ? AND level = ? AND gone_since < ? ORDER BY gone_since LIMIT ?",
                arguments: [server, level.rawValue, cutoff.timeIntervalSince1970, limit]
            )
        }
    }

    /// Forgets a resource for good.
    package func remove(_ resource: String, _ level: ResourceLevel, server: String) async throws {
        try await database.write { db in
            for table in ["snapshot", "pending"] {
                try db.execute(
                    sql: "DELETE FROM \(table) WHERE server = ? AND level = ? AND resource = ?",
                    arguments: [server, level.rawValue, resource]
                )
            }
        }
    }

    /// A sweep has come to the end of a level.
    package func finishSweep(_ level: ResourceLevel, server: String, listed: Int, at now: Date) async throws {
        try await database.write { db in
            try db.execute(
                sql: "UPDATE level SET listed = ?, swept_at = ? WHERE server = ? AND level = ?",
                arguments: [listed, now.timeIntervalSince1970, server, level.rawValue]
            )
        }
    }
}

extension IngestJournalReader {
    /// The accounts of all servers and levels that are or were followed.
    package func accounts() async throws -> [IngestAccount] {
        guard let database = try open() else { return [] }
        return try await database.read { db in
            guard try db.tableExists("account") else { return [] }
            var accounts: [String: IngestAccount] = [:]
            func change(_ row: Row, _ body: (inout IngestAccount) -> Void) {
                guard let level = ResourceLevel(rawValue: row["level"]) else { return }
                let server: String = row["server"]
                body(&accounts["\(server)/\(level.rawValue)", default: IngestAccount(server: server, level: level)])
            }
            for row in try Row.fetchAll(db, sql: "SELECT * FROM level") {
                change(row) { account in
                    account.listed = row["listed"]
                    account.sweptAt = (row["swept_at"] as Double?).map(Date.init(timeIntervalSince1970:))
                }
            }
            for row in try Row.fetchAll(db, sql: "SELECT *, resources AS count FROM account WHERE resources > 0") {
                change(row) { $0.count(row, row["count"]) }
            }
            // What has a record and waits again counts as what waits.
            let both = """
                SELECT pending.server, pending.level, origin, snapshot.reason_code, gone_since IS NOT NULL AS is_gone, COUNT(*) AS count
                FROM pending CROSS JOIN snapshot USING (server, level, resource) GROUP BY 1, 2, 3, 4, 5
                """
            for row in try Row.fetchAll(db, sql: both) { change(row) { $0.count(row, -(row["count"] as Int)) } }
            let waiting = """
                SELECT server, level, reason_code, COUNT(*) AS count, MIN(since) AS oldest FROM pending GROUP BY server, level, reason_code
                """
            for row in try Row.fetchAll(db, sql: waiting) {
                change(row) { account in
                    account.pending[row["reason_code"], default: 0] += row["count"] as Int
                    let oldest = Date(timeIntervalSince1970: row["oldest"])
                    account.oldestPending = min(account.oldestPending ?? oldest, oldest)
                }
            }
            return accounts.values.sorted { ($0.server, $0.level.rawValue) < ($1.server, $1.level.rawValue) }
        }
    }

    /// What waits for its event, the oldest first.
    package func pending(limit: Int) async throws -> [IngestPending] {
        guard let database = try open() else { return [] }
        return try await database.read { db in
            guard try db.tableExists("pending") else { return [] }
            return try Row.fetchAll(db, sql: "SELECT * FROM pending ORDER BY since LIMIT ?", arguments: [limit]).compactMap { row in
                guard let level = ResourceLevel(rawValue: row["level"]) else { return nil }
                return IngestPending(
                    server: row["server"], level: level, resource: row["resource"], since: Date(timeIntervalSince1970: row["since"]),
                    reason: Reason(row["reason_code"], row["reason_text"])
                )
            }
        }
    }
}

extension IngestAccount {
    /// - Parameter count: of rows with this origin and reason.
    fileprivate mutating func count(_ row: Row, _ count: Int) {
        if row["is_gone"] as Bool {
            gone += count
            return
        }
        switch IngestRecord.Origin(rawValue: row["origin"]) {
        case .filtered:
            let code = row["reason_code"] as String
            let sum = filtered[code, default: 0] + count
            filtered[code] = sum == 0 ? nil : sum
        case .baseline, .unchanged: before += count
        case .ignored: ignored += count
        case .event, nil: dispatched += count
        }
    }
}
