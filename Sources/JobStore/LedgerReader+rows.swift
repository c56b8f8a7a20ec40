import Foundation
import GRDB
import Jobs

// How the tables' rows become values. A row that no version of ours wrote is an error that names the place, never the value.

extension Row {
    func date(_ column: String) -> Date { Date(timeIntervalSince1970: self[column]) }

    func optionalDate(_ column: String) -> Date? {
        (self[column] as Double?).map(Date.init(timeIntervalSince1970:))
    }

    func decoded<Value: Decodable>(_ type: Value.Type, _ column: String) throws -> Value {
        guard let value = try optional(type, column) else { throw damaged(column) }
        return value
    }

    func optional<Value: Decodable>(_ type: Value.Type, _ column: String) throws -> Value? {
        guard let text = self[column] as String? else { return nil }
        do {
            return try JSONCoding.decode(type, from: [UInt8](text.utf8))
        } catch {
            throw damaged(column)
        }
    }

    func raw<Value: RawRepresentable>(_ type: Value.Type, _ column: String) throws -> Value
    where Value.RawValue: DatabaseValueConvertible {
        guard let raw = self[column] as Value.RawValue?, let value = Value(rawValue: raw) else { throw damaged(column) }
        return value
    }

    private func damaged(_ column: String) -> LedgerReaderError {
        LedgerReaderError(code: .damaged, message: "The ledger holds a value in column '\(column)' that this version cannot read.")
    }
}

extension LedgerRun {
    static let columns = """
        run.id, run.event_seq, run.origin, run.server, run.level, run.resource_id, run.state, run.reason, run.dcmpath, run.created_at,
        run.finished_at
        """

    init(row: Row) throws {
        self.init(
            id: row["id"],
            eventSequence: row["event_seq"],
            origin: row["origin"],
            server: row["server"],
            level: row["level"],
            resourceID: row["resource_id"],
            state: try row.raw(RunState.self, "state"),
            reason: try row.optional(Reason.self, "reason"),
            dcmpath: row["dcmpath"],
            createdAt: row.date("created_at"),
            finishedAt: row.optionalDate("finished_at"),
            counts: [:]
        )
    }

    /// Fills in what other tables know of `runs`: one query a table for all of them.
    static func count(_ runs: [LedgerRun], _ db: Database) throws -> [LedgerRun] {
        guard !runs.isEmpty else { return [] }
        var counts: [String: [JobState: Int]] = [:]
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT run_id, state, COUNT(*) AS jobs FROM job
                WHERE run_id IN (\(databaseQuestionMarks(count: runs.count))) GROUP BY run_id, state
                """,
            arguments: StatementArguments(runs.map(\.id))
        )
        while let row = try rows.next() {
            counts[row["run_id"], default: [:]][try row.raw(JobState.self, "state")] = row["jobs"]
        }
        var modalities: [String: [String]] = [:]
        let marks = databaseQuestionMarks(count: runs.count)
        for row in try Row.fetchAll(
            db, sql: "SELECT run_id, modality FROM run_modality WHERE run_id IN (\(marks)) ORDER BY modality",
            arguments: StatementArguments(runs.map(\.id)))
        {
            modalities[row["run_id"], default: []].append(row["modality"])
        }
        var held: [Int64: (series: Int, images: Int)] = [:]
        for row in try Row.fetchAll(
            db,
            sql: """
                SELECT seq, json_array_length(series) AS series,
                    (SELECT coalesce(sum(json_extract(one.value, '$.instances')), 0) FROM json_each(event.series) AS one) AS images
                FROM event WHERE seq IN (\(marks))
                """, arguments: StatementArguments(runs.map(\.eventSequence)))
        {
            held[row["seq"]] = (row["series"], row["images"])
        }
        return runs.map { run in
            var run = run
            run.counts = counts[run.id] ?? [:]
            run.modalities = modalities[run.id] ?? []
            (run.series, run.images) = held[run.eventSequence] ?? (0, 0)
            return run
        }
    }
}

extension LedgerJob {
    static let columns = """
        job.id, job.run_id, job.position, job.name, job.service, job.stage, job.channel, job.priority, job.state, job.reason, job.attempt,
        job.token, job.crashes, job.cancel_requested, job.worker, job.not_before, job.queued_at, job.dispatched_at, job.started_at,
        job.finished_at, job.error, job.discarded_by, job.discarded_at
        """

    init(row: Row) throws {
        self.init(
            id: row["id"],
            runID: row["run_id"],
            position: row["position"],
            name: row["name"],
            service: row["service"],
            stage: try row.raw(Stage.self, "stage"),
            channel: row["channel"],
            priority: try row.raw(Priority.self, "priority"),
            state: try row.raw(JobState.self, "state"),
            reason: try row.decoded(Reason.self, "reason"),
            attempt: row["attempt"],
            token: row["token"],
            crashes: row["crashes"],
            cancelRequested: row["cancel_requested"],
            worker: row["worker"],
            notBefore: row.optionalDate("not_before"),
            queuedAt: row.optionalDate("queued_at"),
            dispatchedAt: row.optionalDate("dispatched_at"),
            startedAt: row.optionalDate("started_at"),
            finishedAt: row.optionalDate("finished_at"),
            error: try row.optional(JobExit.Failure.self, "error"),
            discarded: row.optionalDate("discarded_at").map { Discard(actor: row["discarded_by"] ?? "", at: $0) },
            progress: nil
        )
    }
}

extension LedgerEdge {
    init(row: Row) throws {
        self.init(
            child: row["child"],
            parent: row["parent"],
            condition: try row.raw(Dependency.Condition.self, "condition"),
            origin: try row.raw(Dependency.Origin.self, "origin"),
            satisfiedBy: row["satisfied_by"]
        )
    }
}

extension LedgerAttempt {
    /// Without what an attempt returned and printed, which can be large.
    static let briefColumns = """
        job_id, attempt, token, worker, claimed_at, progress, lost_reason, ended_at,
        json_extract(exit, '$.outcome') AS outcome, json_extract(exit, '$.kind') AS kind, NULL AS exit, NULL AS params
        """
    static let columns = """
        job_id, attempt, token, worker, claimed_at, progress, lost_reason, ended_at,
        json_extract(exit, '$.outcome') AS outcome, json_extract(exit, '$.kind') AS kind, exit, params
        """

    init(row: Row) throws {
        let lost = try row.optional(Reason.self, "lost_reason")
        let outcome: String? = row["outcome"]
        let kind: String? = row["kind"]
        self.init(
            jobID: row["job_id"],
            attempt: row["attempt"],
            token: row["token"],
            worker: row["worker"],
            claimedAt: row.date("claimed_at"),
            endedAt: row.optionalDate("ended_at"),
            progress: LedgerProgress(try row.optional(JSONValue.self, "progress")),
            outcome: outcome ?? lost.map { _ in "lost" },
            kind: kind ?? lost?.code,
            exit: try row.optional(JobExit.self, "exit"),
            lostReason: lost,
            params: try row.optional(JSONValue.self, "params")
        )
    }
}

extension LedgerProgress {
    init?(_ document: JSONValue?) {
        let fraction: Double
        switch document?["fraction"] {
        case .number(let value): fraction = value
        case .integer(let value): fraction = Double(value)
        default: return nil
        }
        guard fraction.isFinite else { return nil }
        self.init(fraction: min(1, max(0, fraction)), text: document?["text"]?.string)
    }
}

extension LedgerEvent {
    static let columns = """
        event.seq, event.snapshot, event.server, event.level, event.resource_id, event.observed_at, event.received_at, event.follows,
        event.filter_code, event.filter_text, event.series, event.refused, event.failures, event.problem, event.tried_at
        """

    init(row: Row) throws {
        self.init(
            sequence: row["seq"],
            snapshot: row["snapshot"],
            server: row["server"],
            level: row["level"],
            resourceID: row["resource_id"],
            observedAt: row.date("observed_at"),
            receivedAt: row.date("received_at"),
            follows: row["follows"],
            filtered: (row["filter_code"] as String?).map { Reason($0, row["filter_text"] ?? "") },
            series: try row.decoded([LedgerSeries].self, "series"),
            refusedSeries: try row.decoded(JSONValue.self, "refused").object?.count ?? 0,
            runs: [],
            planningFailures: row["failures"],
            problem: try row.optional(Reason.self, "problem"),
            isAbandoned: (row["problem"] as String?) != nil && (row["tried_at"] as Double?) == nil
        )
    }
}

extension LedgerFact {
    init(row: Row) throws {
        self.init(
            sequence: row["seq"],
            at: row.date("at"),
            kind: row["kind"],
            runID: row["run_id"],
            jobID: row["job_id"],
            data: try row.decoded(JSONValue.self, "data")
        )
    }
}

extension LedgerDeadMessage {
    /// Without the body, which can be large.
    static let columns = """
        seq, at, queue, routing_key, reason, message_id, type, size, state, decided_by, decided_at, problem, body IS NOT NULL AS has_body
        """

    init(row: Row) throws {
        self.init(
            sequence: row["seq"], at: row.date("at"), queue: row["queue"], routingKey: row["routing_key"], reason: row["reason"],
            messageID: row["message_id"], type: row["type"], size: row["size"], state: try row.raw(ParkedMessage.State.self, "state"),
            decidedBy: row["decided_by"], decidedAt: row.optionalDate("decided_at"), problem: row["problem"], hasBody: row["has_body"])
    }
}
