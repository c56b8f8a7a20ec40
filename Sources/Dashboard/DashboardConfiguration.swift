package import Accounts
package import Foundation
package import JobStore

/// How the monitor is served.
package struct DashboardConfiguration: Sendable {
    /// The address to bind.
    package var host: String
    /// 0 takes any free port.
    package var port: Int
    /// Who sends it as a bearer token, or signs in with it, is an operator.
    package var token: String?
    /// Root of everything that jobs write; artifacts are served from it.
    package var data: URL
    package var logs: URL
    /// Stands in front.
    package var proxy: ProxySignIn?
    package var sessionLifetime = SessionLifetime()
    package var passwordCost = PasswordHash.Cost.standard
    /// Where people find RabbitMQ's own pages, http or https.
    package var management: String?
    /// Where people find the images.
    package var orthanc = OrthancPages()
    /// How others reach the monitor, without a slash at the end: what links in messages begin with.
    package var address: String?

    /// - Parameter hasUsers: whether somebody can sign in with a password.
    /// - Throws: `DashboardError` when `host` can be reached from other machines and nobody could sign in.
    package init(
        host: String = "127.0.0.1", port: Int = 8080, token: String? = nil, proxy: ProxySignIn? = nil, hasUsers: Bool = false, data: URL,
        logs: URL
    ) throws(DashboardError) {
        let token = token.flatMap { $0.isEmpty ? nil : $0 }
        if token == nil, proxy?.header == nil, !hasUsers, !Self.isLoopback(host) {
            throw DashboardError(
                code: .noToken,
                message: """
                    MONITOR_HOST is '\(host)', which other machines can reach, and MONITOR_TOKEN is not set. \
                    Set MONITOR_TOKEN to a long secret, add a user, or set MONITOR_HOST to 127.0.0.1.
                    """)
        }
        self.host = host
        self.port = port
        self.token = token
        self.proxy = proxy
        self.data = data
        self.logs = logs
    }

    /// False only on a loopback address without a token and a proxy; then nobody has to sign in as long as there are no users. A proxy or
    /// another account of this machine comes from loopback too, so the address alone says nothing of who asks.
    package var needsSignIn: Bool { token != nil || proxy?.header != nil || !Self.isLoopback(host) }

    private static func isLoopback(_ host: String) -> Bool {
        let host = host.trimmingCharacters(in: ["[", "]"])
        if host == "localhost" || host == "::1" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}

/// Why the monitor cannot be served.
package struct DashboardError: Error, CustomStringConvertible {
    package struct Code: Sendable, Hashable {
        fileprivate enum Value: String {
            case noToken
            case portInUse
            case cannotBind
            case resources
        }

        fileprivate let value: Value

        /// Reachable from other machines, and nobody could sign in.
        package static let noToken = Code(value: .noToken)
        /// Something else listens on the port.
        package static let portInUse = Code(value: .portInUse)
        /// The address is not this machine's, or the port needs more rights.
        package static let cannotBind = Code(value: .cannotBind)
        /// The templates that belong to the executable are missing.
        package static let resources = Code(value: .resources)
    }

    package var code: Code
    package var message: String

    package var description: String { message }
}
