package import Foundation
import GRDB
package import Jobs

/// Which failed and dead jobs a list or a bulk operation is about. What is not set does not matter.
package struct LedgerJobFilter: Sendable, Hashable {
    /// `failed`, `dead`, or both; nothing is both.
    package var states: [JobState]
    /// The job's service; the empty text is the export, which has none.
    package var service: String?
    /// The job's name.
    package var name: String?
    package var channel: String?
    /// The reason's code: the exit class of a failed job, why it died of a dead one.
    package var reason: String?
    /// The error's type, exactly: `ValueError`; the empty text is those without one, as after lost workers.
    package var type: String?
    /// Part of what its error or its reason says. Upper and lower case are the same.
    package var error: String?
    /// Its run's id.
    package var run: String?
    /// Ended at this time or later.
    package var from: Date?
    /// Ended before this time.
    package var to: Date?
    /// Only dead jobs that a person took off the list; without it all others.
    package var discarded: Bool

    package init(
        states: [JobState] = [], service: String? = nil, name: String? = nil, channel: String? = nil, reason: String? = nil,
        type: String? = nil, error: String? = nil, run: String? = nil, from: Date? = nil, to: Date? = nil, discarded: Bool = false
    ) {
        self.states = states
        self.service = service
        self.name = name
        self.channel = channel
        self.reason = reason
        self.type = type
        self.error = error
        self.run = run
        self.from = from
        self.to = to
        self.discarded = discarded
    }
}

/// One run or job that a filter has found, as it was then.
package struct LedgerMatch: Sendable, Hashable {
    package var id: String
    /// A run's state, or a job's.
    package var state: String
    /// Changes whenever the run or job becomes another than it was: a later look tells by it.
    package var mark: String
    /// Of a run: whether a failed, dead or cancelled job is in it that nobody has discarded.
    package var hasBroken: Bool
    /// Of a job: its run.
    package var runID: String
    package var isRunActive: Bool
    /// Whether the run's files are gone, so that everything of it begins anew.
    package var hasBegunCleaning: Bool
    /// Of a run, where it was asked for: the newest run of the same series, study or patient, which may be itself.
    package var newestRun: String?
}

/// Jobs that ended the same way.
package struct LedgerJobGroup: Sendable, Hashable {
    package var service: String
    package var name: String
    /// The reason's code.
    package var reason: String
    /// The error's type; nil where there was no error, as with lost workers.
    package var type: String?
    package var count: Int
    /// The id of the newest of them.
    package var newest: String
}

extension LedgerReader {
    private static let runMark = "run.state || ':' || coalesce(run.finished_at, '')"
    private static let jobMark =
        "job.state || ':' || job.attempt || ':' || coalesce(job.finished_at, '') || coalesce(':' || job.discarded_at, '')"
    /// One step into an index, `run_resource`. The `+` keeps the others away: of one level there may be a million runs.
    private static let newestRun = """
        (SELECT max(other.id) FROM run AS other
         WHERE other.resource_id = run.resource_id AND +other.server = run.server AND +other.level = run.level)
        """

    private static func runMark(isOfResource: Bool) -> String {
        isOfResource ? "\(runMark) || ':' || \(newestRun)" : runMark
    }

    /// Asks a run why its jobs are where they are, at the moment of the same look.
    package typealias RunLookup = (RunID) throws -> Run?

    /// Goes through all runs that match, the oldest first, at one moment. None is held longer than `add` holds it: there may be a hundred thousand.
    ///
    /// - Parameters:
    ///   - ids: only runs among these; nil is all of them.
    ///   - isOfResource: whether the newest run of the same series, study or patient matters. A later one then changes the mark, too.
    ///   - limit: at most so many.
    package func matches<Result: Sendable>(
        _ filter: LedgerRunFilter, ids: [String]? = nil, isOfResource: Bool = false, limit: Int, into result: Result,
        _ add: @escaping @Sendable (inout Result, LedgerMatch, RunLookup) throws -> Void
    ) async throws -> Result {
        try await read { [common] db in
            var search = try LedgerRunSearch(filter, db, common: common)
            if let ids { search.add("\(search.id) IN (\(databaseQuestionMarks(count: ids.count)))", StatementArguments(ids)) }
            let rows = try Row.fetchCursor(
                db,
                sql: search.sql(
                    """
                    run.id, run.state, \(Self.runMark(isOfResource: isOfResource)) AS mark, run.begun_cleaning,
                    EXISTS (
                        SELECT 1 FROM job WHERE job.run_id = run.id AND job.state IN ('failed', 'dead', 'cancelled')
                        AND job.discarded_at IS NULL) AS broken,
                    \(isOfResource ? Self.newestRun : "NULL") AS newest
                    """) + " ORDER BY \(search.id) LIMIT ?", arguments: search.arguments + [limit])
            return try Self.fold(rows, result, add, db) { row in
                LedgerMatch(
                    id: row["id"], state: row["state"], mark: row["mark"], hasBroken: row["broken"], runID: row["id"],
                    isRunActive: row["state"] == RunState.active.rawValue, hasBegunCleaning: row["begun_cleaning"],
                    newestRun: row["newest"])
            }
        }
    }

    /// Goes through all failed and dead jobs that match, those of the oldest runs first, as ``matches(_:ids:isOfResource:limit:into:_:)``
    /// does through runs.
    ///
    /// - Parameter ids: only jobs among these; nil is all of them.
    package func matches<Result: Sendable>(
        _ filter: LedgerJobFilter, ids: [String]? = nil, limit: Int, into result: Result,
        _ add: @escaping @Sendable (inout Result, LedgerMatch, RunLookup) throws -> Void
    ) async throws -> Result {
        var (conditions, arguments) = Self.conditions(filter)
        Self.add(ids, "job.id", &conditions, &arguments)
        return try await read { [conditions, arguments] db in
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT job.id, job.state, job.run_id, \(Self.jobMark) AS mark, run.state AS run_state, run.begun_cleaning
                    FROM job JOIN run ON run.id = job.run_id WHERE \(conditions.joined(separator: " AND ")) ORDER BY job.id LIMIT ?
                    """, arguments: arguments + [limit])
            return try Self.fold(rows, result, add, db) { row in
                LedgerMatch(
                    id: row["id"], state: row["state"], mark: row["mark"], hasBroken: true, runID: row["run_id"],
                    isRunActive: row["run_state"] == RunState.active.rawValue, hasBegunCleaning: row["begun_cleaning"])
            }
        }
    }

    private static func fold<Result>(
        _ rows: RowCursor, _ result: Result, _ add: (inout Result, LedgerMatch, RunLookup) throws -> Void, _ db: Database,
        _ match: (Row) -> LedgerMatch
    ) throws -> Result {
        var result = result
        let transaction = SQLiteTransaction(db: db)
        while let row = try rows.next() { try add(&result, match(row), transaction.run) }
        return result
    }

    private static func add(_ ids: [String]?, _ column: String, _ conditions: inout [String], _ arguments: inout StatementArguments) {
        guard let ids else { return }
        conditions.append("\(column) IN (\(databaseQuestionMarks(count: ids.count)))")
        arguments += StatementArguments(ids)
    }

    static func conditions(_ filter: LedgerJobFilter) -> ([String], StatementArguments) {
        // Written out, so that the index of just these jobs serves it.
        let states = (filter.states.isEmpty ? [.failed, .dead] : filter.states).map { "job.state = '\($0.rawValue)'" }
        var conditions = [
            "(job.state = 'failed' OR job.state = 'dead')", "(" + states.joined(separator: " OR ") + ")",
            "(job.discarded_at IS NULL) = \(filter.discarded ? 0 : 1)",
        ]
        var arguments = StatementArguments()
        func add(_ condition: String, _ value: (any DatabaseValueConvertible)?) {
            guard let value else { return }
            conditions.append(condition)
            arguments += [value]
        }
        // With the `+`, as the indexes of these columns lead through all jobs that ever succeeded.
        add("+job.service = ?", filter.service)
        add("+job.name = ?", filter.name)
        add("job.channel = ?", filter.channel)
        add("json_extract(job.reason, '$.code') = ?", filter.reason)
        add("coalesce(json_extract(job.error, '$.type'), '') = ?", filter.type)
        if let error = filter.error {
            let pattern = error.anywhere
            conditions.append(
                """
                (json_extract(job.error, '$.type') LIKE ? ESCAPE '\\' OR json_extract(job.error, '$.message') LIKE ? ESCAPE '\\'
                 OR json_extract(job.reason, '$.text') LIKE ? ESCAPE '\\')
                """)
            arguments += [pattern, pattern, pattern]
        }
        add("job.run_id = ?", filter.run)
        add("job.finished_at >= ?", filter.from?.timeIntervalSince1970)
        add("job.finished_at < ?", filter.to?.timeIntervalSince1970)
        return (conditions, arguments)
    }

    /// How runs or jobs stand now: mark by id. Without those that are no longer there.
    ///
    /// - Parameter isOfResource: as the marks were asked for.
    package func marks(of ids: [String], areRuns: Bool, isOfResource: Bool = false) async throws -> [String: String] {
        let (table, mark) = areRuns ? ("run", Self.runMark(isOfResource: isOfResource)) : ("job", Self.jobMark)
        return try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT id, \(mark) AS mark FROM \(table) WHERE id IN (\(databaseQuestionMarks(count: ids.count)))",
                arguments: StatementArguments(ids)
            ).reduce(into: [:]) { $0[$1["id"]] = $1["mark"] as String }
        }
    }

    /// Failed or dead jobs, those of the newest runs first.
    ///
    /// - Parameter cursor: the `next` of the page before.
    package func brokenJobs(_ filter: LedgerJobFilter, limit: Int, cursor: String? = nil) async throws -> LedgerPage<LedgerDeadJob> {
        var (conditions, arguments) = Self.conditions(filter)
        if let cursor {
            conditions.append("job.id < ?")
            arguments += [cursor]
        }
        return try await read { [conditions, arguments] db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LedgerJob.columns), run.level AS run_level, run.resource_id AS run_resource
                    FROM job JOIN run ON run.id = job.run_id WHERE \(conditions.joined(separator: " AND ")) ORDER BY job.id DESC LIMIT ?
                    """, arguments: arguments + [limit + 1])
            return LedgerPage(try rows.map(Self.deadJob), limit: limit, key: \.job.id)
        }
    }

    static func deadJob(_ row: Row) throws -> LedgerDeadJob {
        LedgerDeadJob(job: try LedgerJob(row: row), level: row["run_level"], resourceID: row["run_resource"])
    }

    /// In how many ways the jobs that match ended, the most frequent first.
    ///
    /// - Parameter limit: at most so many jobs are looked at, the newest first.
    /// - Returns: the groups, and whether more jobs match than were looked at.
    package func brokenGroups(
        _ filter: LedgerJobFilter, limit: Int = LedgerRunCounts.limit
    ) async throws -> (groups: [LedgerJobGroup], isCut: Bool) {
        let (conditions, arguments) = Self.conditions(filter)
        return try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT service, name, code, type, COUNT(*) AS n, max(id) AS newest FROM (
                        SELECT job.id, job.service, job.name, json_extract(job.reason, '$.code') AS code,
                            nullif(json_extract(job.error, '$.type'), '') AS type
                        FROM job WHERE \(conditions.joined(separator: " AND ")) ORDER BY job.id DESC LIMIT \(limit + 1))
                    GROUP BY service, name, code, type ORDER BY n DESC, newest DESC
                    """, arguments: arguments)
            let groups = rows.map { row in
                LedgerJobGroup(
                    service: row["service"], name: row["name"], reason: row["code"] ?? "", type: row["type"], count: row["n"],
                    newest: row["newest"])
            }
            return (groups, groups.reduce(0) { $0 + $1.count } > limit)
        }
    }

    /// These runs, in this order, without those that are not there.
    package func runs(_ ids: [String]) async throws -> [LedgerRun] {
        try await read { db in
            let rows = try Row.fetchAll(
                db, sql: "SELECT \(LedgerRun.columns) FROM run WHERE id IN (\(databaseQuestionMarks(count: ids.count)))",
                arguments: StatementArguments(ids))
            let found = Dictionary(try rows.map { try LedgerRun(row: $0) }.map { ($0.id, $0) }) { first, _ in first }
            return ids.compactMap { found[$0] }
        }
    }

    /// These jobs, in this order, without those that are not there.
    package func jobs(_ ids: [String]) async throws -> [LedgerDeadJob] {
        try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LedgerJob.columns), run.level AS run_level, run.resource_id AS run_resource
                    FROM job JOIN run ON run.id = job.run_id WHERE job.id IN (\(databaseQuestionMarks(count: ids.count)))
                    """, arguments: StatementArguments(ids))
            let found = Dictionary(try rows.map(Self.deadJob).map { ($0.job.id, $0) }) { first, _ in first }
            return ids.compactMap { found[$0] }
        }
    }

    /// Jobs as the router sees them, by id, without what they depend on.
    package func jobs(asked ids: [String]) async throws -> [String: Job] {
        try await read { db in try SQLiteTransaction(db: db).jobs(ids) }
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
