import Foundation
import GRDB
import Jobs
import Synchronization

/// Reads ingest's journal from another process.
package final class IngestJournalReader: Sendable {
    package let path: String
    private let pool = Mutex<DatabasePool?>(nil)
    private let onStatement: (@Sendable (String) -> Void)?

    /// - Parameters:
    ///   - path: `STATE/ingest.sqlite`. It need not exist yet.
    ///   - onStatement: hears the SQL of everything that is read, without values.
    package init(path: String, onStatement: (@Sendable (String) -> Void)? = nil) {
        self.path = path
        self.onStatement = onStatement
    }

    /// The configured Orthanc servers by name; none while ingest has not started yet.
    package func sources() async throws -> [IngestSource] {
        guard let database = try open() else { return [] }
        return try await database.read { db in
            guard try db.tableExists("source") else { return [] }
            return try Row.fetchAll(db, sql: "SELECT * FROM source ORDER BY server").map { row in
                IngestSource(
                    server: row["server"],
                    state: IngestSource.State(rawValue: row["state"]) ?? .starting,
                    lastSequence: row["last_seq"],
                    cursorSequence: row["cursor_seq"],
                    checkedAt: Date(timeIntervalSince1970: row["checked_at"]),
                    error: (row["error_code"] as String?).map { Reason($0, row["error_text"] as String? ?? "") }
                )
            }
        }
    }

    func open() throws -> DatabasePool? {
        try pool.withLock { opened in
            if let opened { return opened }
            guard FileManager.default.fileExists(atPath: path) else { return nil }
            var configuration = Configuration()
            configuration.readonly = true
            configuration.busyMode = .timeout(5)
            configuration.maximumReaderCount = 2
            configuration.label = "ingest.reader"
            configuration.hear(onStatement)
            let database = try DatabasePool(path: path, configuration: configuration)
            opened = database
            return database
        }
    }
}
