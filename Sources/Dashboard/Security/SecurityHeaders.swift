import HTTPTypes
import Hummingbird

/// Nothing of ours is framed, cached, sniffed or loads anything from elsewhere; no script but our own files runs.
struct SecurityHeaders: RouterMiddleware {
    typealias Context = DashboardContext

    static let policy = """
        default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
        form-action 'self'; base-uri 'none'; frame-ancestors 'none'
        """

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        var response = try await next(request, context)
        for (name, value) in [
            ("Content-Security-Policy", Self.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
            ("Cache-Control", "no-store"),
            // Only where the browser came by https: others would ignore it, and it must not come from a guess.
            ("Strict-Transport-Security", request.isSecure ? "max-age=31536000" : nil),
        ] {
            guard let name = HTTPField.Name(name), let value, response.headers[name] == nil else { continue }
            response.headers[name] = value
        }
        return response
    }
}
