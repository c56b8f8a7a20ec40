import Foundation
import GRDB
import Jobs

extension SQLiteTransaction {
    func purge(_ cutoffs: RetentionCutoffs, rows limit: Int) throws -> PurgeStep {
        let before = db.totalChangesCount
        func deleted() -> Int { db.totalChangesCount - before }
        var step = PurgeStep()
        step.runs = try purgeRuns(endedBefore: cutoffs.runs) { deleted() < limit }
        if deleted() < limit { try purgeEvents(receivedBefore: cutoffs.runs, limit: limit - deleted()) }
        let examined = deleted() < limit ? try purgeFacts(before: cutoffs.runs, limit: limit - deleted()) : 0
        for (table, key, time, cutoff, condition) in [
            ("inbox", "message_id", "received_at", cutoffs.messages, ""), ("audit", "seq", "at", cutoffs.audit, ""),
            // What a person wants sent again is not forgotten on the way.
            ("dead_message", "seq", "at", cutoffs.deadMessages, "WHERE state <> 'requeueing'"),
        ] where deleted() < limit {
            // The oldest stand first; when the first of them are not old enough, none is.
            let order = table == "inbox" ? time : key
            try run(
                """
                DELETE FROM \(table) WHERE \(key) IN (
                    SELECT \(key) FROM (SELECT \(key), \(time) FROM \(table) \(condition) ORDER BY \(order) LIMIT ?) WHERE \(time) < ?)
                """, [limit - deleted(), cutoff.ledgerTime])
        }
        step.rows = deleted()
        step.isDone = try step.rows == 0 && examined == 0 && giveBackSpace(pages: max(32, limit / 2))
        return step
    }

    private func purgeRuns(endedBefore cutoff: Date, whileTrue mayGoOn: () -> Bool) throws -> Int {
        // A run's event is older than the run, unless the clock was set back.
        let old = try rows(
            """
            SELECT run.id, run.dcmpath, run.event_seq, run.dedupe_key, run.origin FROM run JOIN event ON event.seq = run.event_seq
            WHERE run.finished_at < :cutoff AND run.finished_at IS NOT NULL AND run.state <> 'active' AND event.received_at < :cutoff
            ORDER BY run.finished_at LIMIT 200
            """, ["cutoff": cutoff.ledgerTime])
        var count = 0
        for row in old where mayGoOn() {
            let id: String = row["id"]
            try run(
                """
                UPDATE retention SET deleted_fact = max(deleted_fact, coalesce((SELECT max(seq) FROM fact WHERE run_id = ?), 0))
                """, [id])
            try run("DELETE FROM fact WHERE run_id = ?", [id])
            // '/' follows '.': this range is every id that begins with '<run>.'.
            try run("DELETE FROM outbox WHERE kind IN ('hint', 'dead') AND job_id >= ? AND job_id < ?", [id + ".", id + "/"])
            try run(
                """
                INSERT OR REPLACE INTO expired_run (id, dcmpath, artifacts) VALUES (?, ?, (
                    SELECT json_group_array(json_extract(value, '$.path')) FROM attempt, json_each(attempt.exit, '$.artifacts')
                    WHERE job_id >= ? AND job_id < ?))
                """, [id, row["dcmpath"] as String, id + ".", id + "/"])
            if row["origin"] == "event" {
                try run("INSERT OR REPLACE INTO settled (snapshot, had_run) VALUES (?, 1)", [row["dedupe_key"] as String])
            }
            try run("DELETE FROM run WHERE id = ?", [id])
            try deleteEvents("seq = ? AND NOT EXISTS (SELECT 1 FROM run WHERE event_seq = event.seq)", [row["event_seq"] as Int64])
            count += 1
        }
        return count
    }

    /// Events that a filter stopped, or that nobody tries to plan any more: one that still waits for its run is never old enough.
    private func purgeEvents(receivedBefore cutoff: Date, limit: Int) throws {
        let old = try rows(
            """
            SELECT seq FROM event WHERE received_at < ? AND tried_at IS NULL AND NOT EXISTS (SELECT 1 FROM run WHERE event_seq = event.seq)
            ORDER BY received_at LIMIT ?
            """, [cutoff.ledgerTime, max(1, limit / 2)])
        for row in old { try deleteEvents("seq = ?", [row["seq"] as Int64]) }
    }

    private func deleteEvents(_ condition: String, _ arguments: StatementArguments) throws {
        try run("INSERT OR IGNORE INTO settled (snapshot, had_run) SELECT snapshot, 0 FROM event WHERE \(condition)", arguments)
        try run("DELETE FROM event WHERE \(condition)", arguments)
    }

    /// Facts of no run, and facts that came after their run was deleted. Goes over each fact once; those of runs go with their runs.
    /// - Returns: how many facts were looked at.
    private func purgeFacts(before cutoff: Date, limit: Int) throws -> Int {
        let old = try rows(
            """
            SELECT seq, run_id IS NOT NULL AND EXISTS (SELECT 1 FROM run WHERE id = fact.run_id) AS has_run FROM (
                SELECT seq, at, run_id FROM fact WHERE seq > (SELECT examined_fact FROM retention) ORDER BY seq LIMIT ?) AS fact
            WHERE at < ? ORDER BY seq
            """, [limit, cutoff.ledgerTime])
        guard let last: Int64 = old.last?["seq"] else { return 0 }
        let gone: [Int64] = old.filter { !($0["has_run"] as Bool) }.map { $0["seq"] }
        for sequence in gone { try run("DELETE FROM fact WHERE seq = ?", [sequence]) }
        try run("UPDATE retention SET examined_fact = ?, deleted_fact = max(deleted_fact, ?)", [last, gone.last ?? 0])
        return old.count
    }

    /// Pages that will be used again are better kept, so the file shrinks only when a good part of it is empty.
    /// - Returns: whether there is nothing to give back.
    private func giveBackSpace(pages: Int) throws -> Bool {
        let free: Int = try row("PRAGMA freelist_count")?[0] ?? 0
        let all: Int = try row("PRAGMA page_count")?[0] ?? 0
        guard free > 256, free > all / 10 else { return true }
        // Each step of this statement moves one page.
        _ = try Row.fetchAll(db, sql: "PRAGMA incremental_vacuum(\(pages))")
        return false
    }

    func expiredRuns(limit: Int) throws -> [ExpiredRun] {
        try rows("SELECT * FROM expired_run ORDER BY id LIMIT ?", [limit]).compactMap { row in
            guard let id = RunID(rawValue: row["id"]) else { return nil }
            let artifacts = try LedgerJSON.value([String].self, from: row["artifacts"], column: "expired_run.artifacts")
            return ExpiredRun(id: id, dcmpath: row["dcmpath"], artifacts: artifacts)
        }
    }

    func forgetExpiredRuns(_ runs: [RunID]) throws {
        for id in runs { try run("DELETE FROM expired_run WHERE id = ?", [id.rawValue]) }
    }
}
