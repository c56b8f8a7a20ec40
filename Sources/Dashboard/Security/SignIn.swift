import Foundation
import Hummingbird
import Logging

/// The page on which people enter the monitor's token.
struct SignIn: Sendable {
    let configuration: DashboardConfiguration
    let sessions: Sessions
    let throttle: SignInThrottle
    let pages: PageRenderer

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/sign-in", use: show)
        router.post("/sign-in", use: submit)
        router.post("/sign-out", use: leave)
    }

    static func tooManyFailures(_ seconds: Int) -> Problem {
        Problem(
            status: .tooManyRequests, title: "Too many attempts", detail: "The token was wrong too often. Try again in \(seconds) s.",
            headers: [.retryAfter: String(seconds)])
    }

    @Sendable private func show(_ request: Request, _ context: DashboardContext) async throws -> Response {
        if context.identity != nil { return .redirect(to: "/") }
        return try page(request.query("next"), message: nil, .ok, context)
    }

    @Sendable private func submit(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        guard let token = configuration.token else { return .redirect(to: "/") }
        guard Secret.matches(context.form["token"] ?? "", token) else {
            if let seconds = throttle.wait(for: context.client, at: now) {
                return try page(context.form["next"], message: Self.tooManyFailures(seconds).detail, .tooManyRequests, context)
            }
            throttle.failed(context.client, at: now)
            context.logger.info("A sign-in failed", metadata: ["client": "\(context.client)"])
            return try page(context.form["next"], message: "This is not the monitor's token.", .unauthorized, context)
        }
        throttle.succeeded(context.client)
        // A new id, so that nobody who planted the old one is signed in too.
        if let old = context.session { sessions.remove(old.id) }
        let session = sessions.create(isSignedIn: true, at: now)
        var response = Response.redirect(to: Self.local(context.form["next"]))
        response.setCookie(SessionCookie.make(SessionCookie.name(request), session, request))
        return response
    }

    @Sendable private func leave(_ request: Request, _ context: DashboardContext) async throws -> Response {
        if let session = context.session { sessions.remove(session.id) }
        return .redirect(to: "/sign-in")
    }

    private func page(_ next: String?, message: String?, _ status: HTTPResponse.Status, _ context: DashboardContext) throws -> Response {
        struct Model {
            var next: String
            var message: String?
        }
        return try pages.response("sign-in", Model(next: Self.local(next), message: message), title: "Sign in", context, status: status)
    }

    /// Only an address of ours: nobody is sent to another site.
    static func local(_ target: String?) -> String {
        guard let target, target.hasPrefix("/"), !target.hasPrefix("//"), !target.contains("\\"),
            target.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return "/" }
        return target
    }
}
