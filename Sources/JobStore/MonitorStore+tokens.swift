package import Foundation
import GRDB

/// The right of a program to use the API.
package struct MonitorToken: Sendable, Hashable {
    /// Names it in lists; no secret.
    package var id: String
    package var name: String
    package var role: AccountRole
    package var createdBy: String
    package var createdAt: Date
    package var expiresAt: Date?
    package var revokedAt: Date?
    package var usedAt: Date?

    package init(
        id: String, name: String, role: AccountRole, createdBy: String, createdAt: Date, expiresAt: Date? = nil, revokedAt: Date? = nil,
        usedAt: Date? = nil
    ) {
        self.id = id
        self.name = name
        self.role = role
        self.createdBy = createdBy
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.usedAt = usedAt
    }

    package func isValid(at now: Date) -> Bool { revokedAt == nil && expiresAt.map { now < $0 } ?? true }
}

extension MonitorStore {
    /// The newest first, those that are no longer valid included.
    package func tokens() async throws -> [MonitorToken] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT * FROM token ORDER BY created_at DESC, id").map(MonitorToken.init)
        }
    }

    /// One token, valid or not.
    package func token(id: String) async throws -> MonitorToken? {
        try await read { db in try Row.fetchOne(db, sql: "SELECT * FROM token WHERE id = ?", arguments: [id]).map(MonitorToken.init) }
    }

    /// - Parameter hash: of the token itself.
    package func addToken(_ token: MonitorToken, hash: String, audit: AuditEntry? = nil) async throws {
        try await write { db in
            guard
                try Row.fetchOne(
                    db, sql: "SELECT 1 FROM token WHERE name = ? AND revoked_at IS NULL", arguments: [token.name]) == nil
            else { throw MonitorStoreError(code: .exists, message: "There is a token '\(token.name)' already. Revoke it first.") }
            try db.execute(
                sql: "INSERT INTO token (id, hash, name, role, created_by, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                arguments: [
                    token.id, hash, token.name, token.role.rawValue, token.createdBy, token.createdAt.timeIntervalSince1970,
                    token.expiresAt?.timeIntervalSince1970,
                ])
            if let audit { try Self.record(audit, db) }
        }
    }

    /// The token whose hash this is, as long as it is valid.
    package func token(hash: String, at now: Date) async throws -> MonitorToken? {
        let found = try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM token WHERE hash = ?", arguments: [hash]).map(MonitorToken.init)
        }
        guard let found, found.isValid(at: now) else { return nil }
        if now.timeIntervalSince(found.usedAt ?? .distantPast) > 60 {
            // As with sessions: a full disk shuts nobody out.
            try? await write { db in
                try db.execute(sql: "UPDATE token SET used_at = ? WHERE id = ?", arguments: [now.timeIntervalSince1970, found.id])
            }
        }
        return found
    }

    /// - Parameters:
    ///   - name: its id, or its name while it is valid.
    ///   - audit: makes the audit's entry.
    /// - Returns: what was revoked.
    package func revokeToken(
        _ name: String, audit: (@Sendable (MonitorToken) -> AuditEntry)? = nil, at now: Date
    ) async throws -> MonitorToken {
        try await write { db in
            let row = try Row.fetchOne(
                db, sql: "SELECT * FROM token WHERE (id = ? OR name = ?) AND revoked_at IS NULL", arguments: [name, name])
            guard let row else { throw MonitorStoreError(code: .missing, message: "There is no valid token '\(name)'.") }
            var token = MonitorToken(row)
            token.revokedAt = now
            try db.execute(sql: "UPDATE token SET revoked_at = ? WHERE id = ?", arguments: [now.timeIntervalSince1970, token.id])
            if let audit { try Self.record(audit(token), db) }
            return token
        }
    }
}

extension MonitorToken {
    fileprivate init(_ row: Row) {
        func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
        self.init(
            id: row["id"], name: row["name"], role: AccountRole(rawValue: row["role"]) ?? .viewer, createdBy: row["created_by"],
            createdAt: Date(timeIntervalSince1970: row["created_at"]), expiresAt: date("expires_at"), revokedAt: date("revoked_at"),
            usedAt: date("used_at"))
    }
}
