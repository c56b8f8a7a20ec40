package import Foundation
import GRDB

/// Whose ends are counted.
package enum EndedKind: String, Sendable, Hashable {
    case job
    case run
}

extension LedgerReader {
    /// What ended since `start`, added up to spans of `length`, oldest first.
    ///
    /// - Parameter length: seconds, a multiple of ``EndedSpan/length``; nil adds up everything.
    package func ended(_ kind: EndedKind, since start: Date, spans length: Int? = nil) async throws -> [EndedSpan] {
        try await read { db in
            let step = max(EndedSpan.length, length ?? Int(Int32.max))
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT at / :step * :step AS at, service, name, state, slot, SUM(number) AS number, SUM(seconds) AS seconds
                    FROM ended WHERE at >= :start AND what = :what GROUP BY 1, service, name, state, slot ORDER BY 1
                    """,
                arguments: [
                    "step": step, "what": kind.rawValue, "start": start.timeIntervalSince1970.rounded(.down) - Double(EndedSpan.length) + 1,
                ])
            var spans: [EndedSpan] = []
            for row in rows {
                let span = EndedSpan(
                    at: row.date("at"), service: row["service"], name: row["name"], state: row["state"],
                    durations: DurationCounts(slot: row["slot"], number: row["number"], seconds: row["seconds"]))
                if let last = spans.last, (last.at, last.service, last.name, last.state) == (span.at, span.service, span.name, span.state) {
                    spans[spans.count - 1].durations.add(span.durations)
                } else {
                    spans.append(span)
                }
            }
            return spans
        }
    }
}
