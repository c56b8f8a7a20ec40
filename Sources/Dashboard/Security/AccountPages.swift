import Accounts
import Foundation
import Hummingbird
import JobStore
import Jobs

private struct AccountPage {
    struct Row {
        var address: String
        var created: String
        var used: String
        var isThis: Bool
    }

    var name: String
    var role: String
    var may: String
    var how: String
    var hasPassword: Bool
    var sessions: [Row]
    var hasSessions: Bool
    var message: String?
    var notice: String?
}

/// One's own account: what one may do, where one is signed in, the password.
struct AccountPages: Sendable {
    let access: Access
    let pages: PageController

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/account", use: show)
        router.post("/account/password", use: changePassword)
        router.post("/account/sign-out", use: signOutEverywhere)
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        try await page(request, context, notice: request.query("done") == "password" ? "The password is changed." : nil)
    }

    @Sendable private func changePassword(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        guard let identity = context.identity, identity.hasAccount, let session = context.session,
            let known = try await access.store.credentials(of: identity.actor)
        else { throw Problem.forbidden("Only who signed in with a password has one to change.") }
        let address = SignInThrottle.Subject.client(context.client)
        let account = SignInThrottle.Subject.account(identity.actor)
        // Not the account's pause: who is signed in is not kept out by who guesses from elsewhere.
        let pause: @Sendable () -> Int? = { [throttle = access.throttle] in throttle.wait(for: address, at: Date()) }
        let password = context.form["password"] ?? ""
        let verdict = try await access.passwords.verify(
            context.form["current"] ?? "", against: known.password, unless: { pause() != nil },
            countWrong: { [throttle = access.throttle] in throttle.failed(address, account, at: now) })
        guard let (isRight, _) = verdict else { throw SignIn.tooManyFailures(pause() ?? 1) }
        guard isRight else {
            try await access.store.record(identity.entry("change-password", .init("user", identity.actor), .refused))
            return try await page(request, context, message: "That is not your present password.")
        }
        if let problem = AccountRules.problem(password: password, of: identity.actor) {
            return try await page(request, context, message: problem)
        }
        guard password == context.form["again"] else { return try await page(request, context, message: "The two new passwords differ.") }
        let hash = try await access.passwords.make(password)
        try await access.store.setPassword(
            identity.actor, hash, keeping: session.id, audit: identity.entry("change-password", .init("user", identity.actor)), at: now)
        return .redirect(to: "/account?done=password")
    }

    @Sendable private func signOutEverywhere(_ request: Request, _ context: DashboardContext) async throws -> Response {
        guard let identity = context.identity, identity.means == .session else { throw Problem.forbidden("Nobody is signed in.") }
        try await access.store.closeSessions(of: identity.hasAccount ? identity.actor : nil) { count in
            identity.entry("sign-out-everywhere", detail: ["sessions": JSONValue(count)])
        }
        return .redirect(to: "/sign-in")
    }

    private func page(
        _ request: Request, _ context: DashboardContext, message: String? = nil, notice: String? = nil
    ) async throws -> Response {
        let identity = try context.requireIdentity()
        let isSession = identity.means == .session
        let sessions =
            isSession
            ? try await access.store.sessions(
                of: identity.hasAccount ? identity.actor : nil, lifetime: access.sessions.lifetime, at: Date()) : []
        let model = AccountPage(
            name: identity.actor, role: identity.role.rawValue, may: Self.words(identity.role), how: Self.words(identity.means),
            hasPassword: identity.hasAccount,
            sessions: sessions.map { session in
                AccountPage.Row(
                    address: session.address, created: Markup.time(session.createdAt), used: Markup.time(session.usedAt, isRelative: true),
                    isThis: session.id == context.session?.id)
            },
            hasSessions: isSession, message: message, notice: notice)
        return try pages.pages.response(
            "account", model, title: "Account", context, frame: await pages.frameWithoutLedger("/account", request),
            status: message == nil ? .ok : .unprocessableContent)
    }

    private static func words(_ role: AccountRole) -> String {
        switch role {
        case .viewer: "sees everything but what identifies patients"
        case .operator: "retries, cancels, pauses, and may reveal what identifies a patient, which is recorded"
        case .admin: "may do what an operator may, and manages users and tokens"
        }
    }

    private static func words(_ means: Identity.Means) -> String {
        switch means {
        case .session: "signed in here"
        case .proxy: "signed in by the proxy in front of the monitor"
        case .loopback: "nobody has to sign in on this machine"
        case .token, .apiToken: "by a token"
        }
    }
}

extension PageController {
    /// Who may sign in can be seen to while the router has not made its ledger yet, too.
    func frameWithoutLedger(_ current: String, _ request: Request) async -> PageFrame {
        (try? await frame(current, request)) ?? PageFrame()
    }
}
