import Foundation
import GRDB
import Jobs
import Testing

@testable import JobStore

/// What the monitor counts, of runs and jobs put there through plain SQL: triggers do the rest.
private final class CountedLedger {
    let folder: URL
    let database: DatabasePool
    var reader: LedgerReader { LedgerReader(path: Ledger.file(in: folder).path) }

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "dcm-ended-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        database = try DatabasePool(path: Ledger.file(in: folder).path)
        try LedgerSchema.migrator().migrate(database)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// - Parameter at: seconds since 1970.
    func addRun(
        _ number: Int, at time: Double, state: RunState = .active, level: String = "study", modality: String = "CT", service: String = "s",
        job: JobState = .running, error: String? = nil
    ) throws {
        let id = id(number, time)
        try database.write { db in
            try db.execute(
                sql: """
                    INSERT INTO event (snapshot, server, level, resource_id, observed_at, received_at, series, refused, headers, modalities)
                    VALUES (?, 'o', ?, ?, 0, 0, '[]', '{}', '{}', ?)
                    """, arguments: ["snap-\(number)", level, "res-\(number)", "[\"\(modality)\"]"])
            try db.execute(
                sql: """
                    INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, dcmpath, added_params, created_at)
                    VALUES (?, ?, 'event', ?, 'o', ?, ?, 'active', 'x', '{}', ?)
                    """, arguments: [id, db.lastInsertedRowID, "key-\(number)", level, "res-\(number)", time])
            try db.execute(sql: "INSERT INTO run_modality VALUES (?, ?)", arguments: [modality, id])
            try db.execute(
                sql: """
                    INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt,
                    dispatch, token, crashes, failures, cancel_requested, started_at)
                    VALUES (?, ?, 0, 'j', ?, 'services', 'default', 2, '{}', 'running', '{"code":"x","text":"said so"}', 1, 1, 1, 0, 0, 0, ?)
                    """, arguments: ["\(id).0", id, service, time])
            let failure = error.map { "{\"type\":\"ValueError\",\"message\":\"\($0)\"}" }
            if job != .running {
                try db.execute(
                    sql: "UPDATE job SET state = ?, finished_at = ?, error = ? WHERE run_id = ?",
                    arguments: [job.rawValue, time + 4, failure, id])
            }
            if state != .active {
                try db.execute(
                    sql: "UPDATE run SET state = ?, finished_at = ? WHERE id = ?", arguments: [state.rawValue, time + 40, id])
            }
        }
    }

    func id(_ number: Int, _ time: Double) -> String {
        RunID(milliseconds: UInt64(time * 1000), random: (UInt64(number), 0)).rawValue
    }
}

struct EndedTests {
    @Test("Each end is counted once, in its span, with its duration")
    func counted() async throws {
        let ledger = try CountedLedger()
        let start = 1_700_000_100.0 - 1_700_000_100.0.truncatingRemainder(dividingBy: 300)
        for number in 0..<10 { try ledger.addRun(number, at: start + 1, state: .succeeded, job: .succeeded) }
        try ledger.addRun(10, at: start + 301, state: .failed, job: .failed, error: "bad")
        try ledger.addRun(11, at: start + 301)
        let jobs = try await ledger.reader.ended(.job, since: Date(timeIntervalSince1970: start), spans: 300)
        #expect(jobs.map(\.state) == ["succeeded", "failed"] && jobs.map(\.durations.count) == [10, 1])
        #expect(jobs.map(\.at.timeIntervalSince1970) == [start, start + 300])
        #expect(jobs[0].service == "s" && jobs[0].name == "j" && jobs[0].durations.seconds == 40)
        let median = try #require(jobs[0].durations.percentile(0.5))
        #expect((3...5).contains(median))
        let runs = try await ledger.reader.ended(.run, since: Date(timeIntervalSince1970: start))
        #expect(Dictionary(uniqueKeysWithValues: runs.map { ($0.state, $0.durations.count) }) == ["succeeded": 10, "failed": 1])
        #expect(runs.allSatisfy { $0.name == "study" })
        // Done once more, it ends once more; a change that is no end is none.
        let again = ledger.id(10, start + 301)
        try await ledger.database.write { db in
            try db.execute(sql: "UPDATE job SET state = 'running' WHERE state = 'failed'")
            try db.execute(sql: "UPDATE job SET state = 'succeeded', finished_at = ? WHERE run_id = ?", arguments: [start + 302, again])
        }
        let later = try await ledger.reader.ended(.job, since: Date(timeIntervalSince1970: start + 300), spans: 300)
        #expect(later.map(\.state).sorted() == ["failed", "succeeded"])
    }

    @Test("Spans older than the longest chart go when a run ends")
    func trimmed() async throws {
        let ledger = try CountedLedger()
        try ledger.addRun(1, at: 1_600_000_000, state: .succeeded, job: .succeeded)
        try ledger.addRun(2, at: 1_700_000_000, state: .succeeded, job: .succeeded)
        let all = try await ledger.reader.ended(.job, since: .distantPast, spans: 300)
        #expect(all.count == 1)
    }

    @Test("Percentiles", arguments: [(0.0, 1.1), (0.5, 1.5), (0.95, 4.5), (1.0, 5.0)])
    func percentile(share: Double, atMost: Double) throws {
        // Nine below 1.5 s, one below 5 s.
        let slots = DurationSlots.edges.enumerated().filter { [1.5, 5].contains($0.element) }.map(\.offset)
        var counts = DurationCounts(slot: -1, number: 50, seconds: 0)
        counts.add(DurationCounts(slot: slots[0], number: 9, seconds: 11))
        counts.add(DurationCounts(slot: slots[1], number: 1, seconds: 4.5))
        let value = try #require(counts.percentile(share))
        #expect(value <= atMost && value >= 1)
        #expect(counts.timed == 10 && counts.count == 60)
        #expect(DurationCounts(slot: -1, number: 3, seconds: 0).percentile(0.5) == nil)
    }

    @Test("A few are given as they were, and none is given as longer than the longest")
    func few() throws {
        var counts = DurationCounts()
        for (slot, seconds) in [(15, 2.7), (16, 3.1), (16, 3.2), (16, 3.6)] {
            counts.add(DurationCounts(slot: slot, number: 1, seconds: seconds))
        }
        #expect(DurationSlots.edges[14...16] == [2, 3, 5] && abs(counts.seconds - 12.6) < 0.001)
        #expect(try abs(#require(counts.percentile(0.5)) - 3.15) < 0.15)
        #expect(try (3.3...3.6).contains(#require(counts.percentile(0.95))))
        #expect(DurationCounts(slot: 16, number: 1, seconds: 4.2).percentile(0.95) == 4.2)
    }

    @Test("SQL and Swift mean the same slots")
    func slots() async throws {
        let database = try DatabaseQueue()
        for (seconds, slot) in [(-1.0, 0), (0.009, 0), (0.01, 1), (1.2, 13), (69_999, 41), (70_000, 42), (1e9, 42)] {
            let found = try await database.read { db in
                try Int.fetchOne(db, sql: "SELECT \(DurationSlots.expression("x")) FROM (SELECT ? AS x)", arguments: [seconds])
            }
            #expect(found == slot, "\(seconds)")
        }
    }

    @Test("A list and its counts are of the same runs, whatever the filter")
    func filters() async throws {
        let ledger = try CountedLedger()
        let start = 1_700_000_000.0
        try ledger.addRun(1, at: start, state: .succeeded, job: .succeeded)
        try ledger.addRun(2, at: start + 10, state: .failed, modality: "MR", job: .failed, error: "100% of _it_")
        try ledger.addRun(3, at: start + 20, state: .failed, level: "series", service: "t", job: .dead, error: "other")
        try ledger.addRun(4, at: start + 30, level: "series", modality: "MR")
        let filters: [(LedgerRunFilter, [Int])] = [
            (LedgerRunFilter(), [4, 3, 2, 1]),
            (LedgerRunFilter(level: "series"), [4, 3]),
            (LedgerRunFilter(service: "t"), [3]),
            (LedgerRunFilter(modality: "MR"), [4, 2]),
            (LedgerRunFilter(modality: "MR", error: "valueERROR"), [2]),
            (LedgerRunFilter(error: "100%"), [2]),
            (LedgerRunFilter(error: "_it"), [2]),
            (LedgerRunFilter(error: "0_"), []),
            (LedgerRunFilter(error: "SAID SO"), [3, 2]),
            (LedgerRunFilter(from: Date(timeIntervalSince1970: start + 10), to: Date(timeIntervalSince1970: start + 30)), [3, 2]),
            (LedgerRunFilter(text: "res-"), [4, 3, 2, 1]),
            (LedgerRunFilter(text: "res-3", level: "study"), []),
        ]
        for (filter, numbers) in filters {
            let list = try await ledger.reader.runs(filter, limit: 50).items
            #expect(list.map(\.resourceID) == numbers.map { "res-\($0)" }, "\(filter)")
            let counts = try await ledger.reader.runCounts(filter)
            #expect(counts.states == list.reduce(into: [:]) { $0[$1.state, default: 0] += 1 } && !counts.isCut, "\(filter)")
            for state in RunState.allCases {
                var part = filter
                part.states = [state]
                let partial = try await ledger.reader.runs(part, limit: 50).items.count
                #expect(partial == counts.states[state] ?? 0, "\(part)")
            }
        }
        let cut = try await ledger.reader.runCounts(LedgerRunFilter(text: "res-"), limit: 3)
        #expect(cut.isCut)
        #expect(try await ledger.reader.modalities() == ["CT", "MR"])
    }

    @Test("Modalities are found at every level of headers")
    func modalities() {
        #expect(SQLiteTransaction.modalities(["Modality": "CT", "x": 1]) == ["CT"])
        let study: JSONValue = ["tags": [:], "series": [["tags": ["Modality": "PT"]], ["tags": ["Modality": "CT"]]]]
        #expect(SQLiteTransaction.modalities(study) == ["CT", "PT"])
        let patient: JSONValue = ["studies": [["series": [["tags": ["Modality": "MR"]]]], ["series": [["tags": ["Modality": "MR"]]]]]]
        #expect(SQLiteTransaction.modalities(patient) == ["MR"])
        #expect(SQLiteTransaction.modalities([:]).isEmpty)
    }
}
