import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline

/// Fills a ledger: real runs through the engine, and their copies by the hundred thousand through SQL.
struct LedgerFiller {
    let folder: URL
    let now: Date

    /// Seconds by which copies are older than what they copy, so that retention finds them first.
    static let age = 86400

    /// Jobs of a run: images, something before, the work, something after; each waits for the one before it.
    static let jobsPerRun = 4

    static func plan(jobs: Int = jobsPerRun) -> RunPlan {
        let entries = (0..<jobs).map { index in
            RunPlan.Entry(
                definition: JobDefinition(
                    name: index == 0 ? "export" : "job\(index)", service: index == 0 ? "" : "service\(index)",
                    stage: index == 0 ? .export : .services, kind: index == 0 ? .export : .python, entry: "service.job\(index)",
                    params: ["threshold": 0.5, "labels": ["liver", "spleen"]]),
                dependencies: index == 0 ? [] : [Dependency(parent: index - 1, origin: .declared)])
        }
        let decisions = entries.map {
            Decision(
                job: $0.definition.name, service: $0.definition.service, stage: $0.definition.stage, verdict: .accepted,
                reason: Reason("accepted", "Accepted by its callback."), duration: 0.01)
        }
        return RunPlan(jobs: entries, decisions: decisions)
    }

    static func event(_ snapshot: String, at now: Date) -> EventMessage {
        let tags = Dictionary(uniqueKeysWithValues: (0..<40).map { ("Tag\($0)", JSONValue.string("value of tag \($0)")) })
        return EventMessage(
            server: "orthanc", level: .study, resourceID: snapshot, snapshot: snapshot, observedAt: now,
            series: [.init(id: "series-of-\(snapshot)", instances: 120)],
            headers: ["id": .string(snapshot), "tags": .object(tags)])
    }

    /// Planned runs whose first hint is confirmed.
    func activeRuns(_ count: Int, jobs: Int = jobsPerRun, in ledger: any LedgerEngine) async throws -> [RunID] {
        var ids: [RunID] = []
        for _ in 0..<count {
            let id = RunID.make(at: now)
            let event = Self.event("event-\(id)", at: now)
            let plan = Self.plan(jobs: jobs)
            let context = RunContext(
                source: JobSource(
                    server: event.server, level: event.level, resourceID: event.resourceID, series: event.series, dcmpath: "dicom/\(id)"),
                headers: event.headers, addedParams: [:])
            try await ledger.write { [now] transaction in
                var flow = JobFlow(ledger: transaction, now: now, runs: [:])
                try flow.create(StoredRun(run: Jobs.Run(id: id, plan: plan), context: context), event: event, decisions: plan.decisions)
                for hint in flow.hints { try flow.confirm(hint) }
            }
            ids.append(id)
        }
        return ids
    }

    /// Copies a run with all that belongs to it.
    /// - Parameter numbers: tell the copies apart; each may be used once.
    func copy(_ run: RunID, numbers: Range<Int>) async throws {
        var configuration = Configuration()
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536")
        }
        let database = try DatabaseQueue(path: Ledger.file(in: folder).path, configuration: configuration)
        let step = 10_000
        for start in stride(from: numbers.lowerBound, to: numbers.upperBound, by: step) {
            let part = start..<min(start + step, numbers.upperBound)
            try await database.write { db in try Self.copy(run, part, db) }
        }
        try await database.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
        try database.close()
    }

    private static func copy(_ run: RunID, _ numbers: Range<Int>, _ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TEMP TABLE IF NOT EXISTS number (n INTEGER PRIMARY KEY);
                DELETE FROM number;
                """)
        try db.execute(
            sql:
                "WITH RECURSIVE series(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM series WHERE n + 1 < ?) INSERT INTO number SELECT n FROM series",
            arguments: [numbers.lowerBound, numbers.upperBound])
        let id = "printf('%026d', n)"
        let ofRun = "run_id = '\(run)'"
        let job = "\(id) || substr(job_id, 27)"
        // Below the numbers that the ledger gives.
        let event = "-n"
        let source = "(SELECT event_seq FROM run WHERE id = '\(run)')"
        let name = "'copy' || n"
        try copy(
            "event", ["seq": event, "snapshot": name, "resource_id": name, "received_at": "received_at - \(age)"], "seq = \(source)", db)
        try copy(
            "run",
            ["id": id, "event_seq": event, "dedupe_key": name, "resource_id": name, "finished_at": "finished_at - \(age)"],
            "id = '\(run)'", db)
        try copy("job", ["id": "\(id) || substr(id, 27)", "run_id": id], ofRun, db)
        try copy("edge", ["run_id": id], ofRun, db)
        try copy("attempt", ["job_id": job], "job_id >= '\(run).' AND job_id < '\(run)/'", db)
        try copy("decision", ["seq": "NULL", "run_id": id], ofRun, db)
        try copy("fact", ["seq": "NULL", "run_id": id, "job_id": job], ofRun, db)
    }

    private static func copy(_ table: String, _ changed: [String: String], _ condition: String, _ db: Database) throws {
        let columns = try db.columns(in: table).map(\.name)
        let values = columns.map { changed[$0] ?? "\(table).\($0)" }
        try db.execute(
            sql: """
                INSERT INTO \(table) (\(columns.joined(separator: ", ")))
                SELECT \(values.joined(separator: ", ")) FROM number CROSS JOIN \(table) WHERE \(condition)
                """)
    }
}
