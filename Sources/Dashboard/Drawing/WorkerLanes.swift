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

    private static let limit = 60

    static func of(_ detail: LedgerRunDetail, _ timeline: Timeline, at now: Date) -> [Lane] {
        let names = Dictionary(detail.jobs.map { ($0.id, $0.name) }) { first, _ in first }
        let byWorker = Dictionary(grouping: detail.attempts, by: \.worker)
        var lanes: [Lane] = []
        for worker in byWorker.keys.sorted() {
            var slots: [(end: Date, bars: String)] = []
            for attempt in (byWorker[worker] ?? []).sorted(by: { $0.claimedAt < $1.claimedAt }) {
                let end = attempt.endedAt ?? now
                let name = names[attempt.jobID] ?? "job"
                let bar = timeline.labelled(
                    name, attempt, until: end,
                    "\(name), attempt \(attempt.attempt): \(attempt.outcome ?? "running"), "
                        + Display.duration(end.timeIntervalSince(attempt.claimedAt)))
                // The first lane that is free by then.
                if let free = slots.firstIndex(where: { $0.end <= attempt.claimedAt }) {
                    slots[free] = (end, slots[free].bars + bar)
                } else {
                    slots.append((end, bar))
                }
            }
            for (index, slot) in slots.enumerated() { lanes.append(Lane(worker: index == 0 ? worker : "", bars: timeline.lane(slot.bars))) }
        }
        return Array(lanes.prefix(limit))
    }
}
