package import Foundation
import GRDB

/// The end of a run or the death of a job, as other programs may be told of it: ids, names of services, states and codes. Nothing of an
/// image, a result or an error's text.
package struct LedgerEnding: Sendable, Hashable {
    package struct Job: Sendable, Hashable {
        package var id: String
        package var name: String
        /// Empty for a built-in job.
        package var service: String
        package var state: String
        /// The code of the reason for the state.
        package var reason: String?
        /// What ended the last attempt: `completed`, `exception`, `timeout`, ...; nil for a job that never ran or was lost.
        package var exit: String?
        package var attempt: Int
        package var startedAt: Date?
        package var finishedAt: Date?
    }

    /// The fact's number.
    package var sequence: Int64
    package var at: Date
    package var event: WebhookEvent
    package var run: String
    package var level: String
    package var resourceID: String
    package var server: String
    package var createdAt: Date
    package var finishedAt: Date?
    /// What the run's state says; the run may have been taken up again since.
    package var state: String
    /// The code of the reason for that state.
    package var reason: String?
    /// Which job has died, for `job.dead`.
    package var job: String?
    package var jobs: [Job]
}

extension LedgerReader {
    /// How runs and jobs have ended since a fact, of at most `limit` facts. Costs what happened, not what there is.
    ///
    /// - Returns: also the last fact that was looked at.
    package func endings(after sequence: Int64, limit: Int64 = 1000) async throws -> (endings: [LedgerEnding], last: Int64) {
        try await read { db in
            let newest = try Int64.fetchOne(db, sql: "SELECT max(seq) FROM fact") ?? 0
            let last = max(sequence, min(newest, sequence + limit))
            let kinds = WebhookEvent.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT fact.seq, fact.at, fact.kind, fact.job_id, run.id, run.state, json_extract(run.reason, '$.code') AS reason,
                        run.level, run.resource_id, run.server, run.created_at, run.finished_at
                    FROM fact JOIN run ON run.id = fact.run_id
                    WHERE fact.seq > ? AND fact.seq <= ? AND fact.kind IN (\(kinds)) ORDER BY fact.seq
                    """, arguments: [sequence, last])
            var jobs: [String: [LedgerEnding.Job]] = [:]
            let endings = try rows.compactMap { row -> LedgerEnding? in
                guard let event = WebhookEvent(rawValue: row["kind"]) else { return nil }
                let run: String = row["id"]
                if jobs[run] == nil { jobs[run] = try Self.endedJobs(run, db) }
                let state = event == .jobDead ? row["state"] : String(event.rawValue.dropFirst("run.".count))
                return LedgerEnding(
                    sequence: row["seq"], at: row.date("at"), event: event, run: run, level: row["level"], resourceID: row["resource_id"],
                    server: row["server"], createdAt: row.date("created_at"),
                    finishedAt: (row["finished_at"] as Double?).map { Date(timeIntervalSince1970: $0) }, state: state,
                    reason: state == row["state"] ? row["reason"] : nil, job: row["job_id"], jobs: jobs[run] ?? [])
            }
            return (endings, last)
        }
    }

    private static func endedJobs(_ run: String, _ db: Database) throws -> [LedgerEnding.Job] {
        try Row.fetchAll(
            db,
            sql: """
                SELECT id, name, service, state, json_extract(reason, '$.code') AS reason, attempt, started_at, finished_at,
                    (SELECT json_extract(exit, '$.kind') FROM attempt WHERE job_id = job.id ORDER BY attempt DESC, token DESC LIMIT 1) AS exit
                FROM job WHERE run_id = ? ORDER BY position
                """, arguments: [run]
        ).map { row in
            func date(_ column: String) -> Date? { (row[column] as Double?).map { Date(timeIntervalSince1970: $0) } }
            return LedgerEnding.Job(
                id: row["id"], name: row["name"], service: row["service"], state: row["state"], reason: row["reason"], exit: row["exit"],
                attempt: row["attempt"], startedAt: date("started_at"), finishedAt: date("finished_at"))
        }
    }
}
