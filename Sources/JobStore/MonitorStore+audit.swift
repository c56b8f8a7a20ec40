package import Foundation
import GRDB
package import Jobs

/// One thing that somebody did, or tried to do. No patient's data goes in here: ids of ours and of Orthanc only.
package struct AuditEntry: Sendable, Hashable {
    package enum Outcome: String, Sendable, CaseIterable {
        case done
        /// The broker has the command; what the router made of it is in the ledger.
        case sent
        /// Not allowed, or not possible.
        case refused
        /// Allowed, and something was in the way: whether it was done may be unknown.
        case failed
    }

    /// What was acted on.
    package struct Target: Sendable, Hashable {
        /// `run`, `job`, `channel`, `worker`, `user`, `token`, `filter`, ...
        package var kind: String
        package var id: String

        package init(_ kind: String, _ id: String) {
            self.kind = kind
            self.id = id
        }
    }

    package var at: Date
    /// A user's name, `token:<name>`, `api` and `operator` (MONITOR_TOKEN sent, or signed in with), `local` (nobody has to sign in), `cli`.
    package var actor: String
    package var role: AccountRole?
    /// Where the request came from.
    package var address: String?
    /// `retry-run`, `pause-channel`, `sign-in`, `reveal`, `add-user`, ...
    package var action: String
    package var target: Target?
    package var outcome: Outcome
    /// An object; what else a reader wants to know.
    package var detail: JSONValue

    package init(
        at: Date = Date(), actor: String, role: AccountRole? = nil, address: String? = nil, action: String, target: Target? = nil,
        outcome: Outcome = .done, detail: JSONValue = [:]
    ) {
        self.at = at
        self.actor = actor
        self.role = role
        self.address = address
        self.action = action
        self.target = target
        self.outcome = outcome
        self.detail = detail
    }
}

/// An entry as it stands on record.
package struct AuditRecord: Sendable, Hashable {
    package var sequence: Int64
    package var entry: AuditEntry
}

/// Which entries to read; what is nil is not asked for.
package struct AuditFilter: Sendable, Hashable {
    package var actor: String?
    package var action: String?
    /// The target's id.
    package var target: String?
    package var outcome: AuditEntry.Outcome?
    package var from: Date?
    /// Not itself included.
    package var to: Date?

    package init(
        actor: String? = nil, action: String? = nil, target: String? = nil, outcome: AuditEntry.Outcome? = nil, from: Date? = nil,
        to: Date? = nil
    ) {
        self.actor = actor
        self.action = action
        self.target = target
        self.outcome = outcome
        self.from = from
        self.to = to
    }
}

extension MonitorStore {
    /// Writes `entry` down. On disk when this returns.
    ///
    /// - Returns: its number, for `settle`.
    @discardableResult
    package func record(_ entry: AuditEntry) async throws -> Int64 {
        try await write { db in try Self.record(entry, db) }
    }

    /// The same within the transaction of what it tells of: neither is ever there without the other.
    @discardableResult
    static func record(_ entry: AuditEntry, _ db: Database) throws -> Int64 {
        try db.execute(
            sql: """
                INSERT INTO audit (at, actor, role, address, action, target_kind, target, outcome, detail)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                entry.at.timeIntervalSince1970, entry.actor, entry.role?.rawValue, entry.address, entry.action, entry.target?.kind,
                entry.target?.id, entry.outcome.rawValue, entry.detail.text,
            ])
        return db.lastInsertedRowID
    }

    /// Says how something ended that was written down before it began.
    package func settle(_ sequence: Int64, _ outcome: AuditEntry.Outcome, detail: JSONValue? = nil) async throws {
        try await write { db in
            try db.execute(
                sql: "UPDATE audit SET outcome = ?, detail = COALESCE(?, detail) WHERE seq = ?",
                arguments: [outcome.rawValue, detail?.text, sequence])
        }
    }

    /// The newest entries first.
    ///
    /// - Parameter before: only entries with a smaller number: the last one's of the page before.
    package func audit(_ filter: AuditFilter = AuditFilter(), limit: Int, before: Int64? = nil) async throws -> LedgerPage<AuditRecord> {
        try await read { db in
            var conditions: [String] = []
            var arguments: [(any DatabaseValueConvertible)?] = []
            func add(_ condition: String, _ value: (any DatabaseValueConvertible)?) {
                guard let value else { return }
                conditions.append(condition)
                arguments.append(value)
            }
            add("seq < ?", before)
            add("actor = ?", filter.actor)
            add("action = ?", filter.action)
            add("target = ?", filter.target)
            add("outcome = ?", filter.outcome?.rawValue)
            // Through the index of times: a page far back costs no more than the newest one.
            if let from = filter.from {
                let first = try Int64.fetchOne(
                    db, sql: "SELECT seq FROM audit WHERE at >= ? ORDER BY at LIMIT 1", arguments: [from.timeIntervalSince1970])
                guard let first else { return LedgerPage(items: [], next: nil) }
                add("seq >= ?", first)
            }
            if let to = filter.to {
                let last = try Int64.fetchOne(
                    db, sql: "SELECT seq FROM audit WHERE at < ? ORDER BY at DESC LIMIT 1", arguments: [to.timeIntervalSince1970])
                guard let last else { return LedgerPage(items: [], next: nil) }
                add("seq <= ?", last)
            }
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM audit \(conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND "))
                    ORDER BY seq DESC LIMIT ?
                    """,
                arguments: StatementArguments(arguments) + [limit + 1])
            return LedgerPage(rows.map(AuditRecord.init), limit: limit) { String($0.sequence) }
        }
    }

    /// Every action that is on record, for a list to choose from.
    package func auditActions() async throws -> [String] {
        try await read { db in
            // From one to the next through the index, however many entries there are.
            var actions: [String] = []
            while let next = try String.fetchOne(
                db, sql: "SELECT action FROM audit WHERE action > ? ORDER BY action LIMIT 1", arguments: [actions.last ?? ""])
            {
                actions.append(next)
            }
            return actions
        }
    }
}

extension AuditRecord {
    fileprivate init(_ row: Row) {
        let kind = row["target_kind"] as String?
        let target = row["target"] as String?
        self.init(
            sequence: row["seq"],
            entry: AuditEntry(
                at: Date(timeIntervalSince1970: row["at"]),
                actor: row["actor"],
                role: (row["role"] as String?).flatMap(AccountRole.init),
                address: row["address"],
                action: row["action"],
                target: kind.flatMap { kind in target.map { AuditEntry.Target(kind, $0) } },
                outcome: AuditEntry.Outcome(rawValue: row["outcome"]) ?? .failed,
                detail: (try? JSONValue(json: Data((row["detail"] as String).utf8))) ?? [:]))
    }
}
