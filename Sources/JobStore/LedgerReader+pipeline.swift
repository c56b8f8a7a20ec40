package import Foundation
import GRDB
import Jobs

/// Which events a list shows.
package enum LedgerEventFilter: Sendable, Hashable {
    case all
    /// Only those that ingest let through.
    case accepted
    /// Only those that a filter stopped.
    case filtered
    /// Only those that this filter stopped.
    case reason(String)
}

extension LedgerReader {
    /// Events, newest first.
    package func events(_ filter: LedgerEventFilter = .all, limit: Int, cursor: String? = nil) async throws -> LedgerPage<LedgerEvent> {
        let (condition, arguments): (String, StatementArguments) =
            switch filter {
            case .all: ("", [])
            case .accepted: ("AND event.filter_code IS NULL", [])
            case .filtered: ("AND event.filter_code IS NOT NULL", [])
            case .reason(let code): ("AND event.filter_code = ?", [code])
            }
        return try await read { db in
            let rows = try Self.events(
                db, "event.seq < ? \(condition)", [cursor.flatMap(Int64.init) ?? Int64.max] + arguments, limit: limit + 1)
            return LedgerPage(rows, limit: limit) { String($0.sequence) }
        }
    }

    static func events(_ db: Database, _ condition: String, _ arguments: StatementArguments, limit: Int) throws -> [LedgerEvent] {
        let rows = try Row.fetchAll(
            db, sql: "SELECT \(LedgerEvent.columns) FROM event WHERE \(condition) ORDER BY event.seq DESC LIMIT ?",
            arguments: arguments + [limit])
        return try rows.map { row in
            var event = try LedgerEvent(row: row)
            event.runs = try Row.fetchAll(
                db, sql: "SELECT id, state FROM run WHERE resource_id = ? AND event_seq = ? ORDER BY id",
                arguments: [event.resourceID, event.sequence]
            ).map { LedgerRunLink(id: $0["id"], state: try $0.raw(RunState.self, "state")) }
            return event
        }
    }

    /// Facts after `sequence`, oldest first.
    ///
    /// - Parameter run: only facts of this run.
    package func facts(after sequence: Int64, run: String? = nil, limit: Int) async throws -> [LedgerFact] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM fact WHERE seq > ? \(run == nil ? "" : "AND run_id = ?") ORDER BY seq LIMIT ?",
                arguments: [sequence] + (run.map { [$0] } ?? []) + [limit]
            ).map(LedgerFact.init(row:))
        }
    }

    /// The newest fact's number; 0 before the first.
    package func latestFact() async throws -> Int64 {
        try await read { db in try Self.latestFact(db) }
    }

    static func latestFact(_ db: Database) throws -> Int64 {
        try Int64.fetchOne(db, sql: "SELECT max(coalesce((SELECT MAX(seq) FROM fact), 0), deleted_fact) FROM retention") ?? 0
    }

    /// Every fact from this number on is there. Who has seen the fact before it, or a later one, can go on without a gap.
    package func oldestFact() async throws -> Int64 {
        try await read { db in try Int64.fetchOne(db, sql: "SELECT deleted_fact FROM retention").map { $0 + 1 } ?? 1 }
    }

    package func pipelineState() async throws -> LedgerPipelineState {
        try await read { db in
            guard let row = try Row.fetchOne(db, sql: "SELECT * FROM broker") else {
                return LedgerPipelineState(broker: nil, reportedAt: nil)
            }
            return LedgerPipelineState(
                broker: BrokerState(try row.raw(BrokerState.Condition.self, "condition"), reason: row["reason"], since: row.date("since")),
                reportedAt: row.date("reported_at"))
        }
    }

    /// Workers, those heard of last first.
    package func workers() async throws -> [LedgerWorker] {
        try await read { db in
            var workers = try Self.workers(db, seenSince: 0)
            let running = try Row.fetchAll(
                db, sql: "SELECT id, name, worker, started_at FROM job WHERE state = 'running' ORDER BY started_at LIMIT 5000")
            let jobs = Dictionary(grouping: running) { $0["worker"] as String? ?? "" }
            for index in workers.indices {
                workers[index].jobs = (jobs[workers[index].id] ?? []).map {
                    LedgerWorkerJob(id: $0["id"], name: $0["name"], startedAt: $0.optionalDate("started_at"))
                }
            }
            return workers
        }
    }

    private static func number(_ value: JSONValue) -> Double? {
        switch value {
        case .number(let number): number
        case .integer(let number): Double(number)
        default: nil
        }
    }

    static func workers(_ db: Database, seenSince: Double) throws -> [LedgerWorker] {
        try Row.fetchAll(db, sql: "SELECT * FROM worker WHERE seen_at >= ? ORDER BY seen_at DESC LIMIT 500", arguments: [seenSince]).map {
            row in
            let info = try row.decoded(JSONValue.self, "info")
            return LedgerWorker(
                id: row["id"],
                host: row["host"],
                pid: info["pid"]?.integer,
                version: info["version"]?.string,
                slots: Int(clamping: info["slots"]?.integer ?? 0),
                channels: info["channels"]?.array?.compactMap(\.string) ?? [],
                state: info["state"]?.string ?? "running",
                busy: row["busy"],
                startedAt: row.date("started_at"),
                seenAt: row.date("seen_at"),
                jobs: [],
                isDrained: info["isDrained"]?.bool ?? false,
                load: info["load"]?.array?.compactMap(number) ?? [],
                memory: info["memory"]?.integer,
                freeMemory: info["freeMemory"]?.integer,
                gpus: info["gpus"]?.integer
            )
        }
    }

    /// Every channel that a job, a worker or a service knows, by name.
    package func channels(at now: Date) async throws -> [LedgerChannel] {
        try await read { db in
            var channels: [String: LedgerChannel] = [:]
            func change(_ name: String, _ body: (inout LedgerChannel) throws -> Void) rethrows {
                try body(&channels[name, default: LedgerChannel(name: name, counts: [:], levels: [], workers: 0, slots: 0)])
            }
            let tally = try Row.fetchAll(
                db,
                sql: """
                    SELECT channel, priority, state, SUM(jobs) AS jobs FROM job_tally WHERE jobs > 0
                    GROUP BY channel, priority, state ORDER BY priority DESC
                    """)
            for row in tally {
                let priority = try row.raw(Priority.self, "priority")
                let state = try row.raw(JobState.self, "state")
                let jobs: Int = row["jobs"]
                change(row["channel"]) { channel in
                    channel.counts[state, default: 0] += jobs
                    guard !state.isTerminal else { return }
                    if channel.levels.last?.priority != priority { channel.levels.append(.init(priority: priority, counts: [:])) }
                    channel.levels[channel.levels.count - 1].counts[state] = jobs
                }
            }
            for name in channels.keys {
                let oldest = try Double.fetchOne(
                    db, sql: "SELECT MIN(queued_at) FROM job WHERE (state = 'ready' OR state = 'dispatched') AND channel = ?",
                    arguments: [name])
                channels[name]?.oldestQueuedAt = oldest.map(Date.init(ledgerTime:))
            }
            for worker in try Self.workers(db, seenSince: now.timeIntervalSince1970 - Self.workerSilence) where worker.state == "running" {
                for name in worker.channels {
                    change(name) { channel in
                        channel.workers += 1
                        channel.slots += worker.slots
                    }
                }
            }
            for service in try Row.fetchAll(db, sql: "SELECT jobs FROM service") {
                for job in try service.decoded([JobDefinition].self, "jobs") { change(job.channel) { _ in } }
            }
            for row in try Row.fetchAll(db, sql: "SELECT name FROM channel") { change(row["name"]) { _ in } }
            for pause in try Self.pauses(db) {
                guard case .channel(let name) = pause.target else { continue }
                change(name) { channel in
                    channel.pausedAt = pause.at
                    channel.pausedBy = pause.actor
                }
            }
            for row in try Row.fetchAll(db, sql: "SELECT channel, SUM(jobs) AS jobs FROM discard_tally WHERE jobs > 0 GROUP BY channel") {
                change(row["channel"]) { $0.counts[.dead, default: 0] -= row["jobs"] as Int }
            }
            return channels.values.sorted { $0.name < $1.name }
        }
    }

    private static func pauses(_ db: Database) throws -> [Pause] {
        try Row.fetchAll(db, sql: "SELECT * FROM pause ORDER BY kind, name").compactMap { row in
            PauseTarget(kind: row["kind"], name: row["name"]).map { Pause($0, by: row["paused_by"], at: row.date("paused_at")) }
        }
    }

    /// The registry's services as the router last read them, by name; and what is paused and no longer among them.
    package func services() async throws -> [LedgerService] {
        try await read { db in
            let pauses = try Self.pauses(db).filter { $0.target.kind == "service" }
            var queued: [String: Int] = [:]
            for row in try Row.fetchAll(
                db, sql: "SELECT service, SUM(jobs) AS jobs FROM job_tally WHERE state IN ('ready', 'dispatched') GROUP BY service")
            {
                queued[row["service"]] = row["jobs"]
            }
            let known = try Row.fetchAll(db, sql: "SELECT * FROM service ORDER BY name").map { row in
                let problems = try row.decoded([JSONValue].self, "problems")
                return LedgerService(
                    name: row["name"],
                    jobs: try row.decoded([JobDefinition].self, "jobs"),
                    problems: problems.map { problem in
                        LedgerService.Problem(
                            severity: problem["severity"]?.string ?? "error",
                            file: problem["file"]?.string,
                            entry: problem["entry"]?.string ?? problem["entry"]?.integer.map(String.init),
                            key: problem["key"]?.string,
                            value: problem["value"]?.string,
                            allowed: problem["allowed"]?.string,
                            nearest: problem["nearest"]?.string,
                            message: problem["message"]?.string ?? "unknown"
                        )
                    },
                    needs: try row.decoded([String: [String]].self, "needs"),
                    loadedAt: row.date("loaded_at"),
                    pause: pauses.first { $0.target.name == row["name"] },
                    queued: queued[row["name"]] ?? 0
                )
            }
            // Whoever wants to resume it has to find it.
            let gone = pauses.filter { pause in !known.contains { $0.name == pause.target.name } }.map { pause in
                LedgerService(
                    name: pause.target.name, jobs: [],
                    problems: [.init(severity: "warning", message: "It is paused, and the registry has no such service any more.")],
                    needs: [:], loadedAt: pause.at, pause: pause,
                    queued: queued[pause.target.name] ?? 0)
            }
            return (known + gone).sorted { $0.name < $1.name }
        }
    }

    package func totals() async throws -> LedgerTotals {
        try await read { db in
            var discarded: [[String]: Int] = [:]
            for row in try Row.fetchAll(db, sql: "SELECT service, channel, jobs FROM discard_tally WHERE jobs > 0") {
                discarded[[row["service"], row["channel"]]] = row["jobs"]
            }
            return LedgerTotals(
                runs: try Row.fetchAll(db, sql: "SELECT state, runs FROM run_tally WHERE runs > 0").reduce(into: [:]) {
                    $0[try $1.raw(RunState.self, "state")] = $1["runs"]
                },
                jobs: try Row.fetchAll(
                    db,
                    sql: """
                        SELECT service, channel, state, SUM(jobs) AS n FROM job_tally WHERE jobs > 0
                        GROUP BY service, channel, state
                        """
                ).map { row in
                    let state = try row.raw(JobState.self, "state")
                    let left = state == .dead ? discarded[[row["service"], row["channel"]]] ?? 0 : 0
                    return .init(service: row["service"], channel: row["channel"], state: state, count: row["n"] - left)
                },
                discarded: discarded.values.reduce(0, +),
                events: try Row.fetchAll(db, sql: "SELECT NULLIF(code, '') AS code, events FROM event_tally WHERE events > 0")
                    .map { .init(code: $0["code"], count: $0["events"]) },
                deadMessages: try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM dead_message WHERE state IN ('parked', 'requeueing')") ?? 0,
                deadMessagesEver: try Int.fetchOne(db, sql: "SELECT seq FROM sqlite_sequence WHERE name = 'dead_message'") ?? 0,
                latestFact: try Self.latestFact(db)
            )
        }
    }
}
