import GRDB
import Synchronization

/// How many rows have a value, as far as that matters for finding them.
///
/// To see that tens of thousands have it takes milliseconds, for each condition of each search. What is common stays common for a while, so
/// that is remembered; what is rare is soon counted, and is counted each time.
final class CommonValues: Sendable {
    /// By what is asked and the limit. Common values are few; common beginnings of ids are bounded.
    private let known = Mutex<[[String]: ContinuousClock.Instant]>([:])
    private static let memory = Duration.seconds(60)
    private static let most = 1000

    /// - Parameters:
    ///   - rows: what stands behind `FROM`, with an index for its condition.
    ///   - limit: so many are common; nobody counts further.
    func count(_ rows: String, _ values: [String], _ db: Database, limit: Int) throws -> Int {
        let key = [String(limit), rows] + values
        if known.withLock({ $0[key].map { $0 + Self.memory > .now } ?? false }) { return limit }
        let count =
            try Int.fetchOne(
                db, sql: "SELECT COUNT(*) FROM (SELECT 1 FROM \(rows) LIMIT \(limit))", arguments: StatementArguments(values)) ?? 0
        if count == limit {
            known.withLock { known in
                if known.count >= Self.most { known.removeAll() }
                known[key] = .now
            }
        }
        return count
    }
}
