import Foundation
import JobStore
import Jobs

/// Who asks, by which right, and what that allows.
struct Identity: Sendable {
    enum Means: Sendable, Hashable {
        /// MONITOR_TOKEN in the Authorization header.
        case token
        /// An API token of somebody's, by its id.
        case apiToken(String)
        /// Nobody has to sign in.
        case loopback
        /// Signed in with a password, or with MONITOR_TOKEN.
        case session
        /// A trusted proxy says so.
        case proxy
    }

    var means: Means
    /// How commands and the audit name who asked: a user's name, `token:<name>`, `api`, `operator` or `local`.
    var actor: String
    var role: AccountRole
    /// Where the request came from.
    var address: String

    /// A user who is on record, and so has a password to change.
    var hasAccount = false

    func may(_ role: AccountRole) -> Bool { self.role >= role }

    /// What the audit keeps of something that this one does.
    func entry(
        _ action: String, _ target: AuditEntry.Target? = nil, _ outcome: AuditEntry.Outcome = .done, detail: JSONValue = [:]
    ) -> AuditEntry {
        AuditEntry(actor: actor, role: role, address: address, action: action, target: target, outcome: outcome, detail: detail)
    }

    /// Whether a request carries its right itself, so that no other site can borrow it.
    var isProgram: Bool {
        switch means {
        case .token, .apiToken: true
        case .loopback, .session, .proxy: false
        }
    }
}
