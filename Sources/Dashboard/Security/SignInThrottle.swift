import Foundation
import Synchronization

/// Slows down who guesses: after a few failures each further one doubles the wait.
///
/// Counts by address and by account. An account's own count is the more patient one and its wait shorter, so that who guesses at somebody's
/// password from everywhere cannot keep that person out for long.
final class SignInThrottle: Sendable {
    enum Subject: Hashable, Sendable {
        case address(String)
        case account(String)

        /// One who has IPv6 has 2^64 addresses, and counts as one.
        static func client(_ address: String) -> Subject {
            guard let bytes = AddressRange.bytes(address), bytes.count == 16 else { return .address(address) }
            return .address(bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ":"))
        }

        var freeFailures: Int {
            switch self {
            case .address: 5
            case .account: 20
            }
        }

        var longestWait: Double {
            switch self {
            case .address: 300
            case .account: 60
            }
        }
    }

    private struct Record {
        var failures: Int
        var failedAt: Date
        var blockedUntil: Date
    }

    /// A failure is forgotten after this long without another one.
    private static let memory = 3600.0
    private let capacity: Int
    private let records = Mutex<[Subject: Record]>([:])

    init(capacity: Int = 10_000) { self.capacity = capacity }

    /// - Returns: the seconds to wait until all of `subjects` may try, or nil.
    func wait(for subjects: Subject..., at now: Date) -> Int? {
        records.withLock { records in
            subjects.compactMap { subject -> Int? in
                guard let record = records[subject], record.blockedUntil > now else { return nil }
                return max(1, Int(record.blockedUntil.timeIntervalSince(now).rounded(.up)))
            }.max()
        }
    }

    func failed(_ subjects: Subject..., at now: Date) {
        records.withLock { records in
            for subject in subjects {
                if records.count >= capacity, records[subject] == nil { Self.makeRoom(&records, capacity, now) }
                let known = records[subject].flatMap { now.timeIntervalSince($0.failedAt) < Self.memory ? $0.failures : nil }
                let failures = (known ?? 0) + 1
                let excess = failures - subject.freeFailures
                let pause = excess < 0 ? 0 : min(subject.longestWait, pow(2, Double(min(excess, 20))))
                records[subject] = Record(failures: failures, failedAt: now, blockedUntil: now.addingTimeInterval(pause))
            }
        }
    }

    func succeeded(_ subjects: Subject...) {
        records.withLock { records in
            for subject in subjects { records[subject] = nil }
        }
    }

    var count: Int { records.withLock { $0.count } }

    /// Those who wait longest stay.
    private static func makeRoom(_ records: inout [Subject: Record], _ capacity: Int, _ now: Date) {
        let kept = records.sorted { $0.value.blockedUntil > $1.value.blockedUntil }.prefix(capacity / 2)
        records = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
    }
}
