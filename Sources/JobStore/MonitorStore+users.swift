package import Foundation
import GRDB

/// Somebody who may sign in.
package struct MonitorUser: Sendable, Hashable {
    /// Lower case.
    package var name: String
    package var role: AccountRole
    package var isDisabled: Bool
    package var createdAt: Date
    package var passwordChangedAt: Date
    package var signedInAt: Date?
}

/// Who changes a user hands in the audit's entry: both are written in one transaction, or neither is.
extension MonitorStore {
    package func users() async throws -> [MonitorUser] {
        try await read { db in try Row.fetchAll(db, sql: "SELECT * FROM user ORDER BY name").map(MonitorUser.init) }
    }

    /// Whether there are any, disabled ones included: shutting out the last one must not open the door to everybody.
    package func hasUsers() async throws -> Bool { try await read(Self.hasUsers) }

    /// The same before there is anybody to wait for.
    package func hasUsers() throws -> Bool { try database.read(Self.hasUsers) }

    private static func hasUsers(_ db: Database) throws -> Bool {
        try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM user)") ?? false
    }

    package func user(_ name: String) async throws -> MonitorUser? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM user WHERE name = ?", arguments: [name.lowercased()]).map(MonitorUser.init)
        }
    }

    /// The user and what the password is checked with.
    package func credentials(of name: String) async throws -> (user: MonitorUser, password: String)? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM user WHERE name = ?", arguments: [name.lowercased()])
                .map { (MonitorUser($0), $0["password"]) }
        }
    }

    /// - Parameter password: its hash.
    /// - Throws: `MonitorStoreError` `.exists`.
    package func addUser(_ name: String, role: AccountRole, password: String, audit: AuditEntry? = nil, at now: Date) async throws {
        let name = name.lowercased()
        try await write { db in
            guard try Self.row(name, db) == nil else {
                throw MonitorStoreError(code: .exists, message: "There is a user '\(name)' already.")
            }
            try db.execute(
                sql: "INSERT INTO user (name, role, password, created_at, password_at) VALUES (?, ?, ?, ?, ?)",
                arguments: [name, role.rawValue, password, now.timeIntervalSince1970, now.timeIntervalSince1970])
            if let audit { try Self.record(audit, db) }
        }
    }

    /// Ends all of the user's sessions but `session`.
    package func setPassword(
        _ name: String, _ password: String, keeping session: String? = nil, audit: AuditEntry? = nil, at now: Date
    ) async throws {
        let name = name.lowercased()
        try await change(name, audit: audit) { db in
            try db.execute(
                sql: "UPDATE user SET password = ?, password_at = ? WHERE name = ?", arguments: [password, now.timeIntervalSince1970, name])
            try db.execute(sql: "DELETE FROM session WHERE user = ? AND id <> ?", arguments: [name, session ?? ""])
        }
    }

    /// The same password, hashed with today's parameters.
    package func replaceHash(of name: String, _ old: String, with new: String) async throws {
        try await write { db in
            try db.execute(sql: "UPDATE user SET password = ? WHERE name = ? AND password = ?", arguments: [new, name.lowercased(), old])
        }
    }

    /// - Parameter keepsAdmin: refuses to take the role from the last one who has it.
    package func setRole(_ name: String, _ role: AccountRole, keepsAdmin: Bool, audit: AuditEntry? = nil) async throws {
        let name = name.lowercased()
        try await change(name, keepsAdmin: keepsAdmin, audit: audit) { db in
            try db.execute(sql: "UPDATE user SET role = ? WHERE name = ?", arguments: [role.rawValue, name])
        }
    }

    /// A disabled user cannot sign in, and is signed out everywhere.
    package func setDisabled(_ name: String, _ isDisabled: Bool, keepsAdmin: Bool, audit: AuditEntry? = nil) async throws {
        let name = name.lowercased()
        try await change(name, keepsAdmin: keepsAdmin, audit: audit) { db in
            try db.execute(sql: "UPDATE user SET is_disabled = ? WHERE name = ?", arguments: [isDisabled, name])
            if isDisabled { try db.execute(sql: "DELETE FROM session WHERE user = ?", arguments: [name]) }
        }
    }

    package func removeUser(_ name: String, keepsAdmin: Bool, audit: AuditEntry? = nil) async throws {
        let name = name.lowercased()
        try await change(name, keepsAdmin: keepsAdmin, audit: audit) { db in
            try db.execute(sql: "DELETE FROM user WHERE name = ?", arguments: [name])
        }
    }

    private func change(
        _ name: String, keepsAdmin: Bool = false, audit: AuditEntry?, _ body: @escaping @Sendable (Database) throws -> Void
    ) async throws {
        try await write { db in
            guard try Self.row(name, db) != nil else {
                throw MonitorStoreError(code: .missing, message: "There is no user '\(name)'.")
            }
            let admins = try Self.admins(db)
            try body(db)
            if keepsAdmin, admins > 0, try Self.admins(db) == 0 {
                throw MonitorStoreError(
                    code: .lastAdmin, message: "'\(name)' is the only admin who can sign in. Make somebody else an admin first.")
            }
            if let audit { try Self.record(audit, db) }
        }
    }

    private static func row(_ name: String, _ db: Database) throws -> Row? {
        try Row.fetchOne(db, sql: "SELECT * FROM user WHERE name = ?", arguments: [name])
    }

    private static func admins(_ db: Database) throws -> Int {
        try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM user WHERE role = 'admin' AND is_disabled = 0") ?? 0
    }
}

extension MonitorUser {
    fileprivate init(_ row: Row) {
        self.init(
            name: row["name"],
            // What a newer version may have written gives no more than the least.
            role: AccountRole(rawValue: row["role"]) ?? .viewer,
            isDisabled: row["is_disabled"],
            createdAt: Date(timeIntervalSince1970: row["created_at"]),
            passwordChangedAt: Date(timeIntervalSince1970: row["password_at"]),
            signedInAt: (row["signed_in_at"] as Double?).map { Date(timeIntervalSince1970: $0) })
    }
}
