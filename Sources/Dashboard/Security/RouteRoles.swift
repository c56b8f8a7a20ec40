import HTTPTypes
import JobStore

/// Who may ask for what: one entry for each route. What has none is an admin's: a forgotten entry shuts people out and lets nobody in.
struct RouteRoles: Sendable {
    enum Requirement: Sendable, Hashable {
        /// Nothing of the pipeline is in it.
        case everyone
        case role(AccountRole)
    }

    private let requirements: [String: Requirement]

    init(_ requirements: [String: Requirement]) { self.requirements = requirements }

    /// The pages, and the API, whose own table says who may use it.
    init(_ api: APIRoutes) {
        let entries = api.routes.map { ("\($0.method) \(APIRoutes.root)\($0.path)", Requirement.role($0.role)) }
        requirements = Self.pages.merging(entries) { _, new in new }
    }

    /// - Parameter route: as the router names it, `/runs/{id}`.
    /// - Returns: nil when it was forgotten.
    func requirement(_ method: HTTPRequest.Method, _ route: String) -> Requirement? {
        // Each GET answers HEAD too.
        requirements["\(method == .head ? "GET" : method.rawValue) \(route)"]
    }

    static let pages: [String: Requirement] = Dictionary(
        uniqueKeysWithValues: everyone.map { ($0, .everyone) } + viewer.map { ($0, .role(.viewer)) }
            + `operator`.map { ($0, .role(.operator)) } + admin.map { ($0, .role(.admin)) })

    private static let everyone = [
        "GET /healthz", "GET /readyz", "GET /assets/{name}", "GET /sign-in", "POST /sign-in", "POST /sign-out",
    ]

    private static let viewer = [
        "GET /", "GET /runs", "GET /runs/{id}", "GET /jobs/{id}", "GET /jobs/{id}/log", "GET /workers", "GET /queues", "GET /services",
        "GET /dead", "GET /bulk", "GET /bulk/new", "GET /bulk/{id}",
        "GET /events", "GET /artifacts/{job}/**", "GET /metrics", "GET /account", "POST /account/password", "POST /account/sign-out",
    ]

    private static let `operator` = [
        "POST /runs/{id}/retry", "POST /runs/{id}/cancel", "POST /runs/{id}/reprocess", "POST /runs/{id}/reveal", "POST /runs/{id}/hide",
        "POST /jobs/{id}/retry", "POST /jobs/{id}/cancel", "POST /jobs/{id}/rerun", "POST /jobs/{id}/priority",
        "POST /jobs/{id}/discard", "POST /services/{id}/pause", "POST /services/{id}/resume",
        "POST /dead/undecodable/{id}/requeue", "POST /dead/undecodable/{id}/discard",
        "POST /workers/{id}/drain", "POST /workers/{id}/resume", "POST /channels/{id}/pause", "POST /channels/{id}/resume",
        "GET /audit", "POST /bulk", "POST /bulk/{id}/cancel",
    ]

    private static let admin = [
        "GET /users", "POST /users", "POST /users/{id}/role", "POST /users/{id}/password", "POST /users/{id}/disable",
        "POST /users/{id}/enable", "POST /users/{id}/remove", "POST /users/{id}/sign-out", "POST /tokens", "POST /tokens/{id}/revoke",
        "POST /dead/undecodable/{id}/reveal",
        "GET /webhooks", "POST /webhooks", "GET /webhooks/{id}", "POST /webhooks/{id}", "POST /webhooks/{id}/secret",
        "POST /webhooks/{id}/remove", "POST /webhooks/{id}/enable", "POST /webhooks/{id}/disable", "POST /webhooks/{id}/test",
        "POST /webhooks/{id}/deliveries/{delivery}/again",
    ]
}
