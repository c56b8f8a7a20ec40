import Foundation
import GRDB
import Jobs
import Testing

@testable import JobStore

/// A ledger on disk, filled through plain SQL.
final class SmallLedger {
    let folder: URL
    let database: DatabasePool

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "dcm-reader-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        database = try DatabasePool(path: Ledger.file(in: folder).path)
        try LedgerSchema.migrator().migrate(database)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    var path: String { Ledger.file(in: folder).path }

    /// Runs 1... of one resource each, one job each, one second apart.
    func addRuns(_ count: Int, state: (Int) -> RunState = { _ in .active }) throws {
        try database.write { db in
            for number in 1...count {
                let id = RunID(milliseconds: UInt64(number) * 1000, random: (0, 0)).rawValue
                try db.execute(
                    sql: """
                        INSERT INTO event (snapshot, server, level, resource_id, observed_at, received_at, series, refused, headers)
                        VALUES (?, 'orthanc', 'study', ?, ?, ?, '[{"id":"s","instances":3}]', '{}', '{"a":1}')
                        """,
                    arguments: ["snap-\(number)", "res-\(number)", Double(number), Double(number)])
                try db.execute(
                    sql: """
                        INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, begun_cleaning, dcmpath,
                                         added_params, created_at)
                        VALUES (?, ?, 'event', ?, 'orthanc', 'study', ?, ?, 0, 'dicom/x', '{}', ?)
                        """,
                    arguments: [id, number, "key-\(number)", "res-\(number)", state(number).rawValue, Double(number)])
                let definition = JobDefinition(name: "job-\(number % 3)", service: "s", stage: .services, entry: "s.f")
                try db.execute(
                    sql: """
                        INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt,
                        dispatch, token, crashes, failures, cancel_requested, queued_at)
                        VALUES (?, ?, 0, ?, 's', 'services', 'default', 2, ?, 'ready', '{"code":"ready","text":"Ready."}', 1, 1, 0, 0, 0, 0, ?)
                        """,
                    arguments: [
                        "\(id).0", id, "job-\(number % 3)", String(decoding: try JSONEncoder().encode(definition), as: UTF8.self),
                        Double(number),
                    ])
            }
        }
    }
}

struct LedgerReaderTests {
    @Test("No file yet is an error of its own, and the file is found when it comes")
    func missing() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-reader-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let reader = LedgerReader(path: Ledger.file(in: folder).path)
        let missing = await #expect(throws: LedgerReaderError.self) { try await reader.checkReadable() }
        #expect(missing?.code == .missing)
        let database = try DatabasePool(path: reader.path)
        try await database.write { db in try db.execute(sql: "CREATE TABLE other (x)") }
        let unmigrated = await #expect(throws: LedgerReaderError.self) { try await reader.latestFact() }
        #expect(unmigrated?.code == .unmigrated)
        try LedgerSchema.migrator().migrate(database)
        #expect(try await reader.latestFact() == 0)
    }

    @Test("A ledger of a newer version is not misread")
    func newer() async throws {
        let ledger = try SmallLedger()
        try await ledger.database.write { db in try db.execute(sql: "INSERT INTO grdb_migrations VALUES ('v999')") }
        let reader = LedgerReader(path: ledger.path)
        let error = await #expect(throws: LedgerReaderError.self) { try await reader.totals() }
        #expect(error?.code == .newer)
    }

    @Test("What the writer commits is seen at once")
    func fresh() async throws {
        let ledger = try SmallLedger()
        let reader = LedgerReader(path: ledger.path)
        #expect(try await reader.runs(limit: 10).items.isEmpty)
        try ledger.addRuns(1)
        #expect(try await reader.runs(limit: 10).items.count == 1)
    }

    @Test("The reader cannot write")
    func readOnly() async throws {
        let ledger = try SmallLedger()
        let reader = LedgerReader(path: ledger.path)
        await #expect(throws: DatabaseError.self) {
            try await reader.read { db in try db.execute(sql: "DELETE FROM run") }
        }
    }

    @Test("Pages by key: newest first, none twice, none missing", arguments: [1, 3, 7, 100])
    func pages(limit: Int) async throws {
        let ledger = try SmallLedger()
        try ledger.addRuns(20) { $0.isMultiple(of: 2) ? .succeeded : .active }
        let reader = LedgerReader(path: ledger.path)
        for (filter, expected) in [
            (LedgerRunFilter(), 20), (LedgerRunFilter(states: [.succeeded]), 10), (LedgerRunFilter(text: "job-1"), 7),
        ] {
            var resources: [String] = []
            var cursor: String?
            repeat {
                let page = try await reader.runs(filter, limit: limit, cursor: cursor)
                #expect(page.items.count <= limit)
                resources += page.items.map(\.resourceID)
                cursor = page.next
            } while cursor != nil
            #expect(resources.count == expected)
            let numbers = resources.compactMap { Int($0.dropFirst(4)) }
            #expect(numbers == numbers.sorted(by: >) && Set(numbers).count == expected)
        }
    }

    @Test("Filters by event, resource and prefix")
    func filters() async throws {
        let ledger = try SmallLedger()
        try ledger.addRuns(12)
        let reader = LedgerReader(path: ledger.path)
        func found(_ filter: LedgerRunFilter) async throws -> [String] { try await reader.runs(filter, limit: 50).items.map(\.resourceID) }
        #expect(try await found(LedgerRunFilter(event: "snap-3")) == ["res-3"])
        #expect(try await found(LedgerRunFilter(event: "4")) == ["res-4"])
        #expect(try await found(LedgerRunFilter(event: "res-5")) == ["res-5"])
        #expect(try await found(LedgerRunFilter(text: "res-1")) == ["res-12", "res-11", "res-10", "res-1"])
        #expect(try await found(LedgerRunFilter(text: "nothing")) == [])
        #expect(try await found(LedgerRunFilter(text: "%")) == [])
    }

    @Test("Lists are read through indexes, however long the tables are")
    func plans() async throws {
        let ledger = try SmallLedger()
        try await ledger.database.read { db in
            for (sql, index) in [
                ("SELECT id FROM run WHERE state IN ('failed') ORDER BY id DESC LIMIT 50", "run_state"),
                ("SELECT run_id, state, COUNT(*) FROM job WHERE run_id IN ('a', 'b') GROUP BY run_id, state", "sqlite_autoindex_job"),
                ("SELECT * FROM attempt WHERE job_id >= 'a.' AND job_id < 'a/'", "PRIMARY KEY"),
                ("SELECT * FROM fact WHERE seq > 5 AND run_id = 'a' ORDER BY seq LIMIT 9", "fact_run"),
                ("SELECT id FROM run WHERE resource_id = 'r' AND event_seq = 4 ORDER BY id", "run_resource"),
            ] {
                let plan = try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN " + sql).map { $0["detail"] as String }.joined(separator: "; ")
                #expect(plan.contains(index), "\(sql): \(plan)")
                #expect(!plan.contains("SCAN job;") && !plan.hasSuffix("SCAN job") && !plan.hasSuffix("SCAN run"), "\(sql): \(plan)")
            }
        }
    }

    @Test("A damaged value is named by its column and not shown")
    func damaged() async throws {
        let ledger = try SmallLedger()
        try ledger.addRuns(1)
        try await ledger.database.write { db in try db.execute(sql: "UPDATE run SET added_params = 'DOE^JANE'") }
        let reader = LedgerReader(path: ledger.path)
        let id = try #require(try await reader.runs(limit: 1).items.first?.id)
        let error = await #expect(throws: LedgerReaderError.self) { try await reader.run(id) }
        #expect(error?.code == .damaged)
        #expect(error?.message.contains("added_params") == true)
        #expect(error?.message.contains("DOE") == false)
    }

    @Test("Unknown ids are nil, not errors")
    func unknown() async throws {
        let ledger = try SmallLedger()
        let reader = LedgerReader(path: ledger.path)
        #expect(try await reader.run("x") == nil)
        #expect(try await reader.job("x") == nil)
        #expect(try await reader.attempts(ofJob: "x") == nil)
        #expect(try await reader.jobState("x") == nil)
        #expect(try await reader.runState("x") == nil)
    }
}
