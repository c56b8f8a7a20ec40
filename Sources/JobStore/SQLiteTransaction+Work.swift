import Foundation
import GRDB
import Jobs
import Pipeline

extension SQLiteTransaction {
    func appendOutbox(_ message: OutboxMessage) throws -> OutboxRow {
        try run(
            "INSERT INTO outbox (kind, job_id, attempt, dispatch, body) VALUES (?, ?, ?, ?, ?)",
            [message.kind.rawValue, message.job.rawValue, message.attempt, message.dispatch, LedgerJSON.text(message)])
        return OutboxRow(id: db.lastInsertedRowID, message: message)
    }

    func removeOutbox(_ id: Int64) throws {
        try run("DELETE FROM outbox WHERE id = ?", [id])
    }

    func pendingOutbox() throws -> [OutboxRow] {
        try rows("SELECT id, body FROM outbox ORDER BY id").map { row in
            OutboxRow(id: row["id"], message: try LedgerJSON.value(OutboxMessage.self, from: row["body"], column: "outbox.body"))
        }
    }

    func startAttempt(_ job: JobID, attempt: Int, token: Int, worker: String, params: JSONValue?, at now: Date) throws {
        try run(
            "INSERT INTO attempt (job_id, attempt, token, worker, claimed_at, params) VALUES (?, ?, ?, ?, ?, ?)",
            [job.rawValue, attempt, token, worker, now.ledgerTime, params?.text])
    }

    func endAttempt(_ job: JobID, attempt: Int, token: Int, ending: AttemptEnding, at now: Date) throws {
        let (exit, lost): (String?, String?) =
            switch ending {
            case .exit(let exit): (LedgerJSON.text(exit), nil)
            case .lost(let reason): (nil, LedgerJSON.text(reason))
            }
        try run(
            "UPDATE attempt SET exit = ?, lost_reason = ?, ended_at = ? WHERE job_id = ? AND attempt = ? AND token = ?",
            [exit, lost, now.ledgerTime, job.rawValue, attempt, token])
    }

    func recordProgress(_ progress: RenewMessage.Progress, of job: JobID, attempt: Int, token: Int) throws {
        try run(
            "UPDATE attempt SET progress = ? WHERE job_id = ? AND attempt = ? AND token = ?",
            [LedgerJSON.text(progress), job.rawValue, attempt, token])
    }

    func runningAttempts() throws -> [RunningAttempt] {
        try rows("SELECT id, token FROM job WHERE state = 'running'").compactMap { row in
            JobID(rawValue: row["id"]).map { RunningAttempt(job: $0, token: row["token"]) }
        }
    }

    func waitingLanes(at now: Date) throws -> [WaitingLane] {
        try lanes().compactMap { channel, priority in
            let sql = """
                SELECT min(since) AS oldest FROM (
                    SELECT min(dispatched_at) AS since FROM job
                        WHERE state = 'dispatched' AND channel = :channel AND priority = :priority
                    UNION ALL
                    SELECT min(not_before) FROM job
                        WHERE state = 'retrying' AND channel = :channel AND priority = :priority AND not_before < :now)
                """
            let first = try row(sql, ["channel": channel, "priority": priority.rawValue, "now": now.ledgerTime])
            return (first?["oldest"] as Double?).map { WaitingLane(channel: channel, priority: priority, oldest: Date(ledgerTime: $0)) }
        }
    }

    /// The lanes that hold anything, from the counts: a few rows, however many jobs there are.
    private func lanes() throws -> [(channel: String, priority: Priority)] {
        let sql = """
            SELECT channel, priority FROM job_tally WHERE state IN ('dispatched', 'retrying') AND jobs > 0
            GROUP BY channel, priority ORDER BY channel, priority DESC
            """
        return try rows(sql).compactMap { row in Priority(rawValue: row["priority"]).map { (row["channel"], $0) } }
    }

    func overdueHints(of channel: String, priority: Priority, before cutoff: Date, limit: Int) throws -> [WaitingHint] {
        try overdue(channel, priority, cutoff, limit).compactMap(Self.hint)
    }

    private func overdue(_ channel: String, _ priority: Priority, _ cutoff: Date, _ limit: Int) throws -> [Row] {
        // Each part comes sorted from its index and stops at the limit.
        try rows(
            """
            SELECT * FROM (
                SELECT id, attempt, dispatch, channel, dispatched_at AS since FROM job
                WHERE state = 'dispatched' AND channel = :channel AND priority = :priority AND dispatched_at < :cutoff
                ORDER BY dispatched_at LIMIT :limit)
            UNION ALL
            SELECT * FROM (
                SELECT id, attempt, dispatch, channel, not_before AS since FROM job
                WHERE state = 'retrying' AND channel = :channel AND priority = :priority AND not_before < :cutoff
                ORDER BY not_before LIMIT :limit)
            ORDER BY since LIMIT :limit
            """, ["cutoff": cutoff.ledgerTime, "channel": channel, "priority": priority.rawValue, "limit": limit])
    }

    func agedHints(before cutoff: Date, limit: Int) throws -> [WaitingHint] {
        let waiting = try lanes().filter { $0.priority < .urgent }.flatMap { channel, priority in
            try overdue(channel, priority, cutoff, limit)
        }
        return waiting.sorted { ($0["since"] as Double) < ($1["since"] as Double) }.prefix(limit).compactMap(Self.hint)
    }

    private static func hint(_ row: Row) -> WaitingHint? {
        JobID(rawValue: row["id"]).map {
            WaitingHint(job: $0, attempt: row["attempt"], dispatch: row["dispatch"], channel: row["channel"])
        }
    }

    func saveWorker(_ worker: WorkerInfo, busy: Int, at now: Date) throws {
        try run(
            """
            INSERT INTO worker (id, host, info, busy, started_at, seen_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET host = excluded.host, info = excluded.info, busy = excluded.busy,
                started_at = excluded.started_at, seen_at = excluded.seen_at
            """,
            [worker.id, worker.host, LedgerJSON.text(worker), busy, worker.startedAt.ledgerTime, now.ledgerTime])
    }

    func isWorkerKnown(_ id: String) throws -> Bool {
        try row("SELECT 1 FROM worker WHERE id = ?", [id]) != nil
    }

    func forgetWorkers(seenBefore cutoff: Date) throws {
        try run("DELETE FROM worker WHERE seen_at < ?", [cutoff.ledgerTime])
    }

    func channelsServed(seenAfter cutoff: Date) throws -> Set<String> {
        let workers = try rows("SELECT info FROM worker WHERE seen_at > ?", [cutoff.ledgerTime]).map {
            try LedgerJSON.value(WorkerInfo.self, from: $0["info"], column: "worker.info")
        }
        return Set(workers.filter { $0.state == .running }.flatMap(\.channels))
    }

    func pausedWork() throws -> PausedWork {
        PausedWork(try rows("SELECT kind, name FROM pause").compactMap { PauseTarget(kind: $0["kind"], name: $0["name"]) })
    }

    func mostUrgentWaiting(channel: String) throws -> Priority? {
        try row("SELECT max(priority) AS priority FROM job WHERE channel = ? AND state = 'dispatched'", [channel])
            .flatMap { $0["priority"] as Int? }
            .flatMap(Priority.init(rawValue:))
    }

    func setPaused(_ target: PauseTarget, by actor: String?, at now: Date) throws {
        if case .channel(let name) = target { try noteChannels([name]) }
        guard let actor else { return try run("DELETE FROM pause WHERE kind = ? AND name = ?", [target.kind, target.name]) }
        // Who paused it first, and since when, is what people want to know.
        try run(
            "INSERT OR IGNORE INTO pause (kind, name, paused_by, paused_at) VALUES (?, ?, ?, ?)",
            [target.kind, target.name, actor, now.ledgerTime])
    }

    func noteChannels(_ names: [String]) throws {
        for name in names { try run("INSERT OR IGNORE INTO channel (name) VALUES (?)", [name]) }
    }

    func channels() throws -> [String] {
        try rows("SELECT name FROM channel ORDER BY name").map { $0["name"] }
    }

    func runsWithReadyJobs(of target: PauseTarget, after last: RunID?, limit: Int) throws -> [RunID] {
        let column = target.kind
        let sql = "SELECT DISTINCT run_id FROM job WHERE state = 'ready' AND \(column) = ? AND run_id > ? ORDER BY run_id LIMIT ?"
        return try rows(sql, [target.name, last?.rawValue ?? "", limit]).compactMap { RunID(rawValue: $0["run_id"]) }
    }

    func setBrokerState(_ state: BrokerState, at now: Date) throws {
        try run(
            "INSERT OR REPLACE INTO broker (id, condition, reason, since, reported_at) VALUES (1, ?, ?, ?, ?)",
            [state.condition.rawValue, state.reason, state.since.ledgerTime, now.ledgerTime])
    }
}
