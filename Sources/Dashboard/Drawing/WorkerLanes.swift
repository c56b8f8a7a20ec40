import Foundation
import JobStore
import Jobs

/// Which worker was busy with which job of a run when: one lane a worker and slot, all on one scale.
struct WorkerLanes: Sendable {
    struct Lane: Sendable {
        var worker: String
        /// Already HTML.
        var bars: String
    }

    /// A name below its bar.
    struct Label: Sendable, Equatable {
        /// nil where there is no room: the bar's title has it.
        var row: Int?
        /// Where it begins, as a share of the lane.
        var place: Double
    }

    private static let limit = 60
    private static let mostRows = 6
    /// Pixels: what a lane has at least, and what a character takes.
    private static let width = 560.0
    private static let character = 6.4

    static func of(_ detail: LedgerRunDetail, _ timeline: Timeline, at now: Date) -> [Lane] {
        let names = Dictionary(detail.jobs.map { ($0.id, $0.name) }) { first, _ in first }
        let byWorker = Dictionary(grouping: detail.attempts, by: \.worker)
        var lanes: [Lane] = []
        for worker in byWorker.keys.sorted() {
            var slots: [(end: Date, attempts: [LedgerAttempt])] = []
            for attempt in (byWorker[worker] ?? []).sorted(by: { $0.claimedAt < $1.claimedAt }) {
                let end = attempt.endedAt ?? now
                // The first lane that is free by then.
                if let free = slots.firstIndex(where: { $0.end <= attempt.claimedAt }) {
                    slots[free] = (end, slots[free].attempts + [attempt])
                } else {
                    slots.append((end, [attempt]))
                }
            }
            for (index, slot) in slots.enumerated() {
                let shown = slot.attempts.map { attempt in
                    let name = names[attempt.jobID] ?? "job"
                    return (attempt, name, attempt.attempt > 1 ? "\(name) \(attempt.attempt)" : name)
                }
                let labels = labels(shown.map { ($0.2, timeline.share($0.0.claimedAt)) })
                let bars = zip(shown, labels).map { shown, label in
                    let (attempt, name, text) = shown
                    let end = attempt.endedAt ?? now
                    let words =
                        "\(name), attempt \(attempt.attempt): \(attempt.outcome ?? "running"), "
                        + Display.duration(end.timeIntervalSince(attempt.claimedAt))
                    return timeline.labelled(text, attempt, until: end, words, row: label.row, at: label.place)
                }
                let rows = (labels.compactMap(\.row).max() ?? 0) + 1
                lanes.append(Lane(worker: index == 0 ? worker : "", bars: timeline.lane(bars.joined(), rows: rows)))
            }
        }
        return Array(lanes.prefix(limit))
    }

    /// Where the names go so that none touches another: each into the first row that is free there.
    ///
    /// - Parameter names: with where their bars begin, 0...1, in that order.
    static func labels(_ names: [(name: String, start: Double)]) -> [Label] {
        var ends = [Double](repeating: -1, count: mostRows)
        return names.map { name, start in
            let length = (Double(name.count) * character + 10) / width
            // Near the end the name would leave the drawing.
            let place = max(0, min(start, 1 - length))
            let row = ends.firstIndex { $0 <= place }
            if let row { ends[row] = place + length }
            return Label(row: row, place: place)
        }
    }
}
