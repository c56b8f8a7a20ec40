import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline

/// A ledger and ingest's journal as they are after months: a run of each kind goes through the engine, and its copies, with ids, times and
/// texts of their own, through SQL.
struct MonitorLedger {
    /// The folder STATE.
    let folder: URL
    let days = 90

    /// Every run that is copied has as many jobs, or none when nobody wanted it.
    static let jobsPerRun = 7
    /// Of a thousand events, those that a filter stops.
    private static let filteredShare = 150
    private static let batch = 5000

    var file: URL { Ledger.file(in: folder) }

    /// - Returns: how many jobs are there; 0 without a ledger.
    func jobs() throws -> Int {
        guard FileManager.default.fileExists(atPath: file.path) else { return 0 }
        let database = try DatabaseQueue(path: file.path)
        return try database.read { db in
            try db.tableExists("job_tally") ? Int.fetchOne(db, sql: "SELECT coalesce(sum(jobs), 0) FROM job_tally") ?? 0 : 0
        }
    }

    func fill(jobs: Int) async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var random = SplitMix(state: 8)
        let now = Date()
        let start = now.addingTimeInterval(-Double(days) * 86400)
        let templates = try await makeTemplates(at: start.addingTimeInterval(-86400))
        let runs = Int((Double(jobs) / Double(Self.jobsPerRun) / Hospital.shareWithJobs).rounded(.up))
        let journal = try IngestJournal(folder: folder)
        for level in ResourceLevel.allCases { _ = try await journal.register(level, server: "orthanc", at: start) }
        var configuration = Configuration()
        configuration.prepareDatabase { db in try db.execute(sql: "PRAGMA synchronous = OFF; PRAGMA cache_size = -131072") }
        let database = try DatabaseQueue(path: file.path, configuration: configuration)
        var resources: [String] = []
        for first in stride(from: 0, to: runs, by: Self.batch) {
            var copies: [Copy] = []
            for number in first..<min(first + Self.batch, runs) {
                let at = start.addingTimeInterval((now.timeIntervalSince(start) - 3600) * Double(number) / Double(runs))
                copies.append(makeCopy(templates.runs, at: at, &resources, &random))
                if random.below(1000) < Self.filteredShare {
                    copies.append(makeCopy(templates.filtered, at: at.addingTimeInterval(1), &resources, &random))
                }
            }
            try await database.write { [copies] db in try Self.insert(copies, db) }
            try await journal.save(copies.map(\.record), server: "orthanc", at: now)
        }
        try await database.write { db in
            // What the copies were made of, and what the router would have forgotten by now.
            for template in templates.runs {
                let run = template.run ?? ""
                try db.execute(sql: "DELETE FROM fact WHERE run_id = ?", arguments: [run])
                try db.execute(sql: "DELETE FROM run WHERE id = ?", arguments: [run])
            }
            for template in templates.runs + templates.filtered {
                try db.execute(sql: "DELETE FROM event WHERE seq = ?", arguments: [template.event])
            }
            try db.execute(sql: "DELETE FROM ended WHERE at < ?", arguments: [now.timeIntervalSince1970 - Double(EndedSpan.kept)])
        }
        try await database.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
        try database.close()
        try await addSurroundings(at: now, journal, &random)
    }

    // MARK: The runs that are copied

    /// A run, or an event without one, and how often it is copied.
    struct Template: Sendable {
        var run: String?
        var event: Int64
        var at: Date
        var practice: Hospital.Practice
        var share: Int
        var filter: String?
    }

    private func makeTemplates(at began: Date) async throws -> (runs: [Template], filtered: [Template]) {
        let ledger = try Ledger(folder: folder)
        return try await ledger.write { transaction in
            var runs: [Template] = []
            var filtered: [Template] = []
            for practice in Hospital.practices {
                for course in Hospital.courses {
                    let at = began.addingTimeInterval(Double(runs.count) * 120)
                    var run = SimulatedRun(practice, course, at: at)
                    try run.carryOut(in: transaction)
                    guard let event = try transaction.event(of: run.id)?.sequence else { throw BenchmarkError("No event of \(run.id).") }
                    runs.append(
                        Template(
                            run: run.id.rawValue, event: event, at: at, practice: practice, share: practice.share * course.share,
                            filter: nil))
                }
                for filter in Hospital.filters {
                    let event = Hospital.event(
                        practice, resource: "\(practice.modality)-\(filter)-\(filtered.count)", at: began, filtered: filter)
                    guard let sequence = try transaction.recordEvent(event, at: began).sequence else { continue }
                    filtered.append(
                        Template(
                            run: nil, event: sequence, at: began, practice: practice,
                            share: practice.share * (filter == "own-result" ? 1 : 30), filter: filter))
                }
            }
            return (runs, filtered)
        }
    }

    // MARK: Copies

    private struct Copy: Sendable {
        var template: Template
        var run: String?
        var at: Date
        /// How much longer it takes.
        var stretch: Double
        var resource: String
        var number: String
        var snapshot: String { "\(resource):\(number)" }

        var record: IngestRecord {
            IngestRecord(
                server: "orthanc", level: template.practice.level, resource: resource, snapshot: snapshot, lastUpdate: "20260101T000000",
                origin: template.filter == nil ? .event : .filtered,
                series: Dictionary(uniqueKeysWithValues: (1...3).map { ("\(resource)-\($0)", number) }),
                reason: template.filter.map { Reason($0, "Stopped by the filter '\($0)'.") }, recordedAt: at)
        }
    }

    private func makeCopy(_ templates: [Template], at: Date, _ resources: inout [String], _ random: inout SplitMix) -> Copy {
        var chosen = random.below(templates.reduce(0) { $0 + $1.share })
        let template =
            templates.first { template in
                chosen -= template.share
                return chosen < 0
            } ?? templates[0]
        // One in ten comes again: it has grown, or somebody had it processed again.
        let resource: String
        if random.below(10) == 0, let known = resources.randomElement(using: &random) {
            resource = known
        } else {
            resource = (0..<5).map { _ in random.hex(8) }.joined(separator: "-")
            resources.append(resource)
        }
        return Copy(
            template: template,
            run: template.run.map { _ in
                RunID(milliseconds: UInt64(at.timeIntervalSince1970 * 1000), random: (random.next(), random.next())).rawValue
            },
            at: at, stretch: 0.3 * exp(2 * Double(random.below(1000)) / 1000), resource: resource, number: random.hex(6))
    }

    private static func insert(_ copies: [Copy], _ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TEMP TABLE IF NOT EXISTS copy (
                    n INTEGER PRIMARY KEY, template TEXT, template_event INTEGER, template_at REAL, id TEXT, at REAL, stretch REAL,
                    resource TEXT, number TEXT, snapshot TEXT);
                DELETE FROM copy;
                """)
        let insertion = try db.cachedStatement(sql: "INSERT INTO copy VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        let last = try Int64.fetchOne(db, sql: "SELECT coalesce(max(seq), 0) FROM event") ?? 0
        for (index, copy) in copies.enumerated() {
            try insertion.execute(arguments: [
                last + 1 + Int64(index), copy.template.run, copy.template.event, copy.template.at.timeIntervalSince1970, copy.run,
                copy.at.timeIntervalSince1970, copy.stretch, copy.resource, copy.number, copy.snapshot,
            ])
        }
        func time(_ column: String) -> String { "copy.at + (\(column) - copy.template_at) * copy.stretch" }
        func text(_ column: String) -> String { "replace(replace(\(column), copy.template, copy.id), 'CASE', copy.number)" }
        let job = "copy.id || substr(job_id, 27)"
        let id = "copy.id"
        try insert(
            "event",
            [
                "seq": "copy.n", "snapshot": "copy.snapshot", "resource_id": "copy.resource", "observed_at": time("observed_at"),
                "received_at": time("received_at"),
            ], "seq = copy.template_event", db)
        try insert(
            "run",
            [
                "id": id, "event_seq": "copy.n", "dedupe_key": "copy.snapshot", "resource_id": "copy.resource",
                "dcmpath": text("dcmpath"), "reason": text("reason"), "created_at": time("created_at"), "finished_at": time("finished_at"),
            ], "run.id = copy.template", db)
        try insert("run_modality", ["run_id": id], "run_id = copy.template", db)
        try insert(
            "job",
            [
                "id": "copy.id || substr(job.id, 27)", "run_id": id, "reason": text("reason"), "claim": text("claim"),
                "error": text("error"),
                "queued_at": time("queued_at"), "dispatched_at": time("dispatched_at"), "started_at": time("started_at"),
                "finished_at": time("finished_at"), "not_before": time("not_before"),
            ], "run_id = copy.template", db)
        try insert("edge", ["run_id": id], "run_id = copy.template", db)
        try insert(
            "attempt",
            ["job_id": job, "exit": text("exit"), "claimed_at": time("claimed_at"), "ended_at": time("ended_at")],
            "job_id >= copy.template || '.' AND job_id < copy.template || '/'", db)
        try insert("decision", ["seq": "NULL", "run_id": id], "run_id = copy.template", db)
        try insert("fact", ["seq": "NULL", "run_id": id, "job_id": job, "at": time("fact.at")], "run_id = copy.template", db)
    }

    private static func insert(_ table: String, _ changed: [String: String], _ condition: String, _ db: Database) throws {
        let columns = try db.columns(in: table).map(\.name)
        let values = columns.map { changed[$0] ?? "\(table).\($0)" }
        try db.execute(
            sql: """
                INSERT INTO \(table) (\(columns.joined(separator: ", ")))
                SELECT \(values.joined(separator: ", ")) FROM temp.copy AS copy CROSS JOIN \(table) WHERE \(condition) ORDER BY copy.n
                """)
    }

    // MARK: What is there now

    /// Runs under way, workers, services, messages that nobody could read, what waits at ingest.
    private func addSurroundings(at now: Date, _ journal: IngestJournal, _ random: inout SplitMix) async throws {
        let ledger = try Ledger(folder: folder)
        try await ledger.write { [random] transaction in
            var random = random
            for number in 0..<120 {
                var run = SimulatedRun(
                    Hospital.practices[random.below(5)], .stops(after: number % 6), at: now.addingTimeInterval(-Double(1200 - number * 9)))
                try run.carryOut(in: transaction)
            }
            try transaction.noteChannels(["default", "gpu"])
            try transaction.replaceServices(
                Hospital.services.map { service in
                    ServiceRecord(name: service.name, jobs: [Hospital.definition(service.name)], problems: [], needs: [:])
                }, at: now)
            for number in 0..<300 {
                let message = ParkedMessage(
                    queue: "dcm.router", routingKey: "result", reason: "not JSON", messageID: "message-\(number)", type: "dcm.result.v1",
                    body: [UInt8](repeating: 32, count: 512))
                try transaction.park(message, at: now)
            }
        }
        try await Self.beat(ledger, at: now)
        for level in ResourceLevel.allCases {
            try await journal.finishSweep(level, server: "orthanc", listed: 150_000, at: now)
        }
        try await journal.notePending(
            (0..<60).map {
                IngestPending(
                    server: "orthanc", level: .study, resource: "pending-\($0)", since: now.addingTimeInterval(-Double($0)),
                    reason: Reason("stable-age", "Waits until nothing has been added for 60 s."))
            })
        try await journal.report(IngestSource(server: "orthanc", state: .following, lastSequence: 10, cursorSequence: 10, checkedAt: now))
    }

    /// What the router writes every few seconds.
    static func beat(_ ledger: Ledger, at now: Date) async throws {
        try await ledger.write { transaction in
            for (index, name) in Hospital.workers.enumerated() {
                let worker = WorkerInfo(
                    id: name, host: "node-\(index % 3)", pid: 100 + index, version: "1.0", slots: 8,
                    channels: index < 7 ? ["default"] : ["gpu"], startedAt: now.addingTimeInterval(-86400), load: [1.5, 1.2, 0.9],
                    memory: 1 << 36, freeMemory: 1 << 34, gpus: index < 7 ? 0 : 1)
                try transaction.saveWorker(worker, busy: 3, at: now)
            }
            try transaction.setBrokerState(BrokerState(.open, since: now.addingTimeInterval(-86400)), at: now)
        }
    }
}

/// The same numbers every time.
struct SplitMix: RandomNumberGenerator, Sendable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }

    mutating func hex(_ digits: Int) -> String {
        let text = String(next() >> UInt64(64 - digits * 4), radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }
}
