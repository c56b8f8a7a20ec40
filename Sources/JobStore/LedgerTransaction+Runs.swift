package import Foundation
import GRDB
package import Jobs
package import Pipeline

/// What a run's jobs work on; never changes after planning.
package struct RunContext: Sendable, Hashable {
    package var source: JobSource
    /// Upstream's payload, `dcmpath` included.
    package var headers: JSONValue
    package var addedParams: [String: JSONValue]

    package init(source: JobSource, headers: JSONValue, addedParams: [String: JSONValue]) {
        self.source = source
        self.headers = headers
        self.addedParams = addedParams
    }
}

package struct StoredRun: Sendable, Hashable {
    package var run: Run
    package var context: RunContext

    package init(run: Run, context: RunContext) {
        self.run = run
        self.context = context
    }
}

extension LedgerTransaction {
    package func hasRun(dedupeKey: String) throws -> Bool {
        try row("SELECT 1 FROM run WHERE dedupe_key = ?", [dedupeKey]) != nil
    }

    /// - Parameters:
    ///   - dedupeKey: one run for each; the event's snapshot, or the command that asked for another one.
    ///   - origin: `event`, or `reprocess:<run>`.
    ///   - filteredHeaders: what the jobs see, when that is less than the event's headers.
    package func insertRun(
        _ stored: StoredRun, event: Int64, dedupeKey: String, origin: String, filteredHeaders: JSONValue?,
        decisions: [Decision], at now: Date
    ) throws {
        let run = stored.run
        let source = stored.context.source
        try self.run(
            """
            INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, reason, concern, dcmpath, headers,
                             added_params, created_at, finished_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                run.id.rawValue, event, origin, dedupeKey, source.server, source.level.rawValue, source.resourceID, run.state.rawValue,
                run.reason.map(LedgerJSON.text), run.concern.map(LedgerJSON.text), source.dcmpath, filteredHeaders?.text,
                JSONValue.object(stored.context.addedParams).text, now.ledgerTime,
                run.finishedAt?.ledgerTime,
            ])
        for (position, job) in run.jobs.enumerated() { try insert(job, run.id, position) }
        for decision in decisions {
            try self.run("INSERT INTO decision (run_id, body) VALUES (?, ?)", [run.id.rawValue, LedgerJSON.text(decision)])
        }
    }

    /// Writes what `apply` changed.
    package func update(_ run: Run, from old: Run) throws {
        if run.state != old.state || run.reason != old.reason || run.finishedAt != old.finishedAt {
            try self.run(
                "UPDATE run SET state = ?, reason = ?, finished_at = ? WHERE id = ?",
                [run.state.rawValue, run.reason.map(LedgerJSON.text), run.finishedAt?.ledgerTime, run.id.rawValue])
        }
        for (position, job) in run.jobs.enumerated() where job != old.jobs[position] {
            try update(job, run.id, position)
            for (edge, before) in zip(job.dependencies, old.jobs[position].dependencies) where edge != before {
                try self.run(
                    "UPDATE edge SET satisfied_by = ? WHERE run_id = ? AND child = ? AND parent = ?",
                    [edge.satisfiedBy, run.id.rawValue, position, edge.parent])
            }
        }
    }

    package func loadRun(_ id: RunID) throws -> StoredRun? {
        let sql = """
            SELECT run.*, event.series AS series, event.headers AS event_headers
            FROM run JOIN event ON event.seq = run.event_seq WHERE run.id = ?
            """
        guard let row = try row(sql, [id.rawValue]) else { return nil }
        guard let state = RunState(rawValue: row["state"]), let level = ResourceLevel(rawValue: row["level"]) else {
            throw LedgerError(code: .corrupt, message: "Run \(id) has a state or a level that this version does not know.")
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
        let run = Run(
            id: id, state: state,
            reason: try (row["reason"] as String?).map { try LedgerJSON.value(Reason.self, from: $0, column: "run.reason") },
            finishedAt: (row["finished_at"] as Double?).map(Date.init(ledgerTime:)),
            concern: try (row["concern"] as String?).map { try LedgerJSON.value(Reason.self, from: $0, column: "run.concern") },
            jobs: try jobs(of: id)
        )
        return StoredRun(run: run, context: context)
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

    private static func job(_ row: Row, dependencies: [Dependency]) throws -> Job {
        guard let state = JobState(rawValue: row["state"]) else {
            throw LedgerError(code: .corrupt, message: "Job \(row["id"] as String) is in a state that this version does not know.")
        }
        func time(_ column: String) -> Date? { (row[column] as Double?).map(Date.init(ledgerTime:)) }
        return Job(
            definition: try LedgerJSON.value(JobDefinition.self, from: row["definition"], column: "job.definition"),
            dependencies: dependencies,
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
            result: try (row["result"] as String?).map { try LedgerJSON.value(JSONValue.self, from: $0, column: "job.result") }
        )
    }

    private func insert(_ job: Job, _ id: RunID, _ position: Int) throws {
        let definition = job.definition
        try run(
            """
            INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition,
                             state, reason, attempt, dispatch, token, crashes, failures, cancel_requested, queued_at, finished_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                JobID(run: id, index: position).rawValue, id.rawValue, position, definition.name, definition.service,
                definition.stage.rawValue, definition.channel, definition.priority.rawValue, LedgerJSON.text(definition),
                job.state.rawValue, LedgerJSON.text(job.reason), job.attempt, job.dispatch, job.token, job.crashes, job.failures,
                job.cancelRequested, job.queuedAt?.ledgerTime, job.finishedAt?.ledgerTime,
            ])
        for edge in job.dependencies {
            try run(
                "INSERT INTO edge (run_id, child, parent, condition, origin, satisfied_by) VALUES (?, ?, ?, ?, ?, ?)",
                [id.rawValue, position, edge.parent, edge.condition.rawValue, edge.origin.rawValue, edge.satisfiedBy])
        }
    }

    private func update(_ job: Job, _ id: RunID, _ position: Int) throws {
        try run(
            """
            UPDATE job SET state = ?, reason = ?, attempt = ?, dispatch = ?, token = ?, crashes = ?, failures = ?, cancel_requested = ?, worker = ?,
                claim = ?,
                not_before = ?, queued_at = ?, dispatched_at = ?, started_at = ?, finished_at = ?, error = ?, result = ?
            WHERE id = ?
            """,
            [
                job.state.rawValue, LedgerJSON.text(job.reason), job.attempt, job.dispatch, job.token, job.crashes, job.failures,
                job.cancelRequested,
                job.worker, job.claim, job.notBefore?.ledgerTime, job.queuedAt?.ledgerTime, job.dispatchedAt?.ledgerTime,
                job.startedAt?.ledgerTime,
                job.finishedAt?.ledgerTime, job.failure.map(LedgerJSON.text), job.result?.text,
                JobID(run: id, index: position).rawValue,
            ])
    }
}
