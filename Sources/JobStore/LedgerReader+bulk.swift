package import Foundation
import GRDB
package import Jobs

/// Which failed and dead jobs a bulk operation is about. What is not set does not matter.
package struct LedgerJobFilter: Sendable, Hashable {
    /// `failed`, `dead`, or both; nothing is both.
    package var states: [JobState]
    package var service: String?
    /// The job's name.
    package var name: String?
    package var channel: String?
    /// The reason's code: the exit class of a failed job, why it died of a dead one.
    package var reason: String?
    /// Ended at this time or later.
    package var from: Date?
    /// Ended before this time.
    package var to: Date?

    package init(
        states: [JobState] = [], service: String? = nil, name: String? = nil, channel: String? = nil, reason: String? = nil,
        from: Date? = nil, to: Date? = nil
    ) {
        self.states = states
        self.service = service
        self.name = name
        self.channel = channel
        self.reason = reason
        self.from = from
        self.to = to
    }
}

/// One run or job that a filter has found, as it was then.
package struct LedgerMatch: Sendable, Hashable {
    package var id: String
    /// A run's state, or a job's.
    package var state: String
    /// Changes whenever the run or job becomes another than it was: a later look tells by it.
    package var mark: String
    /// Of a run: whether a failed, dead or cancelled job is in it.
    package var hasBroken: Bool
    /// Of a job: its run.
    package var runID: String
    package var isRunActive: Bool
    /// Whether the run's files are gone, so that everything of it begins anew.
    package var hasBegunCleaning: Bool
}

extension LedgerReader {
    private static let runMark = "run.state || ':' || coalesce(run.finished_at, '')"
    private static let jobMark = "job.state || ':' || job.attempt || ':' || coalesce(job.finished_at, '')"

    /// Every run that matches, the oldest first.
    ///
    /// - Parameter limit: at most so many.
    package func matches(_ filter: LedgerRunFilter, limit: Int) async throws -> [LedgerMatch] {
        try await read { db in
            let (conditions, arguments) = try Self.conditions(filter, db)
            return try Row.fetchAll(
                db,
                sql: """
                    SELECT run.id, run.state, \(Self.runMark) AS mark, run.begun_cleaning,
                        EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id AND job.state IN ('failed', 'dead', 'cancelled')) AS broken
                    FROM run \(conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND ")) ORDER BY run.id LIMIT ?
                    """, arguments: arguments + [limit]
            ).map { row in
                LedgerMatch(
                    id: row["id"], state: row["state"], mark: row["mark"], hasBroken: row["broken"], runID: row["id"],
                    isRunActive: row["state"] == RunState.active.rawValue, hasBegunCleaning: row["begun_cleaning"])
            }
        }
    }

    /// Every failed or dead job that matches, those of the oldest runs first.
    package func matches(_ filter: LedgerJobFilter, limit: Int) async throws -> [LedgerMatch] {
        // Written out, so that the index of just these jobs serves it.
        let states = (filter.states.isEmpty ? [.failed, .dead] : filter.states).map { "job.state = '\($0.rawValue)'" }
        var conditions = ["(job.state = 'failed' OR job.state = 'dead')", "(" + states.joined(separator: " OR ") + ")"]
        var arguments = StatementArguments()
        func add(_ condition: String, _ value: (any DatabaseValueConvertible)?) {
            guard let value else { return }
            conditions.append(condition)
            arguments += [value]
        }
        add("job.service = ?", filter.service)
        add("job.name = ?", filter.name)
        add("job.channel = ?", filter.channel)
        add("json_extract(job.reason, '$.code') = ?", filter.reason)
        add("job.finished_at >= ?", filter.from?.timeIntervalSince1970)
        add("job.finished_at < ?", filter.to?.timeIntervalSince1970)
        return try await read { [conditions, arguments] db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT job.id, job.state, job.run_id, \(Self.jobMark) AS mark, run.state AS run_state, run.begun_cleaning
                    FROM job JOIN run ON run.id = job.run_id WHERE \(conditions.joined(separator: " AND ")) ORDER BY job.id LIMIT ?
                    """, arguments: arguments + [limit]
            ).map { row in
                LedgerMatch(
                    id: row["id"], state: row["state"], mark: row["mark"], hasBroken: true, runID: row["run_id"],
                    isRunActive: row["run_state"] == RunState.active.rawValue, hasBegunCleaning: row["begun_cleaning"])
            }
        }
    }

    /// How runs or jobs stand now: mark by id. Without those that are no longer there.
    package func marks(of ids: [String], areRuns: Bool) async throws -> [String: String] {
        let (table, mark) = areRuns ? ("run", Self.runMark) : ("job", Self.jobMark)
        return try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT id, \(mark) AS mark FROM \(table) WHERE id IN (\(databaseQuestionMarks(count: ids.count)))",
                arguments: StatementArguments(ids)
            ).reduce(into: [:]) { $0[$1["id"]] = $1["mark"] as String }
        }
    }

    /// What the router has made of commands, in the order of commits.
    ///
    /// - Parameter limit: at most so many facts are looked at, of whatever kind.
    /// - Returns: outcomes by command, and the number of the last fact that was looked at.
    package func outcomes(
        after sequence: Int64, limit: Int64 = 5000
    ) async throws -> (outcomes: [(command: String, text: String)], last: Int64) {
        try await read { db in
            let newest = try Int64.fetchOne(db, sql: "SELECT max(seq) FROM fact") ?? 0
            let last = max(sequence, min(newest, sequence + limit))
            let rows = try Row.fetchAll(
                db, sql: "SELECT data FROM fact WHERE seq > ? AND seq <= ? AND kind = 'command.done' ORDER BY seq",
                arguments: [sequence, last])
            return (
                try rows.compactMap { row in
                    let data = try row.decoded(JSONValue.self, "data")
                    guard let command = data["id"]?.string, let text = data["outcome"]?.string else { return nil }
                    return (command, text)
                }, last
            )
        }
    }
}
