import Foundation
import GRDB
import Jobs
import Pipeline

extension SQLiteTransaction {
    func hasRun(dedupeKey: String) throws -> Bool {
        let sql = "SELECT 1 FROM run WHERE dedupe_key = :key UNION ALL SELECT 1 FROM settled WHERE snapshot = :key AND had_run LIMIT 1"
        return try row(sql, ["key": dedupeKey]) != nil
    }

    func insertRun(
        _ stored: StoredRun, event: Int64, dedupeKey: String, origin: String, filteredHeaders: JSONValue?,
        decisions: [Decision], at now: Date
    ) throws {
        let run = stored.run
        let source = stored.context.source
        try self.run(
            """
            INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, reason, concern,
                             begun_cleaning, dcmpath, headers, added_params, created_at, finished_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                run.id.rawValue, event, origin, dedupeKey, source.server, source.level.rawValue, source.resourceID, run.state.rawValue,
                run.reason.map(LedgerJSON.text), run.concern.map(LedgerJSON.text), run.hasBegunCleaning, source.dcmpath,
                filteredHeaders?.text,
                JSONValue.object(stored.context.addedParams).text, now.ledgerTime,
                run.finishedAt?.ledgerTime,
            ])
        try self.run(
            "INSERT OR IGNORE INTO run_modality SELECT value, ? FROM event, json_each(event.modalities) WHERE event.seq = ?",
            [run.id.rawValue, event])
        try self.run("UPDATE event SET problem = NULL, tried_at = NULL WHERE seq = ? AND problem IS NOT NULL", [event])
        for (position, job) in run.jobs.enumerated() { try insert(job, run.id, position) }
        for decision in decisions {
            try self.run("INSERT INTO decision (run_id, body) VALUES (?, ?)", [run.id.rawValue, LedgerJSON.text(decision)])
        }
    }

    func update(_ run: Run, from old: Run) throws {
        if run.state != old.state || run.reason != old.reason || run.finishedAt != old.finishedAt
            || run.hasBegunCleaning != old.hasBegunCleaning
        {
            try self.run(
                "UPDATE run SET state = ?, reason = ?, finished_at = ?, begun_cleaning = ? WHERE id = ?",
                [
                    run.state.rawValue, run.reason.map(LedgerJSON.text), run.finishedAt?.ledgerTime, run.hasBegunCleaning,
                    run.id.rawValue,
                ])
        }
        for (position, job) in run.jobs.enumerated() where job != old.jobs[position] {
            try update(job, run.id, position)
            let before = old.jobs[position]
            if job.changedParams != before.changedParams || job.discarded != before.discarded { try updateWishes(job, run.id, position) }
            for (edge, earlier) in zip(job.dependencies, before.dependencies) where edge != earlier {
                try self.run(
                    "UPDATE edge SET satisfied_by = ? WHERE run_id = ? AND child = ? AND parent = ?",
                    [edge.satisfiedBy, run.id.rawValue, position, edge.parent])
            }
        }
    }

    func loadRun(_ id: RunID) throws -> StoredRun? {
        let sql = """
            SELECT run.*, event.series AS series, event.headers AS event_headers
            FROM run JOIN event ON event.seq = run.event_seq WHERE run.id = ?
            """
        guard let row = try row(sql, [id.rawValue]) else { return nil }
        guard let level = ResourceLevel(rawValue: row["level"]) else {
            throw LedgerError(code: .corrupt, message: "Run \(id) has a level that this version does not know.")
        }
        var headers =
            try LedgerJSON.value(
                JSONValue.self, from: row["headers"] ?? row["event_headers"], column: "event.headers"
            ).object ?? [:]
        headers["dcmpath"] = .string(row["dcmpath"])
        let context = RunContext(
            source: JobSource(
                server: row["server"], level: level, resourceID: row["resource_id"],
                series: try LedgerJSON.value([EventMessage.Series].self, from: row["series"], column: "event.series"),
                dcmpath: row["dcmpath"]),
            headers: .object(headers),
            addedParams: try LedgerJSON.value([String: JSONValue].self, from: row["added_params"], column: "run.added_params")
        )
        return StoredRun(run: try run(id, row), context: context)
    }

    /// A run without what its jobs work on.
    func run(_ id: RunID) throws -> Run? {
        try row("SELECT state, reason, concern, finished_at, begun_cleaning FROM run WHERE id = ?", [id.rawValue]).map { try run(id, $0) }
    }

    private func run(_ id: RunID, _ row: Row) throws -> Run {
        guard let state = RunState(rawValue: row["state"]) else {
            throw LedgerError(code: .corrupt, message: "Run \(id) is in a state that this version does not know.")
        }
        func reason(_ column: String) throws -> Reason? {
            try (row[column] as String?).map { try LedgerJSON.value(Reason.self, from: $0, column: "run.\(column)") }
        }
        return Run(
            id: id,
            state: state,
            reason: try reason("reason"),
            finishedAt: (row["finished_at"] as Double?).map(Date.init(ledgerTime:)),
            concern: try reason("concern"),
            hasBegunCleaning: row["begun_cleaning"],
            jobs: try jobs(of: id)
        )
    }

    private func jobs(of id: RunID) throws -> [Job] {
        var edges: [Int: [Dependency]] = [:]
        for row in try rows("SELECT * FROM edge WHERE run_id = ? ORDER BY child, parent", [id.rawValue]) {
            guard let condition = Dependency.Condition(rawValue: row["condition"]), let origin = Dependency.Origin(rawValue: row["origin"])
            else {
                throw LedgerError(code: .corrupt, message: "Run \(id) has a dependency that this version does not know.")
            }
            edges[row["child"], default: []].append(
                Dependency(parent: row["parent"], condition: condition, origin: origin, satisfiedBy: row["satisfied_by"]))
        }
        return try rows("SELECT * FROM job WHERE run_id = ? ORDER BY position", [id.rawValue]).map { row in
            try Self.job(row, dependencies: edges[row["position"]] ?? [])
        }
    }

    /// Jobs by id, without what they depend on.
    func jobs(_ ids: [String]) throws -> [String: Job] {
        try rows("SELECT * FROM job WHERE id IN (\(databaseQuestionMarks(count: ids.count)))", StatementArguments(ids))
            .reduce(into: [:]) { $0[$1["id"]] = try Self.job($1, dependencies: []) }
    }

    private static func job(_ row: Row, dependencies: [Dependency]) throws -> Job {
        guard let state = JobState(rawValue: row["state"]) else {
            throw LedgerError(code: .corrupt, message: "Job \(row["id"] as String) is in a state that this version does not know.")
        }
        func time(_ column: String) -> Date? { (row[column] as Double?).map(Date.init(ledgerTime:)) }
        guard let priority = Priority(rawValue: row["priority"]) else {
            throw LedgerError(code: .corrupt, message: "Job \(row["id"] as String) has a priority that this version does not know.")
        }
        return Job(
            definition: try LedgerJSON.value(JobDefinition.self, from: row["definition"], column: "job.definition"),
            dependencies: dependencies,
            priority: priority,
            state: state,
            reason: try LedgerJSON.value(Reason.self, from: row["reason"], column: "job.reason"),
            attempt: row["attempt"],
            dispatch: row["dispatch"],
            token: row["token"],
            crashes: row["crashes"],
            failures: row["failures"],
            cancelRequested: row["cancel_requested"],
            worker: row["worker"],
            claim: row["claim"],
            notBefore: time("not_before"),
            queuedAt: time("queued_at"),
            dispatchedAt: time("dispatched_at"),
            startedAt: time("started_at"),
            finishedAt: time("finished_at"),
            failure: try (row["error"] as String?).map { try LedgerJSON.value(JobExit.Failure.self, from: $0, column: "job.error") },
            result: try (row["result"] as String?).map { try LedgerJSON.value(JSONValue.self, from: $0, column: "job.result") },
            changedParams: try (row["params"] as String?).map { try LedgerJSON.value(JSONValue.self, from: $0, column: "job.params") },
            discarded: time("discarded_at").map { Discard(actor: row["discarded_by"] ?? "", at: $0) }
        )
    }

    /// Columns that a job's way through its states changes, in the order of ``values(_:)``.
    private static let changing = [
        "priority", "state", "reason", "attempt", "dispatch", "token", "crashes", "failures", "cancel_requested", "worker", "claim",
        "not_before", "queued_at", "dispatched_at", "started_at", "finished_at", "error", "result",
    ]

    private static func values(_ job: Job) -> StatementArguments {
        [
            job.priority.rawValue, job.state.rawValue, LedgerJSON.text(job.reason), job.attempt, job.dispatch, job.token, job.crashes,
            job.failures, job.cancelRequested, job.worker, job.claim, job.notBefore?.ledgerTime, job.queuedAt?.ledgerTime,
            job.dispatchedAt?.ledgerTime, job.startedAt?.ledgerTime, job.finishedAt?.ledgerTime, job.failure.map(LedgerJSON.text),
            job.result?.text,
        ]
    }

    private static let insertion = """
        INSERT INTO job (id, run_id, position, name, service, stage, channel, definition, \(changing.joined(separator: ", ")))
        VALUES (\(databaseQuestionMarks(count: 8 + changing.count)))
        """
    private static let change = "UPDATE job SET \(changing.map { "\($0) = ?" }.joined(separator: ", ")) WHERE id = ?"

    private func insert(_ job: Job, _ id: RunID, _ position: Int) throws {
        let definition = job.definition
        let identity: StatementArguments = [
            JobID(run: id, index: position).rawValue, id.rawValue, position, definition.name, definition.service, definition.stage.rawValue,
            definition.channel, LedgerJSON.text(definition),
        ]
        try run(Self.insertion, identity + Self.values(job))
        for edge in job.dependencies {
            try run(
                "INSERT INTO edge (run_id, child, parent, condition, origin, satisfied_by) VALUES (?, ?, ?, ?, ?, ?)",
                [id.rawValue, position, edge.parent, edge.condition.rawValue, edge.origin.rawValue, edge.satisfiedBy])
        }
    }

    private func update(_ job: Job, _ id: RunID, _ position: Int) throws {
        try run(Self.change, Self.values(job) + [JobID(run: id, index: position).rawValue])
    }

    /// What only people set: seldom, so the statement that every step of a job writes is none the longer for it.
    private func updateWishes(_ job: Job, _ id: RunID, _ position: Int) throws {
        try run(
            "UPDATE job SET params = ?, discarded_by = ?, discarded_at = ? WHERE id = ?",
            [
                job.changedParams?.text, job.discarded?.actor, job.discarded?.at.ledgerTime, JobID(run: id, index: position).rawValue,
            ])
    }
}
