package import Foundation

/// What ended inside five minutes, all of one kind: a row of the table `ended`, or several of them added up.
package struct EndedSpan: Sendable, Hashable {
    /// Seconds that one row of the table covers.
    package static let length = 300
    /// How long rows are kept, in seconds: what the longest chart shows and a day more.
    package static let kept = 8 * 86400

    /// Where it begins.
    package var at: Date
    /// Empty for the built-in export.
    package var service: String
    /// The job's name; of runs, their level.
    package var name: String
    /// A `JobState`, or a `RunState`.
    package var state: String
    package var durations: DurationCounts

    package init(at: Date, service: String, name: String, state: String, durations: DurationCounts) {
        self.at = at
        self.service = service
        self.name = name
        self.state = state
        self.durations = durations
    }
}

/// The classes that durations are counted in: six to a decade, so that a percentile is exact to a fifth.
package enum DurationSlots {
    /// Slot `n` holds durations below `edges[n]` and not below the one before; the last slot has no end. Seconds.
    package static let edges: [Double] = (-2...4).flatMap { power in
        [1, 1.5, 2, 3, 5, 7].map { $0 * pow(10, Double(power)) }
    }

    /// SQL that finds the slot of a duration, -1 for none.
    static func expression(_ duration: String) -> String {
        "CASE WHEN (\(duration)) IS NULL THEN -1 ELSE \(half(duration, 0...edges.count)) END"
    }

    /// Halves the slots until one is left: six comparisons instead of forty.
    private static func half(_ duration: String, _ slots: ClosedRange<Int>) -> String {
        if slots.lowerBound == slots.upperBound { return String(slots.lowerBound) }
        let middle = (slots.lowerBound + slots.upperBound) / 2
        return """
            CASE WHEN (\(duration)) < \(edges[middle]) THEN \(half(duration, slots.lowerBound...middle)) \
            ELSE \(half(duration, middle + 1...slots.upperBound)) END
            """
    }
}

/// How many took how long.
package struct DurationCounts: Sendable, Hashable {
    private struct Slot: Sendable, Hashable {
        var number: Int
        /// All of them together.
        var seconds: Double
    }

    /// By slot of ``DurationSlots``; -1 for what never started.
    private var slots: [Int: Slot] = [:]

    package init() {}

    /// - Parameters:
    ///   - slot: of ``DurationSlots``; -1 for what never started.
    ///   - seconds: all of them together.
    package init(slot: Int, number: Int, seconds: Double) { slots[slot] = Slot(number: number, seconds: seconds) }

    /// With those that never started.
    package var count: Int { slots.values.reduce(0) { $0 + $1.number } }
    /// Without them.
    package var timed: Int { slots.reduce(0) { $0 + ($1.key < 0 ? 0 : $1.value.number) } }
    /// All of them together.
    package var seconds: Double { slots.values.reduce(0) { $0 + $1.seconds } }

    package mutating func add(_ other: DurationCounts) {
        slots.merge(other.slots) { Slot(number: $0.number + $1.number, seconds: $0.seconds + $1.seconds) }
    }

    /// The duration that `share` of them (0...1) did not exceed; nil when none was timed.
    ///
    /// Those of a slot lie around their mean, evenly, and the closer to it the fewer they are: a single one is exact.
    package func percentile(_ share: Double) -> Double? {
        let all = timed
        guard all > 0 else { return nil }
        let wanted = max(share, 0) * Double(all)
        var below = 0.0
        for (place, slot) in slots.sorted(by: { $0.key < $1.key }) where place >= 0 {
            let inside = Double(slot.number)
            guard inside > 0, below + inside >= wanted else {
                below += inside
                continue
            }
            let low = place == 0 ? 0 : DurationSlots.edges[place - 1]
            let high = place < DurationSlots.edges.count ? DurationSlots.edges[place] : .infinity
            let mean = min(high, max(low, slot.seconds / inside))
            let reach = min(mean - low, high - mean) * (inside - 1) / (inside + 1)
            return mean + reach * (2 * min(1, max(0, (wanted - below) / inside)) - 1)
        }
        return nil
    }
}
