package import Foundation
import GRDB
package import Jobs
package import Pipeline

extension LedgerTransaction {
    /// Notes that a message was carried out.
    /// - Returns: false when it was already.
    package func claimMessage(id: String, kind: String, at now: Date) throws -> Bool {
        try run("INSERT OR IGNORE INTO inbox (message_id, kind, received_at) VALUES (?, ?, ?)", [id, kind, now.ledgerTime])
        return db.changesCount == 1
    }

    /// Records what ingest saw.
    /// - Returns: the event's number, and whether it is new; a repeat of a snapshot is not.
    package func recordEvent(_ event: EventMessage, at now: Date) throws -> (sequence: Int64, isNew: Bool) {
        try run(
            """
            INSERT OR IGNORE INTO event
            (snapshot, server, level, resource_id, observed_at, received_at, follows, filter_code, filter_text, series, refused, headers)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                event.snapshot, event.server, event.level.rawValue, event.resourceID, event.observedAt.ledgerTime, now.ledgerTime,
                event.follows, event.filtered?.code, event.filtered?.text, LedgerJSON.text(event.series),
                LedgerJSON.text(event.refusedSeries), event.headers.text,
            ])
        if db.changesCount == 1 { return (db.lastInsertedRowID, true) }
        guard let known = try row("SELECT seq FROM event WHERE snapshot = ?", [event.snapshot]) else {
            throw LedgerError(code: .corrupt, message: "Event \(event.snapshot) was neither recorded nor found.")
        }
        return (known["seq"], false)
    }

    /// The event that `run` was made from, for planning it again.
    package func event(of run: RunID) throws -> (sequence: Int64, event: EventMessage)? {
        let sql = "SELECT event.* FROM event JOIN run ON run.event_seq = event.seq WHERE run.id = ?"
        guard let row = try row(sql, [run.rawValue]) else { return nil }
        return (row["seq"], try Self.event(row))
    }

    static func event(_ row: Row) throws -> EventMessage {
        guard let level = ResourceLevel(rawValue: row["level"]) else {
            throw LedgerError(code: .corrupt, message: "Event \(row["seq"] as Int64) has an unknown level.")
        }
        return EventMessage(
            server: row["server"],
            level: level,
            resourceID: row["resource_id"],
            snapshot: row["snapshot"],
            observedAt: Date(ledgerTime: row["observed_at"]),
            follows: row["follows"],
            filtered: (row["filter_code"] as String?).map { Reason($0, row["filter_text"] ?? "") },
            series: try LedgerJSON.value([EventMessage.Series].self, from: row["series"], column: "event.series"),
            refusedSeries: try LedgerJSON.value([String: Reason].self, from: row["refused"], column: "event.refused"),
            headers: try LedgerJSON.value(JSONValue.self, from: row["headers"], column: "event.headers")
        )
    }

    /// A message that could not be read. Its body stays on the broker.
    package func recordDeadMessage(queue: String, reason: String, messageID: String?, type: String?, size: Int, at now: Date) throws {
        try run(
            "INSERT INTO dead_message (at, queue, reason, message_id, type, size) VALUES (?, ?, ?, ?, ?, ?)",
            [now.ledgerTime, queue, reason, messageID, type, size])
    }

    package func recordAction(actor: String, action: String, target: String, outcome: String, at now: Date) throws {
        try run(
            "INSERT INTO audit (at, actor, action, target, outcome) VALUES (?, ?, ?, ?, ?)",
            [now.ledgerTime, actor, action, target, outcome])
    }

    /// Numbers and keeps a fact. Publish it after the commit.
    package func appendFact(
        kind: String, run: RunID? = nil, job: JobID? = nil, data: JSONValue = [:], at now: Date
    ) throws -> FactMessage {
        try self.run(
            "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (?, ?, ?, ?, ?)",
            [now.ledgerTime, kind, run?.rawValue, job?.rawValue, data.text])
        return FactMessage(sequence: db.lastInsertedRowID, at: now, kind: kind, run: run, job: job, data: data)
    }
}
