import Foundation
import Synchronization

/// One browser. Kept in memory: a restart signs everyone out and asks open forms to be sent again.
struct Session: Sendable {
    var id: String
    /// What every form of this browser carries, so that no other site can send one in its name.
    var formToken: String
    var isSignedIn: Bool
    var usedAt: Date
}

final class Sessions: Sendable {
    private let sessions = Mutex<[String: Session]>([:])
    private let lifetime: TimeInterval
    private let capacity: Int

    init(lifetime: TimeInterval = 12 * 3600, capacity: Int = 10_000) {
        self.lifetime = lifetime
        self.capacity = capacity
    }

    func create(isSignedIn: Bool, at now: Date) -> Session {
        let session = Session(id: Secret.make(), formToken: Secret.make(), isSignedIn: isSignedIn, usedAt: now)
        sessions.withLock { sessions in
            if sessions.count >= capacity { Self.evict(&sessions, keeping: capacity / 2, lifetime, now) }
            sessions[session.id] = session
        }
        return session
    }

    /// - Returns: nil for an unknown session and for one that was not used for too long.
    func find(_ id: String, at now: Date) -> Session? {
        sessions.withLock { sessions in
            guard let session = sessions[id], now.timeIntervalSince(session.usedAt) < lifetime else { return nil }
            sessions[id]?.usedAt = now
            return session
        }
    }

    func remove(_ id: String) { _ = sessions.withLock { $0.removeValue(forKey: id) } }

    /// Visitors without cookies must not push out those who signed in.
    private static func evict(_ sessions: inout [String: Session], keeping: Int, _ lifetime: TimeInterval, _ now: Date) {
        let kept = sessions.values.filter { now.timeIntervalSince($0.usedAt) < lifetime }
            .sorted { ($0.isSignedIn ? 1 : 0, $0.usedAt) > ($1.isSignedIn ? 1 : 0, $1.usedAt) }
            .prefix(keeping)
        sessions = Dictionary(uniqueKeysWithValues: kept.map { ($0.id, $0) })
    }
}

enum Secret {
    /// 256 random bits.
    static func make() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in
            let word = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - word.count) + word
        }.joined()
    }

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
