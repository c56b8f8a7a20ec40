import Foundation
import HTTPTypes
import Hummingbird
import Logging

/// Decides who asks. Who may not ask gets no further.
struct Authentication: RouterMiddleware {
    typealias Context = DashboardContext
    let configuration: DashboardConfiguration
    let sessions: Sessions
    let throttle: SignInThrottle

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        let now = Date()
        let cookie = SessionCookie.name(request)
        context.session = request.cookies[cookie].flatMap { sessions.find($0.value, at: now) }
        context.identity = try identity(request, context, now)
        if context.identity == nil, !Self.isOpen(request.uri.path) { throw refusal(request) }
        if request.method == .post { try await checkForgery(request, &context) }

        // A browser that has no session yet gets one, for the token in its forms.
        var created: Session?
        if request.method == .get, context.session == nil, !request.wantsJSON, Self.isPage(request) {
            created = sessions.create(isSignedIn: false, at: now)
            context.session = created
        }
        var response = try await next(request, context)
        if let created, response.headers[.setCookie] == nil { response.setCookie(SessionCookie.make(cookie, created, request)) }
        return response
    }

    private func identity(_ request: Request, _ context: DashboardContext, _ now: Date) throws -> Identity? {
        if let token = configuration.token, let given = Self.bearerToken(request) {
            // The right token always passes: behind a proxy all clients share one address, and one who guesses must not shut out the rest.
            guard Secret.matches(given, token) else {
                if let seconds = throttle.wait(for: context.client, at: now) { throw SignIn.tooManyFailures(seconds) }
                throttle.failed(context.client, at: now)
                throw unauthorized("The bearer token is not the monitor's MONITOR_TOKEN.")
            }
            return Identity(means: .token)
        }
        if !configuration.needsSignIn { return Identity(means: .loopback) }
        return context.session?.isSignedIn == true ? Identity(means: .session) : nil
    }

    private static func bearerToken(_ request: Request) -> String? {
        guard let field = request.headers[.authorization] else { return nil }
        let parts = field.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1]).trimmingCharacters(in: .whitespaces)
    }

    private func refusal(_ request: Request) -> Problem {
        guard Self.isPage(request) else {
            return unauthorized("Send MONITOR_TOKEN as 'Authorization: Bearer <token>', or sign in at /sign-in.")
        }
        let target = request.uri.string.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        return Problem(
            status: .seeOther, title: "Sign in", detail: "Sign in first.", headers: [.location: "/sign-in?next=\(target)"])
    }

    private func unauthorized(_ detail: String) -> Problem {
        Problem(status: .unauthorized, title: "Not signed in", detail: detail, headers: [.wwwAuthenticate: "Bearer realm=\"dcm-monitor\""])
    }

    /// What everyone may see: nothing of the pipeline is in it.
    private static func isOpen(_ path: String) -> Bool {
        ["/healthz", "/readyz", "/sign-in"].contains(path) || path.hasPrefix("/assets/")
    }

    private static func isPage(_ request: Request) -> Bool {
        let path = request.uri.path
        return request.method == .get && !request.wantsJSON
            && !["/metrics", "/healthz", "/readyz"].contains(path) && !path.hasPrefix("/artifacts/") && !path.hasPrefix("/assets/")
    }
}

// MARK: - Requests that another site sends in the user's name

extension Authentication {
    private func checkForgery(_ request: Request, _ context: inout DashboardContext) async throws {
        // A token that the program itself sent cannot be borrowed.
        if case .token = context.identity?.means { return }
        guard Self.isSameOrigin(request) else { throw Problem.forbidden("The request came from another site.") }
        if request.wantsJSON {
            // Programs on this machine need no token; a browser would have sent its origin, which was checked.
            if case .loopback = context.identity?.means { return }
            guard let session = context.session, let given = request.headers[.formToken], Secret.matches(given, session.formToken) else {
                throw Problem.forbidden("The X-CSRF-Token header is missing or not this session's.")
            }
            return
        }
        let body = try await request.body.collect(upTo: 16 * 1024)
        context.form = FormDecoding.fields(String(buffer: body))
        guard let session = context.session, let given = context.form["csrf"], Secret.matches(given, session.formToken) else {
            throw Problem.forbidden("This page was open for too long. Go back, reload it, and send the form again.")
        }
    }

    private static func isSameOrigin(_ request: Request) -> Bool {
        if let site = request.headers[.secFetchSite], !["same-origin", "none"].contains(site) { return false }
        guard let origin = request.headers[.origin] else { return true }
        guard let authority = request.head.authority, let separator = origin.range(of: "://") else { return false }
        return origin[separator.upperBound...].lowercased() == authority.lowercased()
    }
}

extension HTTPField.Name {
    static let formToken = HTTPField.Name("X-CSRF-Token")!
    static let secFetchSite = HTTPField.Name("Sec-Fetch-Site")!
    static let lastEventID = HTTPField.Name("Last-Event-ID")!
}

enum SessionCookie {
    /// Cookies do not know ports: two monitors on one machine must not share one.
    static func name(_ request: Request) -> String {
        let authority = request.head.authority ?? ""
        let port = authority.split(separator: ":").last.flatMap { UInt16($0) }
        return "dcm_session_\(port ?? 80)"
    }

    static func make(_ name: String, _ session: Session, _ request: Request) -> Cookie {
        let isSecure = request.headers[HTTPField.Name("X-Forwarded-Proto")!]?.lowercased() == "https"
        return Cookie(name: name, value: session.id, path: "/", secure: isSecure, httpOnly: true, sameSite: .lax)
    }
}
