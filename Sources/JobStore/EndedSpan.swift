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
    /// By slot of ``DurationSlots``; -1 for what never started.
    package var slots: [Int: Int]
    /// All of them together.
    package var seconds: Double

    package init(slots: [Int: Int] = [:], seconds: Double = 0) {
        self.slots = slots
        self.seconds = seconds
    }

    /// With those that never started.
    package var count: Int { slots.values.reduce(0, +) }
    /// Without them.
    package var timed: Int { slots.reduce(0) { $0 + ($1.key < 0 ? 0 : $1.value) } }

    package mutating func add(_ other: DurationCounts) {
        slots.merge(other.slots, uniquingKeysWith: +)
        seconds += other.seconds
    }

    /// The duration that `share` of them (0...1) did not exceed, between the edges of its slot; nil when none was timed.
    package func percentile(_ share: Double) -> Double? {
        let all = timed
        guard all > 0 else { return nil }
        let wanted = max(share, 0) * Double(all)
        var below = 0.0
        for slot in slots.keys.sorted() where slot >= 0 {
            let inside = Double(slots[slot] ?? 0)
            guard inside > 0, below + inside >= wanted else {
                below += inside
                continue
            }
            let low = slot == 0 ? 0 : DurationSlots.edges[slot - 1]
            // The last slot has no end: twice its beginning is as good as any.
            let high = slot < DurationSlots.edges.count ? DurationSlots.edges[slot] : low * 2
            return low + (high - low) * min(1, max(0, (wanted - below) / inside))
        }
        return nil
    }
}
