package import Foundation
import GRDB
package import Jobs

/// Which runs a list shows. What is not set does not matter.
package struct LedgerRunFilter: Sendable, Hashable {
    package var states: [RunState]
    /// A snapshot, an event's number, or Orthanc's id of what the event is about.
    package var event: String?
    /// The beginning of a run's or an Orthanc id, a job's id, or a job's name.
    package var text: String?
    /// `series`, `study` or `patient`.
    package var level: String?
    /// One of its jobs belongs to this service.
    package var service: String?
    /// One of its series has it.
    package var modality: String?
    /// Part of what a failed or dead job of it, or the run itself, gives as the reason. Upper and lower case are the same.
    package var error: String?
    /// Created at this time or later.
    package var from: Date?
    /// Created before this time.
    package var to: Date?

    package init(
        states: [RunState] = [], event: String? = nil, text: String? = nil, level: String? = nil, service: String? = nil,
        modality: String? = nil, error: String? = nil, from: Date? = nil, to: Date? = nil
    ) {
        self.states = states
        self.event = event
        self.text = text
        self.level = level
        self.service = service
        self.modality = modality
        self.error = error
        self.from = from
        self.to = to
    }

    /// Whether every run matches, whatever its state.
    package var isOpen: Bool {
        var other = self
        other.states = []
        return other == LedgerRunFilter()
    }
}

/// How many runs a filter matches.
package struct LedgerRunCounts: Sendable, Hashable {
    /// Counting more would take longer than anybody waits for a page.
    package static let limit = 5_000

    package var states: [RunState: Int]
    /// More match than were counted: the numbers are of the newest of them only.
    package var isCut: Bool

    package var total: Int { states.values.reduce(0, +) }
}

extension LedgerReader {
    /// Runs, newest first.
    ///
    /// - Parameter cursor: the `next` of the page before.
    package func runs(
        _ filter: LedgerRunFilter = LedgerRunFilter(), limit: Int, cursor: String? = nil
    ) async throws -> LedgerPage<LedgerRun> {
        try await read { [common] db in
            var search = try LedgerRunSearch(filter, db, common: common)
            if let cursor { search.add("\(search.id) < ?", [cursor]) }
            let rows = try Row.fetchAll(
                db, sql: search.sql(LedgerRun.columns) + " ORDER BY \(search.id) DESC LIMIT ?", arguments: search.arguments + [limit + 1])
            var page = LedgerPage(try rows.map(LedgerRun.init(row:)), limit: limit, key: \.id)
            page.items = try LedgerRun.count(page.items, db)
            return page
        }
    }

    /// How many runs the filter matches, by state: what its lists have, all pages together. The filter's own states do not count.
    ///
    /// - Parameter limit: at most so many are looked at, the newest first.
    package func runCounts(_ filter: LedgerRunFilter, limit: Int = LedgerRunCounts.limit) async throws -> LedgerRunCounts {
        var filter = filter
        filter.states = []
        return try await read { [filter, common] db in
            var counts = LedgerRunCounts(states: [:], isCut: false)
            let isOpen = filter.isOpen
            let search = try LedgerRunSearch(filter, db, common: common)
            let sql =
                isOpen
                ? "SELECT state, runs FROM run_tally WHERE runs > 0"
                : """
                SELECT state, COUNT(*) AS runs FROM (
                    \(search.sql("run.state", isCounting: true)) ORDER BY \(search.id) DESC LIMIT \(limit + 1))
                GROUP BY state
                """
            for row in try Row.fetchAll(db, sql: sql, arguments: isOpen ? [] : search.arguments) {
                counts.states[try row.raw(RunState.self, "state")] = row["runs"]
            }
            counts.isCut = !isOpen && counts.total > limit
            return counts
        }
    }

    /// The modalities that runs have, by name.
    package func modalities() async throws -> [String] {
        // One step into the index for each of them, however many runs there are.
        try await read { db in
            try String.fetchAll(
                db,
                sql: """
                    WITH RECURSIVE found(name) AS (
                        SELECT min(modality) FROM run_modality
                        UNION ALL
                        SELECT (SELECT min(modality) FROM run_modality WHERE modality > name) FROM found WHERE name IS NOT NULL)
                    SELECT name FROM found WHERE name IS NOT NULL LIMIT 100
                    """)
        }
    }

    /// Ids sort by creation: everything made at `date` or later comes after this one.
    static func firstID(at date: Date) -> String {
        RunID(milliseconds: UInt64(max(0, date.timeIntervalSince1970 * 1000)), random: (0, 0)).rawValue
    }

    /// - Returns: nil when there is no such run.
    package func run(_ id: String) async throws -> LedgerRunDetail? {
        try await read { db in
            guard
                let row = try Row.fetchOne(
                    db,
                    sql: """
                        SELECT \(LedgerRun.columns), run.added_params, COALESCE(run.headers, event.headers) AS seen_headers, event.refused AS event_refused
                        FROM run JOIN event ON event.seq = run.event_seq WHERE run.id = ?
                        """,
                    arguments: [id]
                )
            else { return nil }
            guard let event = try Self.events(db, "event.seq = ?", [row["event_seq"] as Int64], limit: 1).first else { return nil }
            let run = try LedgerRun.count([LedgerRun(row: row)], db)[0]
            let attempts = try Self.attempts(ofRun: id, db)
            return LedgerRunDetail(
                run: run,
                event: event,
                headers: try row.decoded(JSONValue.self, "seen_headers"),
                refused: try row.decoded(JSONValue.self, "event_refused"),
                follows: try Self.run(ofSnapshot: event.follows, resource: run.resourceID, db),
                related: try Self.runs(ofResource: run.resourceID, except: id, db),
                addedParams: try row.decoded(JSONValue.self, "added_params"),
                jobs: Self.join(try Self.jobs(ofRun: id, db), attempts),
                edges: try Row.fetchAll(
                    db, sql: "SELECT child, parent, condition, origin, satisfied_by FROM edge WHERE run_id = ?", arguments: [id]
                ).map(LedgerEdge.init(row:)),
                attempts: attempts,
                decisions: try Row.fetchAll(db, sql: "SELECT body FROM decision WHERE run_id = ? ORDER BY seq", arguments: [id])
                    .map { try $0.decoded(Decision.self, "body") }
            )
        }
    }

    /// A run as the router sees it, for asking it why its jobs are where they are. nil when there is none.
    package func run(_ id: RunID) async throws -> Run? {
        try await read { db in try SQLiteTransaction(db: db).run(id) }
    }

    /// A run's state alone, for commands.
    package func runState(_ id: String) async throws -> RunState? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT state FROM run WHERE id = ?", arguments: [id])?.raw(RunState.self, "state")
        }
    }

    private static func jobs(ofRun id: String, _ db: Database) throws -> [LedgerJob] {
        try Row.fetchAll(db, sql: "SELECT \(LedgerJob.columns) FROM job WHERE run_id = ? ORDER BY position", arguments: [id])
            .map(LedgerJob.init(row:))
    }

    private static func attempts(ofRun id: String, _ db: Database) throws -> [LedgerAttempt] {
        // '/' follows '.': this range is every id that begins with '<run>.'.
        try Row.fetchAll(
            db,
            sql: "SELECT \(LedgerAttempt.briefColumns) FROM attempt WHERE job_id >= ? AND job_id < ? ORDER BY claimed_at",
            arguments: [id + ".", id + "/"]
        ).map(LedgerAttempt.init(row:))
    }

    private static func join(_ jobs: [LedgerJob], _ attempts: [LedgerAttempt]) -> [LedgerJob] {
        let running = attempts.filter { $0.endedAt == nil && $0.progress != nil }
        return jobs.map { job in
            var job = job
            if job.state == .running {
                job.progress = running.last { $0.jobID == job.id && $0.token == job.token }?.progress
            }
            return job
        }
    }

    private static func run(ofSnapshot snapshot: String?, resource: String, _ db: Database) throws -> String? {
        guard let snapshot else { return nil }
        return try String.fetchOne(
            db,
            sql: """
                SELECT run.id FROM run WHERE run.resource_id = ? AND run.event_seq = (SELECT seq FROM event WHERE snapshot = ?)
                ORDER BY run.id DESC LIMIT 1
                """,
            arguments: [resource, snapshot]
        )
    }

    private static func runs(ofResource resource: String, except id: String, _ db: Database) throws -> [LedgerRun] {
        try Row.fetchAll(
            db, sql: "SELECT \(LedgerRun.columns) FROM run WHERE resource_id = ? AND id <> ? ORDER BY id DESC LIMIT 20",
            arguments: [resource, id]
        ).map(LedgerRun.init(row:))
    }
}
