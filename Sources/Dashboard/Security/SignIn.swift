import Accounts
import Foundation
import Hummingbird
import JobStore
import Jobs
import Logging

/// The page on which people sign in: with name and password, or with the monitor's token.
struct SignIn: Sendable {
    let access: Access
    let pages: PageRenderer

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/sign-in", use: show)
        router.post("/sign-in", use: submit)
        router.post("/sign-out", use: leave)
    }

    static func tooManyFailures(_ seconds: Int) -> Problem {
        Problem(
            status: .tooManyRequests, title: "Too many attempts", detail: "That was wrong too often. Try again in \(seconds) s.",
            headers: [.retryAfter: String(seconds)])
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        if context.identity != nil { return .redirect(to: "/") }
        return try await page(request.query("next"), message: nil, .ok, context)
    }

    @Sendable private func submit(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        if context.form["name"] != nil { return try await submitPassword(request, context, now) }
        guard let token = access.configuration.token else { return .redirect(to: "/") }
        guard Secret.matches(context.form["token"] ?? "", token) else {
            if let seconds = access.throttle.wait(for: .client(context.client), at: now) {
                return try await page(context.form["next"], message: Self.tooManyFailures(seconds).detail, .tooManyRequests, context)
            }
            access.throttle.failed(.client(context.client), at: now)
            try await failed("operator", context, now)
            return try await page(context.form["next"], message: "This is not the monitor's token.", .unauthorized, context)
        }
        access.throttle.succeeded(.client(context.client))
        return try await enter(
            nil, Identity(means: .session, actor: "operator", role: .operator, address: context.client), request, context, now)
    }

    private func submitPassword(_ request: Request, _ context: DashboardContext, _ now: Date) async throws -> Response {
        let name = (context.form["name"] ?? "").trimmingCharacters(in: .whitespaces).lowercased()
        let password = context.form["password"] ?? ""
        let address = SignInThrottle.Subject.client(context.client)
        let account = SignInThrottle.Subject.account(String(name.prefix(64)))
        // Who guesses at an account from elsewhere does not keep its owner out of where this one works.
        let isFamiliar = try await access.store.hasSession(of: name, from: context.client)
        let pause: @Sendable () -> Int? = { [throttle = access.throttle] in
            isFamiliar ? throttle.wait(for: address, at: Date()) : throttle.wait(for: address, account, at: Date())
        }
        let known = try await access.store.credentials(of: name)
        // The password of somebody who is unknown or disabled takes as long to be wrong as any other.
        let countWrong: @Sendable () -> Void = { [throttle = access.throttle] in throttle.failed(address, account, at: now) }
        guard
            let (isRight, replacement) = try await access.passwords.verify(
                password, against: known?.password, unless: { pause() != nil }, countWrong: countWrong)
        else {
            return try await page(context.form["next"], message: Self.tooManyFailures(pause() ?? 1).detail, .tooManyRequests, context)
        }
        guard let known, isRight, !known.user.isDisabled else {
            // Who is disabled is told the same, and it counts the same.
            if isRight { countWrong() }
            // What was typed as a name may be a password.
            try await failed(known?.user.name ?? "unknown", context, now)
            return try await page(context.form["next"], message: "The name or the password is wrong.", .unauthorized, context)
        }
        access.throttle.succeeded(address, account)
        if let replacement { try await access.store.replaceHash(of: name, known.password, with: replacement) }
        return try await enter(
            known.user.name, Identity(means: .session, actor: known.user.name, role: known.user.role, address: context.client), request,
            context, now)
    }

    private func enter(
        _ user: String?, _ identity: Identity, _ request: Request, _ context: DashboardContext, _ now: Date
    ) async throws -> Response {
        if let old = context.session, old.isSignedIn { try await access.store.closeSession(old.id) }
        let credential = user == nil ? access.configuration.token.map(access.sessions.fingerprint) ?? "" : ""
        let session = try await access.sessions.open(user: user, credential: credential, address: context.client, at: now)
        try await access.store.record(identity.entry("sign-in"))
        var response = Response.redirect(to: Self.local(context.form["next"]))
        response.setCookie(SessionCookie.make(SessionCookie.name(request), session, request))
        return response
    }

    private func failed(_ actor: String, _ context: DashboardContext, _ now: Date) async throws {
        context.logger.info("A sign-in failed", metadata: ["client": "\(context.client)"])
        try await access.store.record(
            AuditEntry(at: now, actor: actor, address: context.client, action: "sign-in", outcome: .refused))
    }

    @Sendable private func leave(_ request: Request, _ context: DashboardContext) async throws -> Response {
        if let session = context.session, session.isSignedIn {
            try await access.store.closeSession(session.id)
            if let identity = context.identity { try await access.store.record(identity.entry("sign-out")) }
        }
        return .redirect(to: "/sign-in")
    }

    private func page(
        _ next: String?, message: String?, _ status: HTTPResponse.Status, _ context: DashboardContext
    ) async throws -> Response {
        struct Model {
            var next: String
            var message: String?
            var tokenMessage: String?
            var hasUsers: Bool
            var hasToken: Bool
            var hasBoth: Bool
            var isTokenOpen: Bool
        }
        let hasUsers = try await access.store.hasUsers()
        let hasToken = access.configuration.token != nil
        let isToken = context.form["token"] != nil
        let model = Model(
            next: Self.local(next), message: isToken ? nil : message, tokenMessage: isToken ? message : nil, hasUsers: hasUsers,
            hasToken: hasToken, hasBoth: hasUsers && hasToken, isTokenOpen: isToken)
        return try pages.response("sign-in", model, title: "Sign in", context, status: status)
    }

    /// Only an address of ours: nobody is sent to another site.
    static func local(_ target: String?) -> String {
        guard let target, target.hasPrefix("/"), !target.hasPrefix("//"), !target.contains("\\"),
            target.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return "/" }
        return target
    }
}
