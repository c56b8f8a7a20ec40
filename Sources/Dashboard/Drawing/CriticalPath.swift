import Foundation
import JobStore
import Jobs

/// The jobs that a run's length hangs on: each waited for the one before it, and for none longer.
enum CriticalPath {
    /// Positions, first to last. While the run goes on, the path ends with the job that has been under way longest.
    static func of(_ detail: LedgerRunDetail) -> [Int] {
        let jobs = Dictionary(detail.jobs.map { ($0.position, $0) }) { first, _ in first }
        let parents = Dictionary(grouping: detail.edges, by: \.child).mapValues { $0.map(\.parent) }
        let begun = detail.jobs.filter { $0.startedAt != nil }
        let open = begun.filter { $0.finishedAt == nil || !$0.state.isTerminal }
        let last =
            open.min { ($0.startedAt ?? .distantPast) < ($1.startedAt ?? .distantPast) }
            ?? begun.max { ($0.finishedAt ?? .distantPast) < ($1.finishedAt ?? .distantPast) }
        guard let last else { return [] }
        var path = [last.position]
        while let before = (parents[path[0]] ?? []).compactMap({ jobs[$0] }).filter({ $0.startedAt != nil && $0.finishedAt != nil })
            .max(by: { ($0.finishedAt ?? .distantPast) < ($1.finishedAt ?? .distantPast) })
        {
            // Dependencies have no cycles; a damaged ledger may.
            guard !path.contains(before.position) else { break }
            path.insert(before.position, at: 0)
        }
        return path.count > 1 ? path : []
    }
}
