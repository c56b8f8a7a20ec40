import Foundation
import JobStore

/// By which right somebody has started a bulk operation, and whether the right still stands: it may take hours.
///
/// Kept with the record as `user:anna`, `proxy:anna`, `token:<id>`, or the empty text for the rights of the settings: MONITOR_TOKEN, or that
/// nobody has to sign in. Whoever changes these settings cancels what was started by them; nothing else ends it. Of somebody whom a proxy
/// signs in only the account on record counts, if there is one: what the proxy would say today, nobody can ask it.
struct BulkStarter: Sendable {
    private enum Right {
        case user(String)
        case proxied(String)
        case token(String)
        case settings
    }

    private let right: Right

    init(_ identity: Identity) {
        right =
            switch identity.means {
            case .apiToken(let id): .token(id)
            case .proxy: .proxied(identity.actor)
            case .session where identity.hasAccount: .user(identity.actor)
            case .session, .token, .loopback: .settings
            }
    }

    init(onRecord text: String) {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        right =
            switch parts.first {
            case "user" where parts.count == 2: .user(parts[1])
            case "proxy" where parts.count == 2: .proxied(parts[1])
            case "token" where parts.count == 2: .token(parts[1])
            default: .settings
            }
    }

    var onRecord: String {
        switch right {
        case .user(let name): "user:" + name
        case .proxied(let name): "proxy:" + name
        case .token(let id): "token:" + id
        case .settings: ""
        }
    }

    /// Why nothing more may be done in the starter's name; nil while it may.
    func objection(_ store: MonitorStore, at now: Date) async throws -> String? {
        switch right {
        case .settings: return nil
        case .user(let name):
            guard let user = try await store.user(name) else { return "Stopped: the user \(name), who started it, was removed." }
            if user.isDisabled { return "Stopped: the user \(name), who started it, was disabled." }
            return user.role >= .operator ? nil : "Stopped: the user \(name), who started it, is no operator any more."
        case .proxied(let name):
            let isDisabled = try await store.user(name)?.isDisabled == true
            return isDisabled ? "Stopped: the user \(name), who started it, was disabled." : nil
        case .token(let id):
            guard let token = try await store.token(id: id), token.role >= .operator else {
                return "Stopped: the API token that started it is gone."
            }
            return token.isValid(at: now) ? nil : "Stopped: the API token \(token.name), which started it, is no longer valid."
        }
    }
}
