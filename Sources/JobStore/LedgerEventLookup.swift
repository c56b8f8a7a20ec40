package import Foundation
import GRDB

/// Asks the router's ledger, from another process and without writing, which events have reached it, those that retention has deleted
/// included.
package struct LedgerEventLookup: Sendable {
    private let path: String

    /// - Parameter folder: STATE. The ledger need not exist yet.
    package init(folder: URL) {
        path = folder.appending(path: "ledger.sqlite").path
    }

    /// - Parameter snapshots: some hundred at most.
    /// - Returns: those of which the ledger has no event. nil when that cannot be said: there is no ledger, or it cannot be read.
    package func missing(of snapshots: Set<String>) async -> Set<String>? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        guard !snapshots.isEmpty else { return [] }
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(2)
        configuration.label = "ledger.lookup"
        // Opened each time: a ledger that comes from a backup is another file under the same name.
        guard let database = try? DatabaseQueue(path: path, configuration: configuration) else { return nil }
        defer { try? database.close() }
        let marks = databaseQuestionMarks(count: snapshots.count)
        let known = try? await database.read { db in
            try String.fetchSet(
                db,
                sql: """
                    SELECT snapshot FROM event WHERE snapshot IN (\(marks)) UNION ALL SELECT snapshot FROM settled WHERE snapshot IN (\(marks))
                    """,
                arguments: StatementArguments(snapshots) + StatementArguments(snapshots)
            )
        }
        return known.map { snapshots.subtracting($0) }
    }
}
