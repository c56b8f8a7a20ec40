/// Whether, how often and after what pause a failed attempt is repeated.
package struct RetryPolicy: Sendable, Hashable, Codable {
    package enum Backoff: String, Sendable, Codable, CaseIterable {
        case constant
        case exponential
    }

    /// How many times a job may be tried again after its first attempt.
    package var max: Int
    /// The pause before the first repetition, in seconds.
    package var delay: Int
    package var backoff: Backoff

    package init(max: Int = 0, delay: Int = 30, backoff: Backoff = .exponential) {
        self.max = max
        self.delay = delay
        self.backoff = backoff
    }

    /// Upstream never tries again, and a service's author has to say that its work may be repeated.
    package static let never = RetryPolicy()

    package func allows(attemptAfter attempt: Int) -> Bool { attempt <= max }

    /// The delay queue in which the message of the attempt after `attempt` waits: the shortest that is not below the policy's delay.
    package func delay(afterAttempt attempt: Int) -> RetryDelay {
        let factor = backoff == .constant ? 1 : 1 << min(attempt - 1, 20)
        let (seconds, overflow) = delay.multipliedReportingOverflow(by: factor)
        return RetryDelay(atLeast: overflow ? .max : seconds)
    }
}

extension RetryDelay {
    /// The seconds between 0.8 and 1.0 of the delay after which an attempt is due, so that what failed together does not come back
    /// together. The same attempt of the same job always gets the same.
    package func pause(job: JobID, attempt: Int) -> Double {
        // FNV-1a, because Swift's own hashes differ from process to process.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for byte in job.run.rawValue.utf8 { mix(byte) }
        for number in [job.index, attempt] {
            for shift in stride(from: 0, to: 64, by: 8) { mix(UInt8(truncatingIfNeeded: number >> shift)) }
        }
        // The low bits of such a hash are the better ones after one more round of mixing.
        hash = (hash ^ (hash >> 33)) &* 0xff51_afd7_ed55_8ccd
        let fraction = Double(hash >> 11) / Double(1 << 53)
        return Double(seconds) * (0.8 + 0.2 * fraction)
    }
}

/// The delays that the broker's retry queues offer. One queue has one delay, because RabbitMQ expires messages only
/// at the head of a queue.
package enum RetryDelay: Int, Sendable, Hashable, Codable, CaseIterable {
    case fiveSeconds = 5
    case thirtySeconds = 30
    case twoMinutes = 120
    case tenMinutes = 600
    case oneHour = 3600

    /// The shortest delay of at least `seconds`, or the longest there is.
    package init(atLeast seconds: Int) {
        self = Self.allCases.first { $0.rawValue >= seconds } ?? .oneHour
    }

    package var seconds: Int { rawValue }

    /// As it stands in queue names and routing keys.
    package var name: String {
        switch self {
        case .fiveSeconds: "5s"
        case .thirtySeconds: "30s"
        case .twoMinutes: "2m"
        case .tenMinutes: "10m"
        case .oneHour: "1h"
        }
    }
}
