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

    /// - Parameter text: the account's hash. nil, for an account that does not exist, takes as long.
    /// - Returns: whether it fits, and a new hash when the old one was made with another cost.
    func verify(_ password: String, against text: String?) async throws -> (isRight: Bool, replacement: String?) {
        try await run { hash, decoy in
            let isRight = hash.verify(password, against: text ?? decoy) && text != nil
            guard isRight, let text, hash.isOutdated(text) else { return (isRight, nil) }
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
