/// How urgent a job is: the AMQP priority of its hints, 0 (low) to 4 (urgent).
///
/// Upstream's queue names `default`, `medium` and `low` keep their order; `high` and `urgent` come above them.
package enum Priority: Int, Sendable, Hashable, Codable, CaseIterable, Comparable {
    case low = 0
    case medium = 1
    case `default` = 2
    case high = 3
    case urgent = 4

    /// - Returns: nil for a name that is none of urgent, high, default, medium, low and for a number outside 0...4.
    package init?(_ text: String) {
        if let level = Int(text) {
            self.init(rawValue: level)
        } else if let named = Self.allCases.first(where: { $0.name == text }) {
            self = named
        } else {
            return nil
        }
    }

    package var name: String {
        switch self {
        case .low: "low"
        case .medium: "medium"
        case .default: "default"
        case .high: "high"
        case .urgent: "urgent"
        }
    }

    /// The next more urgent level; nil at the top.
    package var raised: Priority? { Priority(rawValue: rawValue + 1) }

    package static func < (left: Priority, right: Priority) -> Bool { left.rawValue < right.rawValue }
}
