package import Foundation
import GRDB
package import Jobs

/// A service as the router read it: what the monitor shows of it.
package struct ServiceRecord: Sendable, Hashable, Codable {
    package struct Problem: Sendable, Hashable, Codable {
        /// `error` or `warning`.
        package var severity: String
        /// Relative to the registry.
        package var file: String
        package var entry: String?
        package var key: String?
        package var message: String

        package init(severity: String, file: String, entry: String? = nil, key: String? = nil, message: String) {
            self.severity = severity
            self.file = file
            self.entry = entry
            self.key = key
            self.message = message
        }
    }

    package var name: String
    package var jobs: [JobDefinition]
    package var problems: [Problem]

    package init(name: String, jobs: [JobDefinition], problems: [Problem]) {
        self.name = name
        self.jobs = jobs
        self.problems = problems
    }
}

extension LedgerTransaction {
    /// Replaces what is known of the services by what the registry holds now.
    package func replaceServices(_ services: [ServiceRecord], at now: Date) throws {
        try run("DELETE FROM service")
        for service in services {
            try run(
                "INSERT INTO service (name, jobs, problems, loaded_at) VALUES (?, ?, ?, ?)",
                [service.name, LedgerJSON.text(service.jobs), LedgerJSON.text(service.problems), now.ledgerTime])
        }
    }
}
