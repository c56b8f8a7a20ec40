package import Foundation
import GRDB

/// A browser that somebody has signed in with.
package struct MonitorSession: Sendable, Hashable {
    /// SHA-256 of the cookie.
    package var id: String
    /// nil: signed in with MONITOR_TOKEN.
    package var user: String?
    /// The user's role now; nil without a user.
    package var role: AccountRole?
    /// Names the token that the session was opened with; empty for a password.
    package var credential: String
    package var createdAt: Date
    package var usedAt: Date
    package var address: String
}

/// How long sessions last.
package struct SessionLifetime: Sendable, Hashable {
    /// Without a request.
    package var idle: TimeInterval
    /// Whatever happens.
    package var absolute: TimeInterval

    package init(idle: TimeInterval = 12 * 3600, absolute: TimeInterval = 7 * 86400) {
        self.idle = idle
        self.absolute = absolute
    }
}

extension MonitorStore {
    /// Opens a session and forgets those that are over.
    ///
    /// - Parameter user: a user who exists; nil for MONITOR_TOKEN, which `credential` then names.
    package func openSession(
        _ id: String, user: String?, credential: String = "", address: String, lifetime: SessionLifetime, at now: Date
    ) async throws {
        try await write { db in
            try db.execute(
                sql: "DELETE FROM session WHERE used_at < ? OR created_at < ?",
                arguments: [now.timeIntervalSince1970 - lifetime.idle, now.timeIntervalSince1970 - lifetime.absolute])
            try db.execute(
                sql: "INSERT INTO session (id, user, credential, created_at, used_at, address) VALUES (?, ?, ?, ?, ?, ?)",
                arguments: [id, user?.lowercased(), credential, now.timeIntervalSince1970, now.timeIntervalSince1970, address])
            if let user {
                try db.execute(
                    sql: "UPDATE user SET signed_in_at = ? WHERE name = ?", arguments: [now.timeIntervalSince1970, user.lowercased()])
            }
        }
    }

    /// - Parameter isUse: whether somebody asks for something; false for a look whether the session still is.
    /// - Returns: nil for a session that is unknown or over, or whose user may not sign in any more.
    package func session(_ id: String, lifetime: SessionLifetime, at now: Date, isUse: Bool = true) async throws -> MonitorSession? {
        let found = try await read { db in
            try Row.fetchOne(
                db,
                sql: """
                    SELECT session.*, user.role, user.is_disabled FROM session LEFT JOIN user ON user.name = session.user
                    WHERE session.id = ?
                    """,
                arguments: [id]
            ).flatMap { row -> MonitorSession? in
                if row["user"] as String? != nil, row["is_disabled"] as Bool? != false { return nil }
                return MonitorSession(row)
            }
        }
        guard let found, now.timeIntervalSince(found.usedAt) < lifetime.idle, now.timeIntervalSince(found.createdAt) < lifetime.absolute
        else { return nil }
        // Once a minute is exact enough, and most requests write nothing. Where the disk is full, who is signed in goes on reading.
        if isUse, now.timeIntervalSince(found.usedAt) > 60 {
            try? await write { db in
                try db.execute(sql: "UPDATE session SET used_at = ? WHERE id = ?", arguments: [now.timeIntervalSince1970, id])
            }
        }
        return found
    }

    /// Whether `user` is signed in from there already.
    package func hasSession(of user: String, from address: String) async throws -> Bool {
        try await read { db in
            try Bool.fetchOne(
                db, sql: "SELECT EXISTS (SELECT 1 FROM session WHERE user = ? AND address = ?)", arguments: [user.lowercased(), address])
                ?? false
        }
    }

    package func closeSession(_ id: String) async throws {
        try await write { db in try db.execute(sql: "DELETE FROM session WHERE id = ?", arguments: [id]) }
    }

    /// Signs `user` (nil: whoever signed in with MONITOR_TOKEN) out everywhere.
    ///
    /// - Parameter audit: makes the audit's entry of how many sessions there were.
    package func closeSessions(of user: String?, audit: @escaping @Sendable (Int) -> AuditEntry) async throws {
        try await write { db in
            try db.execute(sql: "DELETE FROM session WHERE user IS ?", arguments: [user?.lowercased()])
            try Self.record(audit(db.changesCount), db)
        }
    }

    /// The latest used first.
    package func sessions(of user: String?, lifetime: SessionLifetime, at now: Date) async throws -> [MonitorSession] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT session.*, user.role FROM session LEFT JOIN user ON user.name = session.user
                    WHERE session.user IS ? AND session.used_at >= ? AND session.created_at >= ? ORDER BY session.used_at DESC LIMIT 100
                    """,
                arguments: [
                    user?.lowercased(), now.timeIntervalSince1970 - lifetime.idle, now.timeIntervalSince1970 - lifetime.absolute,
                ]
            ).map(MonitorSession.init)
        }
    }
}

extension MonitorSession {
    fileprivate init(_ row: Row) {
        let user = row["user"] as String?
        self.init(
            id: row["id"],
            user: user,
            role: user == nil ? nil : AccountRole(rawValue: row["role"] as String? ?? "") ?? .viewer,
            credential: row["credential"],
            createdAt: Date(timeIntervalSince1970: row["created_at"]),
            usedAt: Date(timeIntervalSince1970: row["used_at"]),
            address: row["address"])
    }
}
