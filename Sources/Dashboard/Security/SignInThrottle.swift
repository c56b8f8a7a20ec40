import Foundation
import Synchronization

/// Slows down who guesses tokens: after a few failures each further one doubles the wait.
final class SignInThrottle: Sendable {
    private struct Record {
        var failures: Int
        var blockedUntil: Date
    }

    private static let free = 5
    private static let longest = 300.0
    private let records = Mutex<[String: Record]>([:])

    /// - Returns: the seconds to wait, or nil when `client` may try.
    func wait(for client: String, at now: Date) -> Int? {
        records.withLock { records in
            guard let record = records[client], record.blockedUntil > now else { return nil }
            return max(1, Int(record.blockedUntil.timeIntervalSince(now).rounded(.up)))
        }
    }

    func failed(_ client: String, at now: Date) {
        records.withLock { records in
            if records.count > 10_000 { records = records.filter { $0.value.blockedUntil > now } }
            let failures = (records[client]?.failures ?? 0) + 1
            let pause = failures < Self.free ? 0 : min(Self.longest, pow(2, Double(min(failures - Self.free, 20))))
            records[client] = Record(failures: failures, blockedUntil: now.addingTimeInterval(pause))
        }
    }

    func succeeded(_ client: String) { _ = records.withLock { $0.removeValue(forKey: client) } }
}
