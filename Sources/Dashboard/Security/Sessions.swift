import Accounts
import Foundation
import JobStore

/// One browser, signed in or not.
///
/// One that is not signed in is nowhere on record: its cookie is a random value, and the token in its forms is computed from that with a
/// key of ours. So visitors cost nothing, and their forms outlive a restart too.
struct Session: Sendable {
    /// What the cookie holds.
    var cookie: String
    /// What every form of this browser carries, so that no other site can send one in its name.
    var formToken: String
    /// The record of a browser that is signed in.
    var record: MonitorSession?

    var isSignedIn: Bool { record != nil }

    /// Names it in the store, and tells nobody the cookie.
    var id: String { SecretText.digest(cookie) }
}

/// Makes and finds the browsers' sessions.
struct Sessions: Sendable {
    let store: MonitorStore
    let lifetime: SessionLifetime
    private let key: [UInt8]

    init(store: MonitorStore, lifetime: SessionLifetime = SessionLifetime()) throws {
        self.store = store
        self.lifetime = lifetime
        key = try store.secret("forms") { SecretText.bytes() }
    }

    /// For a browser that has none.
    func fresh() -> Session { session(SecretText.make(), nil) }

    /// - Returns: nil for a cookie that is none of ours.
    func find(_ cookie: String, at now: Date) async throws -> Session? {
        guard cookie.utf8.count == 43 else { return nil }
        return session(cookie, try await store.session(SecretText.digest(cookie), lifetime: lifetime, at: now))
    }

    /// A session with a cookie of its own, so that nobody who planted the old one is signed in too.
    func open(user: String?, credential: String = "", address: String, at now: Date) async throws -> Session {
        let cookie = SecretText.make()
        let id = SecretText.digest(cookie)
        try await store.openSession(id, user: user, credential: credential, address: address, lifetime: lifetime, at: now)
        return session(cookie, try await store.session(id, lifetime: lifetime, at: now))
    }

    /// Names a token without telling what it is: sessions end when the token is another one.
    func fingerprint(_ token: String) -> String { SecretText.authenticated("token:" + token, key: key) }

    private func session(_ cookie: String, _ record: MonitorSession?) -> Session {
        Session(cookie: cookie, formToken: SecretText.authenticated("form:" + cookie, key: key), record: record)
    }
}

enum Secret {
    /// Compares without telling by its duration where the difference is.
    static func matches(_ given: String, _ expected: String) -> Bool {
        let given = Array(given.utf8)
        let expected = Array(expected.utf8)
        guard !expected.isEmpty else { return false }
        var difference = given.count ^ expected.count
        for index in given.indices { difference |= Int(given[index] ^ expected[index % expected.count]) }
        return difference == 0
    }
}
