package import Foundation
import GRDB
package import Jobs

/// How far ingest has read the change log of one Orthanc server.
package struct IngestCursor: Sendable, Hashable {
    /// The last entry that has been dealt with.
    package var sequence: Int64
    /// That entry's resource and date: another entry under the same number means another database. Empty when the log was empty.
    package var resource: String
    package var date: String

    package init(sequence: Int64, resource: String = "", date: String = "") {
        self.sequence = sequence
        self.resource = resource
        self.date = date
    }
}

/// The latest state of a series, study or patient that ingest has dealt with.
package struct IngestRecord: Sendable, Hashable {
    package enum Origin: String, Sendable, CaseIterable {
        /// The broker has confirmed its event.
        case event
        /// The broker has confirmed its event, which a filter keeps from becoming a run.
        case filtered
        /// Was there before ingest's first start.
        case baseline
        /// Differs from the state before in nothing that makes an event.
        case unchanged
        /// Grew after its event, and the configuration wants no further one.
        case ignored
    }

    package var server: String
    package var level: ResourceLevel
    /// Orthanc's id.
    package var resource: String
    /// The snapshot's hash; of a baseline, empty.
    package var snapshot: String
    /// Orthanc's UTC time, `20260131T235959`.
    package var lastUpdate: String
    package var origin: Origin
    /// A hash for each series of the resource; empty for a baseline, of which only `lastUpdate` is known.
    package var series: [String: String]
    /// Names the filter's configuration under which some series were refused; empty when none was.
    package var filter: String
    /// Why a filter stopped its event; nil of every other origin.
    package var reason: Reason?
    package var recordedAt: Date

    package init(
        server: String, level: ResourceLevel, resource: String, snapshot: String, lastUpdate: String, origin: Origin,
        series: [String: String] = [:], filter: String = "", reason: Reason? = nil, recordedAt: Date
    ) {
        self.server = server
        self.level = level
        self.resource = resource
        self.snapshot = snapshot
        self.lastUpdate = lastUpdate
        self.origin = origin
        self.series = series
        self.filter = filter
        self.reason = reason
        self.recordedAt = recordedAt
    }
}

/// What ingest knows about one Orthanc server, for people to see.
package struct IngestSource: Sendable, Hashable {
    package enum State: String, Sendable, CaseIterable {
        /// No answer yet.
        case starting
        case following
        /// Orthanc does not answer as it should.
        case unavailable
        /// Events wait because the broker does not take them.
        case blocked
    }

    package var server: String
    package var state: State
    /// The newest entry of the change log.
    package var lastSequence: Int64
    /// The last entry that has been dealt with.
    package var cursorSequence: Int64
    package var checkedAt: Date
    package var error: Reason?

    /// Entries that ingest has still to read.
    package var lag: Int64 { max(0, lastSequence - cursorSequence) }

    package init(
        server: String, state: State = .starting, lastSequence: Int64 = 0, cursorSequence: Int64 = 0, checkedAt: Date, error: Reason? = nil
    ) {
        self.server = server
        self.state = state
        self.lastSequence = lastSequence
        self.cursorSequence = cursorSequence
        self.checkedAt = checkedAt
        self.error = error
    }
}

/// What ingest must remember: `STATE/ingest.sqlite`. A record is written only after the broker has confirmed the event it stands for,
/// so losing the last ones costs a repeated message, never a missing one.
package final class IngestJournal: Sendable {
    let database: DatabasePool

    /// Opens the journal in `folder`, creating or migrating it.
    package init(folder: URL) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.maximumReaderCount = 1
        configuration.label = "ingest"
        database = try DatabasePool(path: Self.file(in: folder).path, configuration: configuration)
        // The pool's own default trades the last commits for speed.
        try database.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
        try IngestJournalSchema.migrator().migrate(database)
    }

    package static func file(in folder: URL) -> URL { folder.appending(path: "ingest.sqlite") }

    /// The read side, for another process. The file need not exist yet.
    package static func readOnly(at folder: URL) -> IngestJournalReader {
        IngestJournalReader(path: file(in: folder).path)
    }

    /// What is known about one level of one server.
    package struct Level: Sendable, Hashable {
        /// When ingest was first told to follow it.
        package var firstSeenAt: Date
        /// Whether it has been decided what to do with the resources that were there before.
        package var isBaselined: Bool
    }

    /// Notes that `level` of `server` is to be followed.
    package func register(_ level: ResourceLevel, server: String, at now: Date) async throws -> Level {
        try await database.write { db in
            try db.execute(
                sql: "INSERT OR IGNORE INTO source (server, state, last_seq, cursor_seq, lag, checked_at) VALUES (?, ?, 0, 0, 0, ?)",
                arguments: [server, IngestSource.State.starting.rawValue, now.timeIntervalSince1970]
            )
            try db.execute(
                sql: "INSERT OR IGNORE INTO level (server, level, first_seen_at, is_baselined) VALUES (?, ?, ?, 0)",
                arguments: [server, level.rawValue, now.timeIntervalSince1970]
            )
            let row = try Row.fetchOne(
                db, sql: "SELECT first_seen_at, is_baselined FROM level WHERE server = ? AND level = ?",
                arguments: [server, level.rawValue]
            )
            return Level(
                firstSeenAt: Date(timeIntervalSince1970: row?["first_seen_at"] ?? now.timeIntervalSince1970),
                isBaselined: row?["is_baselined"] ?? false
            )
        }
    }

    package func markBaselined(_ level: ResourceLevel, server: String) async throws {
        try await database.write { db in
            try db.execute(sql: "UPDATE level SET is_baselined = 1 WHERE server = ? AND level = ?", arguments: [server, level.rawValue])
        }
    }

    /// - Returns: nil before the first start on this server is complete.
    package func cursor(of server: String) async throws -> IngestCursor? {
        try await database.read { db in
            try Row.fetchOne(db, sql: "SELECT seq, resource, date FROM cursor WHERE server = ?", arguments: [server]).map {
                IngestCursor(sequence: $0["seq"], resource: $0["resource"], date: $0["date"])
            }
        }
    }

    package func record(of resource: String, _ level: ResourceLevel, server: String) async throws -> IngestRecord? {
        try await database.read { db in
            try Row.fetchOne(
                db, sql: "SELECT * FROM snapshot WHERE server = ? AND level = ? AND resource = ?",
                arguments: [server, level.rawValue, resource]
            ).map { row in
                IngestRecord(
                    server: server,
                    level: level,
                    resource: resource,
                    snapshot: row["snapshot"],
                    lastUpdate: row["last_update"],
                    origin: IngestRecord.Origin(rawValue: row["origin"]) ?? .event,
                    series: (try? JSONDecoder().decode([String: String].self, from: row["series"] as Data)) ?? [:],
                    filter: row["filter"],
                    reason: Reason(code: row["reason_code"], text: row["reason_text"]),
                    recordedAt: Date(timeIntervalSince1970: row["recorded_at"])
                )
            }
        }
    }

    /// What a sweep must know of a record.
    package struct Mark: Sendable, Hashable {
        package var lastUpdate: String
        package var snapshot: String
        package var origin: IngestRecord.Origin
        package var filter: String
        package var recordedAt: Date

        package init(lastUpdate: String, snapshot: String, origin: IngestRecord.Origin, filter: String, recordedAt: Date) {
            self.lastUpdate = lastUpdate
            self.snapshot = snapshot
            self.origin = origin
            self.filter = filter
            self.recordedAt = recordedAt
        }
    }

    /// The marks of those of `resources` that are on record.
    package func marks(of resources: [String], _ level: ResourceLevel, server: String) async throws -> [String: Mark] {
        guard !resources.isEmpty else { return [:] }
        return try await database.read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT resource, last_update, snapshot, origin, filter, recorded_at FROM snapshot
                    WHERE server = ? AND level = ? AND resource IN (\(databaseQuestionMarks(count: resources.count)))
                    """,
                arguments: [server, level.rawValue] + StatementArguments(resources)
            )
            return Dictionary(
                uniqueKeysWithValues: rows.map { row in
                    (
                        row["resource"] as String,
                        Mark(
                            lastUpdate: row["last_update"], snapshot: row["snapshot"],
                            origin: IngestRecord.Origin(rawValue: row["origin"]) ?? .event, filter: row["filter"],
                            recordedAt: Date(timeIntervalSince1970: row["recorded_at"])
                        )
                    )
                })
        }
    }

    /// Writes records, whose resources no longer are pending, and moves the cursor when one is given, in one transaction.
    package func save(_ records: [IngestRecord] = [], cursor: IngestCursor? = nil, server: String, at now: Date) async throws {
        try await database.write { db in
            for record in records {
                try db.execute(
                    sql: """
                        INSERT INTO snapshot
                        (server, level, resource, snapshot, last_update, origin, series, filter, reason_code, reason_text, recorded_at)
                        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                        ON CONFLICT DO UPDATE SET snapshot = excluded.snapshot, last_update = excluded.last_update, origin = excluded.origin,
                            series = excluded.series, filter = excluded.filter, reason_code = excluded.reason_code,
                            reason_text = excluded.reason_text, recorded_at = excluded.recorded_at, gone_since = NULL
                        """,
                    arguments: [
                        server, record.level.rawValue, record.resource, record.snapshot, record.lastUpdate, record.origin.rawValue,
                        try JSONEncoder().encode(record.series), record.filter, record.reason?.code ?? "", record.reason?.text ?? "",
                        record.recordedAt.timeIntervalSince1970,
                    ]
                )
                try db.execute(
                    sql: "DELETE FROM pending WHERE server = ? AND level = ? AND resource = ?",
                    arguments: [server, record.level.rawValue, record.resource]
                )
            }
            if let cursor {
                try db.execute(
                    sql: "INSERT OR REPLACE INTO cursor (server, seq, resource, date, updated_at) VALUES (?, ?, ?, ?, ?)",
                    arguments: [server, cursor.sequence, cursor.resource, cursor.date, now.timeIntervalSince1970]
                )
            }
        }
    }

    package func report(_ source: IngestSource) async throws {
        try await database.write { db in
            try db.execute(
                sql: """
                    UPDATE source SET state = ?, last_seq = ?, cursor_seq = ?, lag = ?, checked_at = ?, error_code = ?, error_text = ?
                    WHERE server = ?
                    """,
                arguments: [
                    source.state.rawValue, source.lastSequence, source.cursorSequence, source.lag, source.checkedAt.timeIntervalSince1970,
                    source.error?.code, source.error?.text, source.server,
                ]
            )
        }
    }
}

extension Reason {
    /// nil when there is none.
    init?(code: String, text: String) {
        guard !code.isEmpty else { return nil }
        self.init(code, text)
    }
}
