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

/// How far somebody has read the ledger's facts.
package struct LedgerPlace: Sendable, Hashable {
    /// The last fact's number; 0 before the first.
    package var sequence: Int64
    /// When that fact was, to the millisecond: another ledger has another one under that number.
    package var at: Date

    package init(sequence: Int64, at: Date) {
        self.sequence = sequence
        self.at = at
    }

    /// Before everything.
    package static let start = LedgerPlace(sequence: 0, at: Date(timeIntervalSince1970: 0))
}

extension LedgerReader {
    /// Behind the newest fact.
    ///
    /// - Parameter now: its time, when there is no fact yet.
    package func newestPlace(at now: Date) async throws -> LedgerPlace {
        try await read { db in
            let latest = try Self.latestFact(db)
            // Also where every fact has been deleted.
            return try Self.place(latest, db) ?? LedgerPlace(sequence: latest, at: now)
        }
    }

    /// Where the facts go on after a place that this ledger does not have: it is another one, or an older copy.
    ///
    /// - Returns: behind the last fact that is as old as the place; nil when the place is this ledger's own.
    package func replacement(of place: LedgerPlace) async throws -> LedgerPlace? {
        try await read { db in
            if place.sequence > 0, try Self.latestFact(db) >= place.sequence {
                let at = try Double.fetchOne(db, sql: "SELECT at FROM fact WHERE seq = ?", arguments: [place.sequence])
                // A fact that is not there was deleted with its run, long ago.
                guard let at, abs(at - place.at.timeIntervalSince1970) >= 0.001 else { return nil }
            }
            // From the end of an older copy that is a short way; a new ledger has few facts.
            let last = try Int64.fetchOne(
                db, sql: "SELECT seq FROM fact WHERE at < ? ORDER BY seq DESC LIMIT 1",
                arguments: [place.at.timeIntervalSince1970 + 0.001])
            let found = LedgerPlace(sequence: last ?? 0, at: place.at)
            guard found.sequence != place.sequence else { return nil }
            return try Self.place(found.sequence, db) ?? found
        }
    }

    /// - Returns: nil when there is no fact up to there.
    private static func place(_ sequence: Int64, _ db: Database) throws -> LedgerPlace? {
        try Double.fetchOne(db, sql: "SELECT at FROM fact WHERE seq <= ? ORDER BY seq DESC LIMIT 1", arguments: [sequence])
            .map { LedgerPlace(sequence: sequence, at: Date(timeIntervalSince1970: $0)) }
    }

    /// How runs and jobs have ended since a place, of at most `limit` facts. Costs what happened, not what there is.
    ///
    /// - Returns: also the place behind the last fact that was looked at; the same place when there is none.
    package func endings(after place: LedgerPlace, limit: Int64 = 1000) async throws -> (endings: [LedgerEnding], last: LedgerPlace) {
        try await read { db in
            let sequence = place.sequence
            // Retention may have deleted any number of those that come next.
            guard let first = try Int64.fetchOne(db, sql: "SELECT min(seq) FROM fact WHERE seq > ?", arguments: [sequence]),
                let newest = try Int64.fetchOne(db, sql: "SELECT max(seq) FROM fact")
            else { return ([], place) }
            let last = min(newest, first - 1 + limit)
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
            return (endings, try Self.place(last, db) ?? LedgerPlace(sequence: last, at: place.at))
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
