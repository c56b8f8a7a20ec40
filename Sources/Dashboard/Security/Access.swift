import Accounts
import Foundation
import HTTPTypes
import Hummingbird
import JobStore

/// What the settings and the store say about who may come in.
struct Access: Sendable {
    let configuration: DashboardConfiguration
    let store: MonitorStore
    let sessions: Sessions
    let throttle = SignInThrottle()
    let passwords: PasswordCheck
    let reveals = Reveals()

    init(configuration: DashboardConfiguration, store: MonitorStore) throws {
        self.configuration = configuration
        self.store = store
        sessions = try Sessions(store: store, lifetime: configuration.sessionLifetime)
        passwords = PasswordCheck(cost: configuration.passwordCost)
    }

    /// Whether nobody has to sign in: on loopback, without a token, a proxy and users.
    func isOpen() async throws -> Bool {
        if configuration.needsSignIn { return false }
        return try await !store.hasUsers()
    }

    /// The client's own address, through a proxy of ours.
    func client(_ request: Request, _ context: DashboardContext) -> String {
        guard let proxy = configuration.proxy else { return context.client }
        let forwarded = request.headers[values: .forwardedFor].joined(separator: ",")
        return proxy.client(of: context.client, forwardedFor: forwarded.isEmpty ? nil : forwarded)
    }

    /// - Parameter peer: who connects, which `context.client` no longer is behind a proxy.
    func identity(_ request: Request, _ context: DashboardContext, peer: String, at now: Date) async throws -> Identity? {
        if let given = Self.bearerToken(request) { return try await identity(bearer: given, context, at: now) }
        if let identity = try await proxied(request, context, peer) { return identity }
        if let record = context.session?.record, let identity = identity(of: record, context) { return identity }
        if try await isOpen() { return Identity(means: .loopback, actor: "local", role: .operator, address: context.client) }
        return nil
    }

    /// Looks anew. No use of the session: a page that is only open keeps nobody signed in.
    func mayStill(_ role: AccountRole, _ request: Request, _ context: DashboardContext, peer: String, at now: Date) async -> Bool {
        var context = context
        if let session = context.session {
            context.session?.record = try? await store.session(session.id, lifetime: sessions.lifetime, at: now, isUse: false)
        }
        return (try? await identity(request, context, peer: peer, at: now))?.may(role) ?? false
    }

    private func identity(bearer given: String, _ context: DashboardContext, at now: Date) async throws -> Identity? {
        if let token = configuration.token, Secret.matches(given, token) {
            return Identity(means: .token, actor: "api", role: .operator, address: context.client)
        }
        // The right token always passes: behind a proxy all clients share one address, and one who guesses must not shut out the rest.
        if let token = try await store.token(hash: SecretText.digest(given), at: now) {
            return Identity(means: .apiToken(token.id), actor: "token:\(token.name)", role: token.role, address: context.client)
        }
        // Where nobody has to sign in, a token is no more than unnecessary.
        if try await isOpen() { return Identity(means: .loopback, actor: "local", role: .operator, address: context.client) }
        if let seconds = throttle.wait(for: .client(context.client), at: now) { throw SignIn.tooManyFailures(seconds) }
        throttle.failed(.client(context.client), at: now)
        throw Self.unauthorized("The bearer token is neither the monitor's MONITOR_TOKEN nor a valid API token.")
    }

    private func proxied(_ request: Request, _ context: DashboardContext, _ peer: String) async throws -> Identity? {
        guard let proxy = configuration.proxy, proxy.trusts(peer), let header = proxy.header.flatMap({ HTTPField.Name($0) }),
            let name = request.headers[header]?.trimmingCharacters(in: .whitespaces).lowercased(), !name.isEmpty
        else { return nil }
        guard AccountRules.problem(name: name) == nil else {
            throw Problem.forbidden("The proxy names a user in a way that the monitor does not take: 1 to 64 of a-z, 0-9, . - _ @.")
        }
        let user = try await store.user(name)
        if user?.isDisabled == true { throw Problem.forbidden("The user '\(name)' is disabled.") }
        let groups: String? = proxy.rolesHeader.flatMap { HTTPField.Name($0) }.map { name in
            let values: [String] = request.headers[values: name]
            return values.joined(separator: ",")
        }
        let role = proxy.role(of: groups) ?? user?.role ?? .viewer
        return Identity(means: .proxy, actor: name, role: role, address: context.client)
    }

    private func identity(of record: MonitorSession, _ context: DashboardContext) -> Identity? {
        if let user = record.user {
            return Identity(means: .session, actor: user, role: record.role ?? .viewer, address: context.client, hasAccount: true)
        }
        // Opened with a MONITOR_TOKEN that is no longer the one.
        guard let token = configuration.token, record.credential == sessions.fingerprint(token) else { return nil }
        return Identity(means: .session, actor: "operator", role: .operator, address: context.client)
    }

    private static func bearerToken(_ request: Request) -> String? {
        guard let field = request.headers[.authorization] else { return nil }
        let parts = field.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1]).trimmingCharacters(in: .whitespaces)
    }

    static func unauthorized(_ detail: String) -> Problem {
        Problem(status: .unauthorized, title: "Not signed in", detail: detail, headers: [.wwwAuthenticate: "Bearer realm=\"dcm-monitor\""])
    }
}

extension HTTPField.Name {
    static let formToken = HTTPField.Name("X-CSRF-Token")!
    static let secFetchSite = HTTPField.Name("Sec-Fetch-Site")!
    static let lastEventID = HTTPField.Name("Last-Event-ID")!
    static let forwardedFor = HTTPField.Name("X-Forwarded-For")!
    static let forwardedProto = HTTPField.Name("X-Forwarded-Proto")!
}

extension Request {
    /// Whether the browser's own connection is encrypted, as a proxy says.
    var isSecure: Bool { headers[.forwardedProto]?.lowercased() == "https" }
}
