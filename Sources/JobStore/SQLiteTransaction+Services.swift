import Foundation
import GRDB
import Jobs

extension SQLiteTransaction {
    func isServiceKnown(_ name: String) throws -> Bool { try row("SELECT 1 FROM service WHERE name = ?", [name]) != nil }

    func replaceServices(_ services: [ServiceRecord], at now: Date) throws {
        try run("DELETE FROM service")
        for service in services {
            try run(
                "INSERT INTO service (name, jobs, problems, needs, loaded_at) VALUES (?, ?, ?, ?, ?)",
                [
                    service.name, LedgerJSON.text(service.jobs), LedgerJSON.text(service.problems), LedgerJSON.text(service.needs),
                    now.ledgerTime,
                ])
        }
    }
}
