import Hummingbird

/// Without sign-in, a page of another site that has its name resolve to 127.0.0.1 could read and steer the pipeline through
/// the user's own browser. Such a request carries that site's name as its host.
struct HostCheck: RouterMiddleware {
    typealias Context = DashboardContext
    let access: Access

    func handle(
        _ request: Request, context: DashboardContext, next: @concurrent (Request, DashboardContext) async throws -> Response
    ) async throws -> Response {
        let name = Self.name(request.head.authority ?? "")
        if ["localhost", "127.0.0.1", "[::1]", "::1", access.configuration.host.lowercased()].contains(name) {
            return try await next(request, context)
        }
        guard try await !access.isOpen() else {
            throw Problem(
                status: .misdirectedRequest, title: "Wrong host",
                detail: "This monitor answers to localhost, 127.0.0.1, [::1] and MONITOR_HOST only.")
        }
        return try await next(request, context)
    }

    /// The host without its port.
    static func name(_ authority: String) -> String {
        let authority = authority.lowercased()
        if authority.hasPrefix("[") {
            return String(authority.prefix { $0 != "]" }) + "]"
        }
        return String(authority.prefix { $0 != ":" })
    }
}
