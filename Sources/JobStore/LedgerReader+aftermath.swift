import Foundation
import GRDB
package import Jobs

/// What became of a run's results and of its files, and where it stands among the runs of the same resource.
package struct LedgerAftermath: Sendable {
    /// A job whose work is to store what others made.
    package struct Storing: Sendable {
        package var id: String
        package var name: String
        package var state: JobState
        /// What it returned.
        package var result: JSONValue?
    }

    package var storing: [Storing]
    /// A finalizer has started: what the run had written may be gone.
    package var hasBegunCleaning: Bool
    /// The run of the same resource before this one, and the one after it.
    package var earlier: String?
    package var later: String?

    package init(storing: [Storing] = [], hasBegunCleaning: Bool = false, earlier: String? = nil, later: String? = nil) {
        self.storing = storing
        self.hasBegunCleaning = hasBegunCleaning
        self.earlier = earlier
        self.later = later
    }
}

extension LedgerReader {
    /// - Returns: nil when there is no such run.
    package func aftermath(ofRun id: String) async throws -> LedgerAftermath? {
        try await read { db in
            guard let run = try Row.fetchOne(db, sql: "SELECT resource_id, begun_cleaning FROM run WHERE id = ?", arguments: [id])
            else { return nil }
            let resource: String = run["resource_id"]
            return LedgerAftermath(
                storing: try Row.fetchAll(
                    db,
                    sql: """
                        SELECT id, name, state, result FROM job WHERE run_id = ? AND json_extract(definition, '$.isStoring')
                        ORDER BY position
                        """, arguments: [id]
                ).map { row in
                    LedgerAftermath.Storing(
                        id: row["id"], name: row["name"], state: try row.raw(JobState.self, "state"),
                        result: try row.optional(JSONValue.self, "result"))
                },
                hasBegunCleaning: run["begun_cleaning"],
                earlier: try String.fetchOne(
                    db, sql: "SELECT max(id) FROM run WHERE resource_id = ? AND id < ?", arguments: [resource, id]),
                later: try String.fetchOne(
                    db, sql: "SELECT min(id) FROM run WHERE resource_id = ? AND id > ?", arguments: [resource, id]))
        }
    }
}
