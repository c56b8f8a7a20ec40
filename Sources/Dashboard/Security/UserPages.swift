import Accounts
import Foundation
import Hummingbird
import JobStore
import Jobs

private struct UsersPage {
    struct Role {
        var name: String
        var isCurrent: Bool
    }

    struct User {
        var name: String
        var roles: [Role]
        var role: String
        var isDisabled: Bool
        var created: String
        var passwordChanged: String
        var signedIn: String
        var isSelf: Bool
    }

    struct Token {
        var id: String
        var name: String
        var role: String
        var by: String
        var created: String
        var expires: String
        var used: String
        var isValid: Bool
        var state: String
    }

    struct Fresh {
        var name: String
        var token: String
    }

    var users: [User]
    var tokens: [Token]
    var roles: [Role]
    var fresh: Fresh?
    var message: String?
    var notice: String?
}

/// Users and API tokens, for admins.
struct UserPages: Sendable {
    let access: Access
    let pages: PageController

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/users", use: show)
        router.post("/users", use: add)
        router.post("/users/:id/role") { try await change("set-role", $0, $1, setRole) }
        router.post("/users/:id/password") { try await change("set-password", $0, $1, setPassword) }
        router.post("/users/:id/disable") { try await change("disable-user", $0, $1) { try await setDisabled($0, true, $2) } }
        router.post("/users/:id/enable") { try await change("enable-user", $0, $1) { try await setDisabled($0, false, $2) } }
        router.post("/users/:id/remove") { try await change("remove-user", $0, $1, remove) }
        router.post("/users/:id/sign-out") { try await change("sign-out-user", $0, $1, signOut) }
        router.post("/tokens", use: addToken)
        router.post("/tokens/:id/revoke", use: revokeToken)
    }

    /// What was asked for cannot be, in words for the person who asked.
    private struct Refusal: Error {
        var message: String
    }

    // MARK: Users

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        try await page(request, context, notice: Self.notice(request.query("done")))
    }

    @Sendable private func add(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let name = (context.form["name"] ?? "").trimmingCharacters(in: .whitespaces).lowercased()
        do {
            if let problem = AccountRules.problem(name: name) { throw Refusal(message: problem) }
            let role = try Self.role(context)
            let entry = identity.entry("add-user", .init("user", name), detail: ["role": .string(role.rawValue)])
            try await access.store.addUser(name, role: role, password: password(context, of: name), audit: entry, at: Date())
        } catch let refusal as Refusal {
            return try await page(request, context, message: refusal.message)
        } catch let error as MonitorStoreError where error.code == .exists {
            return try await page(request, context, message: error.message)
        }
        return .redirect(to: "/users?done=add-user")
    }

    /// - Parameter body: does it and writes down the entry that it is given, in one transaction.
    private func change(
        _ action: String, _ request: Request, _ context: DashboardContext,
        _ body: (_ name: String, _ context: DashboardContext, _ entry: AuditEntry) async throws -> Void
    ) async throws -> Response {
        let identity = try context.requireIdentity()
        let name = try context.parameters.require("id")
        do {
            try await body(name, context, identity.entry(action, .init("user", name)))
        } catch let refusal as Refusal {
            return try await page(request, context, message: refusal.message)
        } catch let error as MonitorStoreError where error.code == .missing {
            throw Problem.notFound(error.message)
        } catch let error as MonitorStoreError where error.code == .lastAdmin {
            try await access.store.record(identity.entry(action, .init("user", name), .refused))
            return try await page(request, context, message: error.message)
        }
        return .redirect(to: "/users?done=\(action)")
    }

    private func setRole(_ name: String, _ context: DashboardContext, _ entry: AuditEntry) async throws {
        let role = try Self.role(context)
        var entry = entry
        entry.detail = ["role": .string(role.rawValue)]
        try await access.store.setRole(name, role, keepsAdmin: true, audit: entry)
    }

    private func setPassword(_ name: String, _ context: DashboardContext, _ entry: AuditEntry) async throws {
        try await access.store.setPassword(name, password(context, of: name), audit: entry, at: Date())
    }

    private func setDisabled(_ name: String, _ isDisabled: Bool, _ entry: AuditEntry) async throws {
        try await access.store.setDisabled(name, isDisabled, keepsAdmin: true, audit: entry)
    }

    private func remove(_ name: String, _ context: DashboardContext, _ entry: AuditEntry) async throws {
        try await access.store.removeUser(name, keepsAdmin: true, audit: entry)
    }

    private func signOut(_ name: String, _ context: DashboardContext, _ entry: AuditEntry) async throws {
        try await access.store.closeSessions(of: name) { count in
            var entry = entry
            entry.detail = ["sessions": JSONValue(count)]
            return entry
        }
    }

    private func password(_ context: DashboardContext, of name: String) async throws -> String {
        let password = context.form["password"] ?? ""
        if let problem = AccountRules.problem(password: password, of: name) { throw Refusal(message: problem) }
        return try await access.passwords.make(password)
    }

    private static func role(_ context: DashboardContext) throws -> AccountRole {
        guard let role = AccountRole(rawValue: context.form["role"] ?? "") else {
            throw Refusal(message: "A role is viewer, operator or admin.")
        }
        return role
    }

    // MARK: Tokens

    @Sendable private func addToken(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        let name = (context.form["name"] ?? "").trimmingCharacters(in: .whitespaces).lowercased()
        let now = Date()
        do {
            if let problem = AccountRules.problem(name: name) { throw Refusal(message: problem) }
            let role = try Self.role(context)
            guard let days = Int(context.form["days"] ?? ""), (1...3650).contains(days) else {
                throw Refusal(message: "A token is valid for 1 to 3650 days.")
            }
            let (id, secret) = SecretText.makeToken()
            let token = MonitorToken(
                id: id, name: name, role: role, createdBy: identity.actor, createdAt: now,
                expiresAt: now.addingTimeInterval(Double(days) * 86400))
            let entry = identity.entry(
                "add-token", .init("token", id), detail: ["name": .string(name), "role": .string(role.rawValue), "days": JSONValue(days)])
            try await access.store.addToken(token, hash: SecretText.digest(secret), audit: entry)
            // Not by way of a redirect: the token is on this one answer alone.
            return try await page(request, context, fresh: UsersPage.Fresh(name: name, token: secret))
        } catch let refusal as Refusal {
            return try await page(request, context, message: refusal.message)
        } catch let error as MonitorStoreError where error.code == .exists {
            return try await page(request, context, message: error.message)
        }
    }

    @Sendable private func revokeToken(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let identity = try context.requireIdentity()
        do {
            let entry: @Sendable (MonitorToken) -> AuditEntry = { token in
                identity.entry("revoke-token", .init("token", token.id), detail: ["name": .string(token.name)])
            }
            _ = try await access.store.revokeToken(context.parameters.require("id"), audit: entry, at: Date())
        } catch let error as MonitorStoreError where error.code == .missing {
            throw Problem.notFound(error.message)
        }
        return .redirect(to: "/users?done=revoke-token")
    }

    // MARK: The page

    private func page(
        _ request: Request, _ context: DashboardContext, fresh: UsersPage.Fresh? = nil, message: String? = nil, notice: String? = nil
    ) async throws -> Response {
        let now = Date()
        let users = try await access.store.users().map { user in
            UsersPage.User(
                name: user.name, roles: Self.roles(user.role), role: user.role.rawValue, isDisabled: user.isDisabled,
                created: Markup.time(user.createdAt), passwordChanged: Markup.time(user.passwordChangedAt),
                signedIn: Markup.time(user.signedInAt, isRelative: true), isSelf: user.name == context.identity?.actor)
        }
        let tokens = try await access.store.tokens().map { token in
            UsersPage.Token(
                id: token.id, name: token.name, role: token.role.rawValue, by: token.createdBy, created: Markup.time(token.createdAt),
                expires: token.expiresAt.map { Markup.time($0) } ?? "never", used: Markup.time(token.usedAt, isRelative: true),
                isValid: token.isValid(at: now),
                state: token.revokedAt != nil ? "revoked" : token.isValid(at: now) ? "valid" : "expired")
        }
        let model = UsersPage(
            users: users, tokens: tokens, roles: Self.roles(.viewer), fresh: fresh, message: message, notice: notice)
        return try pages.pages.response(
            "users", model, title: "Users and tokens", context, frame: await pages.frameWithoutLedger("/users", request),
            status: message == nil ? .ok : .unprocessableContent)
    }

    private static func roles(_ current: AccountRole) -> [UsersPage.Role] {
        AccountRole.allCases.map { UsersPage.Role(name: $0.rawValue, isCurrent: $0 == current) }
    }

    /// Only our own words: the address is anybody's.
    private static func notice(_ done: String?) -> String? {
        switch done {
        case "add-user": "The user is added."
        case "set-role": "The role is changed. It counts from the next request on."
        case "set-password": "The password is set, and the user signed out everywhere."
        case "disable-user": "The user is disabled and signed out everywhere."
        case "enable-user": "The user may sign in again."
        case "remove-user": "The user is removed."
        case "sign-out-user": "The user is signed out everywhere."
        case "revoke-token": "The token is revoked."
        default: nil
        }
    }
}
