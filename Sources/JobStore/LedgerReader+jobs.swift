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
                    db, sql: "SELECT \(LedgerJob.columns), job.definition, job.result FROM job WHERE id = ?", arguments: [id])
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
            let pause = try Row.fetchOne(
                db, sql: "SELECT paused_by, paused_at FROM channel WHERE name = ? AND paused_at IS NOT NULL", arguments: [job.channel])
            return LedgerJobDetail(
                job: job,
                run: try LedgerRun.count([LedgerRun(row: runRow)], db)[0],
                definition: try row.decoded(JobDefinition.self, "definition"),
                result: try row.optional(JSONValue.self, "result"),
                addedParams: try runRow.decoded(JSONValue.self, "added_params")[job.name],
                parents: try Self.relatives(of: job, side: "parent", other: "child", db),
                children: try Self.relatives(of: job, side: "child", other: "parent", db),
                attempts: attempts,
                pausedBy: pause?["paused_by"],
                pausedAt: pause?.optionalDate("paused_at"),
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

    /// Dead jobs, those of the newest runs first.
    package func deadJobs(limit: Int, cursor: String? = nil) async throws -> LedgerPage<LedgerDeadJob> {
        try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LedgerJob.columns), run.level AS run_level, run.resource_id AS run_resource
                    FROM job JOIN run ON run.id = job.run_id
                    WHERE job.state = 'dead' \(cursor == nil ? "" : "AND job.id < ?") ORDER BY job.id DESC LIMIT ?
                    """,
                arguments: (cursor.map { [$0] } ?? []) + [limit + 1]
            )
            return LedgerPage(
                try rows.map { LedgerDeadJob(job: try LedgerJob(row: $0), level: $0["run_level"], resourceID: $0["run_resource"]) },
                limit: limit, key: \.job.id)
        }
    }

    /// Undecodable messages, newest first.
    package func deadMessages(limit: Int, cursor: String? = nil) async throws -> LedgerPage<LedgerDeadMessage> {
        try await read { db in
            let rows = try Row.fetchAll(
                db, sql: "SELECT * FROM dead_message WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                arguments: [cursor.flatMap(Int64.init) ?? .max, limit + 1]
            )
            return LedgerPage(
                rows.map { row in
                    LedgerDeadMessage(
                        sequence: row["seq"], at: row.date("at"), queue: row["queue"], reason: row["reason"],
                        messageID: row["message_id"], type: row["type"], size: row["size"])
                },
                limit: limit
            ) { String($0.sequence) }
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
