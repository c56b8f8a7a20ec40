import Foundation
import GRDB
import Jobs
import Pipeline

extension SQLiteTransaction {
    func claimMessage(id: String, kind: String, at now: Date) throws -> Bool {
        try run("INSERT OR IGNORE INTO inbox (message_id, kind, received_at) VALUES (?, ?, ?)", [id, kind, now.ledgerTime])
        return db.changesCount == 1
    }

    func recordEvent(_ event: EventMessage, at now: Date) throws -> (sequence: Int64?, isNew: Bool) {
        try run(
            """
            INSERT OR IGNORE INTO event
            (snapshot, server, level, resource_id, observed_at, received_at, follows, filter_code, filter_text, series, refused, headers,
             modalities)
            SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM settled WHERE snapshot = ? AND had_run)
            """,
            [
                event.snapshot, event.server, event.level.rawValue, event.resourceID, event.observedAt.ledgerTime, now.ledgerTime,
                event.follows, event.filtered?.code, event.filtered?.text, LedgerJSON.text(event.series),
                LedgerJSON.text(event.refusedSeries), event.headers.text, LedgerJSON.text(Self.modalities(event.headers)), event.snapshot,
            ])
        if db.changesCount == 1 { return (db.lastInsertedRowID, true) }
        return (try row("SELECT seq FROM event WHERE snapshot = ?", [event.snapshot])?["seq"], false)
    }

    /// Of all series, whatever the level of the headers.
    static func modalities(_ headers: JSONValue) -> [String] {
        let trees = headers["studies"]?.array ?? [headers]
        let series = trees.flatMap { $0["series"]?.array ?? [$0] }
        let found = series.compactMap { $0["tags"]?["Modality"]?.string ?? $0["Modality"]?.string }
        // A header is anybody's text: what is no code string of DICOM is no modality.
        return Set(found.filter { (1...16).contains($0.utf8.count) }).sorted()
    }

    func recordPlanningFailure(of event: EventMessage, reason: Reason, counts: Bool, at now: Date) throws -> Int {
        guard let sequence = try recordEvent(event, at: now).sequence else { return 0 }
        try run(
            "UPDATE event SET failures = failures + ?, problem = ?, tried_at = ? WHERE seq = ?",
            [counts ? 1 : 0, LedgerJSON.text(reason), now.ledgerTime, sequence])
        return try row("SELECT failures FROM event WHERE seq = ?", [sequence])?["failures"] ?? 0
    }

    func abandonPlanning(of event: EventMessage, reason: Reason, at now: Date) throws {
        guard let sequence = try recordEvent(event, at: now).sequence else { return }
        try run("UPDATE event SET problem = ?, tried_at = NULL WHERE seq = ?", [LedgerJSON.text(reason), sequence])
    }

    func unplannedEvents(limit: Int) throws -> [UnplannedEvent] {
        try rows("SELECT * FROM event WHERE tried_at IS NOT NULL ORDER BY tried_at LIMIT ?", [limit]).map { row in
            UnplannedEvent(
                event: try Self.event(row),
                attempts: row["failures"],
                reason: try LedgerJSON.value(Reason.self, from: row["problem"], column: "event.problem"),
                triedAt: Date(ledgerTime: row["tried_at"])
            )
        }
    }

    func event(of run: RunID) throws -> (sequence: Int64, event: EventMessage)? {
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

    func recordAction(actor: String, action: String, target: String, outcome: String, at now: Date) throws {
        try run(
            "INSERT INTO audit (at, actor, action, target, outcome) VALUES (?, ?, ?, ?, ?)",
            [now.ledgerTime, actor, action, target, outcome])
    }

    func appendFact(
        kind: String, run: RunID?, job: JobID?, data: JSONValue, at now: Date
    ) throws -> FactMessage {
        try self.run(
            "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (?, ?, ?, ?, ?)",
            [now.ledgerTime, kind, run?.rawValue, job?.rawValue, data.text])
        return FactMessage(sequence: db.lastInsertedRowID, at: now, kind: kind, run: run, job: job, data: data)
    }
}
