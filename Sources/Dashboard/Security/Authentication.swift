import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Logging

/// Decides who asks, and whether this one may. Who may not gets no further.
struct Authentication: RouterMiddleware {
    typealias Context = DashboardContext
    let access: Access
    let roles: RouteRoles

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        let now = Date()
        let peer = context.client
        context.client = access.client(request, context)
        let cookie = SessionCookie.name(request)
        if let given = request.cookies[cookie] { context.session = try await access.sessions.find(given.value, at: now) }
        let required = context.isRouted ? roles.requirement(request.method, context.endpointPath ?? "") ?? .role(.admin) : .role(.viewer)
        // What everyone may see is not refused to who sends a wrong token with it.
        if required == .everyone {
            context.identity = try? await access.identity(request, context, peer: peer, at: now)
        } else {
            context.identity = try await access.identity(request, context, peer: peer, at: now)
        }
        try check(required, request, context)
        if case .role(let role) = required {
            context.mayStill = { [access, context] in await access.mayStill(role, request, context, peer: peer, at: Date()) }
        }
        if ![.get, .head, .options].contains(request.method) { try await checkForgery(request, &context) }

        // A browser that has no session yet gets one, for the token in its forms.
        var created: Session?
        if request.method == .get, context.session == nil, !request.wantsJSON, Self.isPage(request) {
            created = access.sessions.fresh()
            context.session = created
        }
        var response = try await next(request, context)
        if let created, response.headers[.setCookie] == nil { response.setCookie(SessionCookie.make(cookie, created, request)) }
        return response
    }

    private func check(_ required: RouteRoles.Requirement, _ request: Request, _ context: DashboardContext) throws {
        guard case .role(let role) = required else { return }
        guard let identity = context.identity else { throw refusal(request) }
        guard identity.may(role) else {
            context.logger.notice(
                "Refused for want of a role",
                metadata: ["actor": "\(identity.actor)", "role": "\(identity.role.rawValue)", "route": "\(context.endpointPath ?? "")"])
            throw Problem.forbidden("This takes the role \(role.rawValue); '\(identity.actor)' is \(identity.role.rawValue).")
        }
    }

    private func refusal(_ request: Request) -> Problem {
        guard Self.isPage(request) else {
            return Access.unauthorized("Send a token as 'Authorization: Bearer <token>', or sign in at /sign-in.")
        }
        let target = request.uri.string.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        return Problem(
            status: .seeOther, title: "Sign in", detail: "Sign in first.", headers: [.location: "/sign-in?next=\(target)"])
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
        if context.identity?.isProgram == true { return }
        guard Self.isSameOrigin(request) else { throw Problem.forbidden("The request came from another site.") }
        if request.wantsJSON {
            // Programs on this machine need no token; a browser would have sent its origin, which was checked.
            if case .loopback = context.identity?.means { return }
            guard let session = context.session, let given = request.headers[.formToken], Secret.matches(given, session.formToken) else {
                throw Problem.forbidden("The X-CSRF-Token header is missing or not this session's.")
            }
            return
        }
        let body = try await request.body.collect(upTo: Self.longestForm)
        context.form = FormDecoding.fields(String(buffer: body))
        guard let session = context.session, let given = context.form["csrf"], Secret.matches(given, session.formToken) else {
            throw Problem.forbidden("This page was open for too long. Go back, reload it, and send the form again.")
        }
    }

    /// Params of a job, with each character as three, and as long again in indentation.
    private static let longestForm = 256 * 1024

    private static func isSameOrigin(_ request: Request) -> Bool {
        if let site = request.headers[.secFetchSite], !["same-origin", "none"].contains(site) { return false }
        guard let origin = request.headers[.origin] else { return true }
        guard let authority = request.head.authority, let separator = origin.range(of: "://") else { return false }
        return origin[separator.upperBound...].lowercased() == authority.lowercased()
    }
}

enum SessionCookie {
    /// Cookies do not know ports: two monitors on one machine must not share one. Behind https the browser takes it from this host alone.
    static func name(_ request: Request) -> String {
        let authority = request.head.authority ?? ""
        let port = authority.split(separator: ":").last.flatMap { UInt16($0) }
        return "\(request.isSecure ? "__Host-" : "")dcm_session_\(port ?? 80)"
    }

    static func make(_ name: String, _ session: Session, _ request: Request) -> Cookie {
        Cookie(name: name, value: session.cookie, path: "/", secure: request.isSecure, httpOnly: true, sameSite: .lax)
    }
}
