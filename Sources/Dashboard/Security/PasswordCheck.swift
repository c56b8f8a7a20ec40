import Accounts
import Dispatch
import Synchronization

/// Hashes passwords one at a time on a thread of its own: each takes 32 MiB and some tenths of a second.
final class PasswordCheck: Sendable {
    private let hash: PasswordHash
    private let queue = DispatchQueue(label: "monitor.passwords")
    private let waiting = Mutex(0)
    /// Costs as much to check as a real one; no password fits it.
    private let decoy: String

    private static let limit = 30

    init(cost: PasswordHash.Cost) {
        hash = PasswordHash(cost: cost)
        decoy = hash.make(SecretText.make())
    }

    /// - Parameters:
    ///   - text: the account's hash. nil, for an account that does not exist, takes as long.
    ///   - isTooMany: asked before and when it is this one's turn: many that come at once are no more than many that come one by one.
    ///   - countWrong: called when it does not fit, before it is anybody else's turn.
    /// - Returns: whether it fits, and a new hash when the old one was made with another cost; nil when it was too many.
    func verify(
        _ password: String, against text: String?, unless isTooMany: @escaping @Sendable () -> Bool,
        countWrong: @escaping @Sendable () -> Void
    ) async throws -> (isRight: Bool, replacement: String?)? {
        if isTooMany() { return nil }
        return try await run { hash, decoy in
            if isTooMany() { return nil }
            let isRight = hash.verify(password, against: text ?? decoy) && text != nil
            if !isRight { countWrong() }
            guard isRight, let text, hash.isOutdated(text) else { return (isRight, nil as String?) }
            return (true, hash.make(password))
        }
    }

    func make(_ password: String) async throws -> String { try await run { hash, _ in hash.make(password) } }

    private func run<Value: Sendable>(_ work: @escaping @Sendable (PasswordHash, String) -> Value) async throws -> Value {
        let isFull = waiting.withLock { waiting in
            if waiting >= Self.limit { return true }
            waiting += 1
            return false
        }
        if isFull { throw Problem.unavailable("Too many people sign in at once.") }
        defer { waiting.withLock { $0 -= 1 } }
        return await withCheckedContinuation { continuation in
            queue.async { [hash, decoy] in continuation.resume(returning: work(hash, decoy)) }
        }
    }
}
