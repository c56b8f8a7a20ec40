package import Foundation
import GRDB
package import Jobs
package import Pipeline

/// What has to reach the broker, kept until the broker has confirmed it.
package struct OutboxMessage: Sendable, Hashable, Codable {
    package enum Kind: String, Sendable, Codable {
        case hint
        /// A dead job, for the dead-letter exchange.
        case dead
    }

    package var kind: Kind
    package var job: JobID
    package var attempt: Int
    package var dispatch: Int
    package var channel: String
    package var priority: Priority
    package var delay: RetryDelay?
    /// Why the job is dead.
    package var reason: Reason?

    package init(
        kind: Kind, job: JobID, attempt: Int, dispatch: Int, channel: String, priority: Priority, delay: RetryDelay? = nil,
        reason: Reason? = nil
    ) {
        self.kind = kind
        self.job = job
        self.attempt = attempt
        self.dispatch = dispatch
        self.channel = channel
        self.priority = priority
        self.delay = delay
        self.reason = reason
    }
}

package struct OutboxRow: Sendable, Hashable {
    package var id: Int64
    package var message: OutboxMessage

    package init(id: Int64, message: OutboxMessage) {
        self.id = id
        self.message = message
    }
}

/// A hint that a claim should have followed.
package struct OverdueHint: Sendable, Hashable {
    package var job: JobID
    package var attempt: Int
    package var dispatch: Int
    package var channel: String
}

/// An attempt that some worker holds the lease of.
package struct RunningAttempt: Sendable, Hashable {
    package var job: JobID
    package var token: Int
}

extension LedgerTransaction {
    package func appendOutbox(_ message: OutboxMessage) throws -> OutboxRow {
        try run(
            "INSERT INTO outbox (kind, job_id, attempt, dispatch, body) VALUES (?, ?, ?, ?, ?)",
            [message.kind.rawValue, message.job.rawValue, message.attempt, message.dispatch, LedgerJSON.text(message)])
        return OutboxRow(id: db.lastInsertedRowID, message: message)
    }

    package func removeOutbox(_ id: Int64) throws {
        try run("DELETE FROM outbox WHERE id = ?", [id])
    }

    /// Everything that was committed and not yet confirmed: what a router that starts has to send.
    package func pendingOutbox() throws -> [OutboxRow] {
        try rows("SELECT id, body FROM outbox ORDER BY id").map { row in
            OutboxRow(id: row["id"], message: try LedgerJSON.value(OutboxMessage.self, from: row["body"], column: "outbox.body"))
        }
    }

    package func startAttempt(_ job: JobID, attempt: Int, token: Int, worker: String, at now: Date) throws {
        try run(
            "INSERT INTO attempt (job_id, attempt, token, worker, claimed_at) VALUES (?, ?, ?, ?, ?)",
            [job.rawValue, attempt, token, worker, now.ledgerTime])
    }

    package func endAttempt(_ job: JobID, attempt: Int, token: Int, ending: AttemptEnding, at now: Date) throws {
        let (exit, lost): (String?, String?) =
            switch ending {
            case .exit(let exit): (LedgerJSON.text(exit), nil)
            case .lost(let reason): (nil, LedgerJSON.text(reason))
            }
        try run(
            "UPDATE attempt SET exit = ?, lost_reason = ?, ended_at = ? WHERE job_id = ? AND attempt = ? AND token = ?",
            [exit, lost, now.ledgerTime, job.rawValue, attempt, token])
    }

    package func recordProgress(_ progress: RenewMessage.Progress, of job: JobID, attempt: Int, token: Int) throws {
        try run(
            "UPDATE attempt SET progress = ? WHERE job_id = ? AND attempt = ? AND token = ?",
            [LedgerJSON.text(progress), job.rawValue, attempt, token])
    }

    package func runningAttempts() throws -> [RunningAttempt] {
        try rows("SELECT id, token FROM job WHERE state = 'running'").compactMap { row in
            JobID(rawValue: row["id"]).map { RunningAttempt(job: $0, token: row["token"]) }
        }
    }

    /// How many jobs of each channel have a confirmed hint, or one whose delay has ended before `now`, and no claim: as many messages
    /// have to be in the channel's queue.
    package func expectedHints(at now: Date) throws -> [String: Int] {
        let sql = """
            SELECT channel, count(*) AS count FROM job
            WHERE state = 'dispatched' OR (state = 'retrying' AND not_before < :now) GROUP BY channel
            """
        let counts = try rows(sql, ["now": now.ledgerTime]).map { ($0["channel"] as String, $0["count"] as Int) }
        return Dictionary(uniqueKeysWithValues: counts)
    }

    /// Hints of a channel that were confirmed, or had their delay ended, before `cutoff`, and no claim followed; the oldest first.
    package func overdueHints(of channel: String, before cutoff: Date, limit: Int) throws -> [OverdueHint] {
        try rows(
            """
            SELECT id, attempt, dispatch, channel FROM job WHERE channel = :channel
                AND ((state = 'dispatched' AND dispatched_at < :cutoff) OR (state = 'retrying' AND not_before < :cutoff))
            ORDER BY coalesce(not_before, dispatched_at) LIMIT :limit
            """, ["cutoff": cutoff.ledgerTime, "channel": channel, "limit": limit]
        ).compactMap { row in
            JobID(rawValue: row["id"]).map {
                OverdueHint(job: $0, attempt: row["attempt"], dispatch: row["dispatch"], channel: row["channel"])
            }
        }
    }

    package func saveWorker(_ worker: WorkerInfo, busy: Int, at now: Date) throws {
        try run(
            """
            INSERT INTO worker (id, host, info, busy, started_at, seen_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET host = excluded.host, info = excluded.info, busy = excluded.busy,
                started_at = excluded.started_at, seen_at = excluded.seen_at
            """,
            [worker.id, worker.host, LedgerJSON.text(worker), busy, worker.startedAt.ledgerTime, now.ledgerTime])
    }

    package func forgetWorkers(seenBefore cutoff: Date) throws {
        try run("DELETE FROM worker WHERE seen_at < ?", [cutoff.ledgerTime])
    }

    package func pausedChannels() throws -> Set<String> {
        Set(try rows("SELECT name FROM channel WHERE paused_at IS NOT NULL").map { $0["name"] })
    }

    package func setPaused(_ channel: String, by actor: String?, at now: Date) throws {
        try run(
            """
            INSERT INTO channel (name, paused_by, paused_at) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET paused_by = excluded.paused_by, paused_at = excluded.paused_at
            """,
            [channel, actor, actor == nil ? nil : now.ledgerTime])
    }

    /// Channels that a worker serves or a job wants, so that they show before their first job.
    package func noteChannels(_ names: [String]) throws {
        for name in names { try run("INSERT OR IGNORE INTO channel (name) VALUES (?)", [name]) }
    }

    package func channels() throws -> [String] {
        try rows("SELECT name FROM channel ORDER BY name").map { $0["name"] }
    }

    /// Runs with a job of `channel` that is ready and not on its way.
    package func runsWithReadyJobs(channel: String) throws -> [RunID] {
        try rows("SELECT DISTINCT run_id FROM job WHERE state = 'ready' AND channel = ?", [channel])
            .compactMap { RunID(rawValue: $0["run_id"]) }
    }
}
