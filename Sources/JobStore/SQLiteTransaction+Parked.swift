import Foundation
import GRDB
import Jobs

extension SQLiteTransaction {
    func park(_ message: ParkedMessage, at now: Date) throws {
        var message = message
        if let body = message.body, try heldBytes() + body.count > ParkedMessage.longestBodies {
            message.body = nil
            message.problem = ParkedMessage.elsewhere("Too much of what nobody could read is kept here already")
        }
        try run(
            """
            INSERT INTO dead_message (at, queue, routing_key, reason, message_id, type, size, problem, properties, body, held)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                now.ledgerTime, message.queue, message.routingKey, message.reason, message.messageID, message.type, message.size,
                message.problem, message.properties.text, message.body.map { Data($0) }, message.body?.count ?? 0,
            ])
    }

    private func heldBytes() throws -> Int {
        try Int.fetchOne(db.cachedStatement(sql: "SELECT COALESCE(SUM(held), 0) FROM dead_message WHERE held > 0")) ?? 0
    }

    func requeueParked(_ selection: ParkedSelection, by actor: String, at now: Date) throws -> Int {
        try decide(selection, "state = 'requeueing', problem = NULL", "state = 'parked' AND body IS NOT NULL", actor, now)
    }

    func discardParked(_ selection: ParkedSelection, by actor: String, at now: Date) throws -> Int {
        try decide(selection, "state = 'discarded', body = NULL, held = 0", "state = 'parked'", actor, now)
    }

    private func decide(_ selection: ParkedSelection, _ change: String, _ condition: String, _ actor: String, _ now: Date) throws -> Int {
        let (which, number) =
            switch selection {
            case .one(let number): ("seq = ?", number)
            case .upTo(let last): ("seq <= ?", last)
            }
        try run(
            """
            UPDATE dead_message SET \(change), decided_by = ?, decided_at = ?
            WHERE seq IN (
                SELECT seq FROM dead_message WHERE \(which) AND state IN ('parked', 'requeueing') AND \(condition)
                ORDER BY seq LIMIT \(ParkedSelection.most))
            """, [actor, now.ledgerTime, number])
        return db.changesCount
    }

    func messagesToRequeue(after sequence: Int64, limit: Int) throws -> [(sequence: Int64, message: ParkedMessage)] {
        try rows(
            """
            SELECT * FROM dead_message WHERE state IN ('parked', 'requeueing') AND state = 'requeueing' AND seq > ? ORDER BY seq LIMIT ?
            """, [sequence, limit]
        ).map { row in
            let properties = try LedgerJSON.value(JSONValue.self, from: row["properties"], column: "dead_message.properties")
            return (
                row["seq"],
                ParkedMessage(
                    queue: row["queue"], routingKey: row["routing_key"], reason: row["reason"], messageID: row["message_id"],
                    type: row["type"], properties: properties, size: row["size"], body: (row["body"] as Data?).map { [UInt8]($0) })
            )
        }
    }

    func settleRequeued(_ sequence: Int64, problem: String?) throws {
        if let problem {
            try run("UPDATE dead_message SET state = 'parked', problem = ? WHERE seq = ? AND state = 'requeueing'", [problem, sequence])
        } else {
            try run("UPDATE dead_message SET state = 'requeued', body = NULL, held = 0 WHERE seq = ? AND state = 'requeueing'", [sequence])
        }
    }
}
