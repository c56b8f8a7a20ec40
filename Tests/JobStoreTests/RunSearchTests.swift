import Foundation
import GRDB
import Jobs
import TestSupport
import Testing

@testable import JobStore

/// Whatever is asked for together, and wherever the runs are taken from: the list, its counts and what a bulk operation would take are the
/// runs that match, each once, in order.
struct RunSearchTests {
    private struct Made: Sendable {
        struct Job: Sendable {
            var id: String
            var name: String
            var service: String
            var error: String?
        }

        var id: String
        var number: Int
        var state: RunState
        var level: String
        var resource: String
        var modalities: [String]
        var jobs: [Job]
        var reason: String?
    }

    private static func make(_ count: Int, _ random: inout some RandomNumberGenerator) -> [Made] {
        (1...count).map { number in
            let id = RunID(milliseconds: UInt64(number) * 1000, random: (0, UInt64(number))).rawValue
            let state = RunState.allCases.randomElement(using: &random) ?? .active
            let jobs = (0..<Int.random(in: 0...4, using: &random)).map { position in
                let service = ["a", "b", "c"].randomElement(using: &random) ?? "a"
                // What is looked for may be the end of a long message.
                let long = String(repeating: "x", count: [0, 6000].randomElement(using: &random) ?? 0)
                let error = Int.random(in: 0...3, using: &random) == 0 ? "\(long)Out of memory 100%_\(position)" : nil
                return Made.Job(id: "\(id).\(position)", name: "\(service)-job", service: service, error: error)
            }
            return Made(
                id: id, number: number, state: state, level: ["study", "series"].randomElement(using: &random) ?? "study",
                resource: "\(["aa", "ab", "b"].randomElement(using: &random) ?? "b")-\(number / 2)",
                modalities: ["CT", "MR", "PT"].filter { _ in Bool.random(using: &random) }, jobs: jobs,
                reason: state == .failed ? "Planning failed: memory \(number)" : nil)
        }
    }

    private static func write(_ runs: [Made], _ ledger: SmallLedger) async throws {
        let reason = #"{"code":"exception","text":"Attempt 1 failed and none is left."}"#
        try await ledger.database.write { db in
            for run in runs {
                try db.execute(
                    sql: """
                        INSERT INTO event (seq, snapshot, server, level, resource_id, observed_at, received_at, series, refused, headers)
                        VALUES (?, ?, 'orthanc', ?, ?, 1, 1, '[]', '{}', '{}')
                        """, arguments: [run.number, "snap-\(run.number)", run.level, run.resource])
                // As the router writes them: they come active, and end.
                try db.execute(
                    sql: """
                        INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, dcmpath, added_params, created_at)
                        VALUES (?, ?, 'event', ?, 'orthanc', ?, ?, 'active', 'd', '{}', ?)
                        """, arguments: [run.id, run.number, "key-\(run.number)", run.level, run.resource, Double(run.number)])
                for modality in run.modalities {
                    try db.execute(sql: "INSERT INTO run_modality VALUES (?, ?)", arguments: [modality, run.id])
                }
                for (position, job) in run.jobs.enumerated() {
                    try db.execute(
                        sql: """
                            INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt,
                                             dispatch, token, crashes, failures, cancel_requested)
                            VALUES (?, ?, ?, ?, ?, 'services', 'default', 2, '{}', 'running', ?, 1, 1, 1, 0, 0, 0)
                            """, arguments: [job.id, run.id, position, job.name, job.service, reason])
                    try db.execute(
                        sql: "UPDATE job SET state = ?, error = ? WHERE id = ?",
                        arguments: [
                            job.error == nil ? "succeeded" : position % 2 == 0 ? "failed" : "dead",
                            job.error.map { #"{"type":"MemoryError","message":"\#($0)"}"# }, job.id,
                        ])
                }
                guard run.state != .active else { continue }
                try db.execute(
                    sql: "UPDATE run SET state = ?, reason = ?, finished_at = ? WHERE id = ?",
                    arguments: [
                        run.state.rawValue, run.reason.map { #"{"code":"x","text":"\#($0)"}"# }, Double(run.number + 1), run.id,
                    ])
            }
        }
    }

    private static func makeFilter(_ random: inout some RandomNumberGenerator) -> LedgerRunFilter {
        func some<T>(_ values: [T]) -> T? { Int.random(in: 0...2, using: &random) == 0 ? values.randomElement(using: &random) : nil }
        var filter = LedgerRunFilter()
        filter.states = some([[.failed], [.active], [.failed, .cancelled], [.succeeded, .active, .declined]]) ?? []
        filter.level = some(["study", "series", "patient"])
        filter.service = some(["a", "b", "c", "none"])
        filter.modality = some(["CT", "MR", "XX"])
        filter.error = some(["MEMORY", "100%_1", "100%", "none is left", "nothing of the kind", "Planning"])
        filter.text = some(["a", "aa-", "b-job", "0", "00000", "zz"])
        filter.event = some(["3", "snap-4", "aa-2", "b-1"])
        filter.from = some([Date(timeIntervalSince1970: 10), Date(timeIntervalSince1970: 30)])
        filter.to = some([Date(timeIntervalSince1970: 20), Date(timeIntervalSince1970: 50)])
        return filter
    }

    private static func matches(_ run: Made, _ filter: LedgerRunFilter) -> Bool {
        if !filter.states.isEmpty, !filter.states.contains(run.state) { return false }
        if let level = filter.level, run.level != level { return false }
        if let service = filter.service, !run.jobs.contains(where: { $0.service == service }) { return false }
        if let modality = filter.modality, !run.modalities.contains(modality) { return false }
        if let error = filter.error?.lowercased() {
            let words = run.jobs.filter { $0.error != nil }.flatMap {
                ["MemoryError", $0.error ?? "", "Attempt 1 failed and none is left."]
            }
            guard (words + [run.reason ?? ""]).contains(where: { $0.lowercased().contains(error) }) else { return false }
        }
        if let text = filter.text {
            let isName = run.jobs.contains { $0.name == text }
            guard isName || run.resource.hasPrefix(text) || run.id.hasPrefix(text.uppercased()) else { return false }
        }
        if let event = filter.event, String(run.number) != event, "snap-\(run.number)" != event, run.resource != event { return false }
        if let from = filter.from, Double(run.number) < from.timeIntervalSince1970 { return false }
        if let to = filter.to, Double(run.number) >= to.timeIntervalSince1970 { return false }
        return true
    }

    @Test("Lists, counts and bulk operations agree with asking every run")
    func agrees() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        let runs = Self.make(60, &random)
        let ledger = try SmallLedger()
        try await Self.write(runs, ledger)
        let reader = LedgerReader(path: ledger.path)
        let common = CommonValues()
        var found = 0
        for _ in 0..<100 {
            let filter = Self.makeFilter(&random)
            let expected = runs.filter { Self.matches($0, filter) }.map(\.id)
            var listed: [String] = []
            var cursor: String?
            repeat {
                let page = try await reader.runs(filter, limit: 7, cursor: cursor)
                listed += page.items.map(\.id)
                cursor = page.next
            } while cursor != nil
            #expect(listed == expected.reversed(), "\(filter), seed \(seed)")
            let matched = try await reader.matches(filter, limit: 100).map(\.id)
            #expect(matched == expected, "\(filter), seed \(seed)")
            var open = filter
            open.states = []
            let counts = try await reader.runCounts(filter).states
            let states = Dictionary(grouping: runs.filter { Self.matches($0, open) }, by: \.state).mapValues(\.count)
            #expect(counts == states, "\(filter), seed \(seed)")
            // As if everything, or half of it, were too common to be looked up.
            for probe in [1, 20] {
                let walked = try await ledger.database.read { db in
                    let search = try LedgerRunSearch(filter, db, common: common, probe: probe)
                    let sql = search.sql("run.id") + " ORDER BY \(search.id) DESC"
                    return try String.fetchAll(db, sql: sql, arguments: search.arguments)
                }
                #expect(walked == expected.reversed(), "\(filter), probe \(probe), seed \(seed)")
            }
            found += expected.count
        }
        #expect(found > 0)
    }

    @Test("What was retried and what is gone gives no reason any more")
    func mended() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        var runs = Self.make(2, &random)
        for index in runs.indices {
            runs[index].state = .failed
            runs[index].jobs = [.init(id: "\(runs[index].id).0", name: "a-job", service: "a", error: "Out of luck")]
        }
        let ledger = try SmallLedger()
        try await Self.write(runs, ledger)
        let reader = LedgerReader(path: ledger.path)
        #expect(try await reader.runs(LedgerRunFilter(error: "luck"), limit: 9).items.count == 2)
        try await ledger.database.write { [runs] db in
            try db.execute(sql: "UPDATE job SET state = 'ready' WHERE run_id = ?", arguments: [runs[0].id])
            try db.execute(sql: "UPDATE run SET state = 'active' WHERE id = ?", arguments: [runs[0].id])
            try db.execute(sql: "DELETE FROM run WHERE id = ?", arguments: [runs[1].id])
        }
        #expect(try await reader.runs(LedgerRunFilter(error: "luck"), limit: 9).items.isEmpty)
        let left = try await ledger.database.read { db in try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM failure") }
        #expect(left == 0)
    }
}
