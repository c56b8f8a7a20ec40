import Foundation
import GRDB
package import Jobs

extension LedgerReader {
    /// A worker that has been silent for longer does not count as being there, in seconds.
    package static let workerSilence = 35.0

    /// - Returns: nil when there is no such job.
    package func job(_ id: String) async throws -> LedgerJobDetail? {
        let seenSince = Date().timeIntervalSince1970 - Self.workerSilence
        return try await read { db in
            guard
                let row = try Row.fetchOne(
                    db, sql: "SELECT \(LedgerJob.columns), job.definition, job.result, job.params FROM job WHERE id = ?", arguments: [id])
            else { return nil }
            var job = try LedgerJob(row: row)
            guard
                let runRow = try Row.fetchOne(
                    db, sql: "SELECT \(LedgerRun.columns), run.added_params FROM run WHERE id = ?", arguments: [job.runID])
            else { return nil }
            let attempts = try Row.fetchAll(
                db, sql: "SELECT \(LedgerAttempt.columns) FROM attempt WHERE job_id = ? ORDER BY token", arguments: [id]
            ).map(LedgerAttempt.init(row:))
            if job.state == .running { job.progress = attempts.last { $0.token == job.token }?.progress }
            return LedgerJobDetail(
                job: job,
                run: try LedgerRun.count([LedgerRun(row: runRow)], db)[0],
                definition: try row.decoded(JobDefinition.self, "definition"),
                result: try row.optional(JSONValue.self, "result"),
                changedParams: try row.optional(JSONValue.self, "params"),
                addedParams: try runRow.decoded(JSONValue.self, "added_params")[job.name],
                parents: try Self.relatives(of: job, side: "parent", other: "child", db),
                children: try Self.relatives(of: job, side: "child", other: "parent", db),
                attempts: attempts,
                channelWorkers: try Self.workers(db, seenSince: seenSince).count {
                    $0.state == "running" && $0.channels.contains(job.channel)
                }
            )
        }
    }

    /// A job's state alone, for commands.
    package func jobState(_ id: String) async throws -> JobState? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT state FROM job WHERE id = ?", arguments: [id])?.raw(JobState.self, "state")
        }
    }

    /// Where a job's attempts stand, for their logs and artifacts.
    ///
    /// - Returns: nil when there is no such job; attempts in the order in which they started.
    package func attempts(ofJob id: String) async throws -> [LedgerAttempt]? {
        try await read { db in
            guard try Int.fetchOne(db, sql: "SELECT 1 FROM job WHERE id = ?", arguments: [id]) != nil else { return nil }
            return try Row.fetchAll(
                db, sql: "SELECT \(LedgerAttempt.columns) FROM attempt WHERE job_id = ? ORDER BY token", arguments: [id]
            ).map(LedgerAttempt.init(row:))
        }
    }

    /// Undecodable messages, newest first.
    ///
    /// - Parameter decided: only those that a person has requeued or discarded; without it only those that still wait for that.
    package func deadMessages(
        limit: Int, cursor: String? = nil, decided: Bool = false
    ) async throws -> LedgerPage<LedgerDeadMessage> {
        try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LedgerDeadMessage.columns) FROM dead_message
                    WHERE \(decided ? "state NOT IN" : "state IN") ('parked', 'requeueing') AND seq < ? ORDER BY seq DESC LIMIT ?
                    """,
                arguments: [cursor.flatMap(Int64.init) ?? .max, limit + 1]
            )
            return LedgerPage(try rows.map(LedgerDeadMessage.init(row:)), limit: limit) { String($0.sequence) }
        }
    }

    /// How many up to a number wait for a decision, and how many of these can be requeued.
    package func deadMessagesToDecide(upTo last: Int64) async throws -> (all: Int, requeueable: Int) {
        try await read { db in
            let row = try Row.fetchOne(
                db,
                // Both states beside the one that is meant: so the index of the open ones serves it.
                sql: """
                    SELECT COUNT(*) AS every, COALESCE(SUM(body IS NOT NULL), 0) AS requeueable FROM dead_message
                    WHERE seq <= ? AND state IN ('parked', 'requeueing') AND state = 'parked'
                    """,
                arguments: [last])
            return (row?["every"] ?? 0, row?["requeueable"] ?? 0)
        }
    }

    /// - Returns: nil when there is no such message.
    package func deadMessage(_ sequence: Int64) async throws -> LedgerDeadMessage? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT \(LedgerDeadMessage.columns) FROM dead_message WHERE seq = ?", arguments: [sequence])
                .map(LedgerDeadMessage.init(row:))
        }
    }

    /// What an undecodable message holds, which may be patient data: only for who may see it and is on record for it.
    ///
    /// - Returns: nil when the ledger does not hold it.
    package func body(ofDeadMessage sequence: Int64) async throws -> [UInt8]? {
        try await read { db in
            try Data.fetchOne(db, sql: "SELECT body FROM dead_message WHERE seq = ?", arguments: [sequence]).map { [UInt8]($0) }
        }
    }

    /// The jobs at one side of `job`'s dependencies.
    private static func relatives(of job: LedgerJob, side: String, other: String, _ db: Database) throws -> [LedgerRelative] {
        try Row.fetchAll(
            db,
            sql: """
                SELECT edge.child, edge.parent, edge.condition, edge.origin, edge.satisfied_by,
                       job.id AS job_id, job.name AS job_name, job.state AS job_state
                FROM edge JOIN job ON job.run_id = edge.run_id AND job.position = edge.\(side)
                WHERE edge.run_id = ? AND edge.\(other) = ? ORDER BY job.position
                """,
            arguments: [job.runID, job.position]
        ).map { row in
            LedgerRelative(
                edge: try LedgerEdge(row: row), id: row["job_id"], name: row["job_name"], state: try row.raw(JobState.self, "job_state"))
        }
    }
}
