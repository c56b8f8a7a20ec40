import Foundation
import GRDB
import Jobs
import Synchronization

@testable import JobStore

/// A ledger in a folder of its own, filled through plain SQL with what a pipeline leaves behind.
final class SampleLedger: Sendable {
    let folder: URL
    let database: DatabasePool
    let now: Date
    private let counter = Mutex<UInt64>(0)

    init(now: Date = Date()) throws {
        self.now = now
        folder = FileManager.default.temporaryDirectory.appending(path: "dcm-dashboard-\(UUID().uuidString)")
        for name in ["state", "data", "logs"] {
            try FileManager.default.createDirectory(at: folder.appending(path: name), withIntermediateDirectories: true)
        }
        database = try DatabasePool(path: folder.appending(path: "state/ledger.sqlite").path)
        try LedgerSchema.migrator().migrate(database)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    var path: String { folder.appending(path: "state/ledger.sqlite").path }
    var data: URL { folder.appending(path: "data") }
    var logs: URL { folder.appending(path: "logs") }

    @discardableResult
    func write<Value>(_ body: (Database) throws -> Value) throws -> Value { try database.write(body) }

    func time(_ secondsAgo: Double) -> Double { now.timeIntervalSince1970 - secondsAgo }

    // MARK: Events

    struct Series: Codable {
        var id: String
        var instances: Int
    }

    @discardableResult
    func addEvent(
        resource: String, level: String = "study", secondsAgo: Double = 0, snapshot: String? = nil, follows: String? = nil,
        filtered: (code: String, text: String)? = nil,
        series: [Series] = [Series(id: "5e1e5000-11112222-33334444-55556666-77778888", instances: 36)],
        refused: JSONValue = [:], headers: JSONValue = SampleLedger.headers
    ) throws -> Int64 {
        let snapshot = snapshot ?? "snap-\(next())"
        return try database.write { db in
            try db.execute(
                sql: """
                    INSERT INTO event (snapshot, server, level, resource_id, observed_at, received_at, follows, filter_code, filter_text,
                    series, refused, headers) VALUES (?, 'orthanc', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    snapshot, level, resource, time(secondsAgo + 0.2), time(secondsAgo), follows, filtered?.code, filtered?.text,
                    Self.json(series), refused.text, headers.text,
                ])
            return db.lastInsertedRowID
        }
    }

    static let headers: JSONValue = [
        "id": "3c1e5b70-1f6d4a10-9b1d2c33-44aa55bb-66cc77dd",
        "tags": [
            "PatientName": "DOE^JANE", "PatientID": "98890234", "PatientBirthDate": "19700101", "AccessionNumber": "ACC-4711",
            "StudyDescription": "Head CT", "OtherPatientNames": "ROE^JANE", "PatientSex": "F", "PatientAddress": "1 Main Street",
        ],
        "patientId": "aa5e1e50-11112222-33334444-55556666-77778888",
        "studies": [["series": [["tags": ["Modality": "CT", "InstitutionName": "General Hospital", "SliceThickness": "1.5"]]]]],
    ]

    // MARK: Runs

    struct SampleJob {
        var name: String
        var service: String
        var stage: Stage = .services
        var channel = "default"
        var priority = Priority.default
        var state = JobState.waiting
        var reason = Reason("waiting-for-dependencies", "Waits for the jobs that it depends on.")
        /// Positions.
        var needs: [Int] = []
        var stageNeeds: [Int] = []
        var attempt = 1
        var token = 0
        var worker: String?
        /// Seconds after the run's creation.
        var queued: Double?
        var started: Double?
        var finished: Double?
        var notBefore: Double?
        var failure: JobExit.Failure?
        var result: JSONValue?
        var params: JSONValue = .null
        var retry = RetryPolicy.never
        var isStoring = false
    }

    struct SampleAttempt {
        var job: Int
        var attempt = 1
        var token = 1
        var worker = "worker-1"
        var claimed: Double
        var ended: Double?
        var progress: JSONValue?
        var exit: JobExit?
        var lost: Reason?
    }

    @discardableResult
    func addRun(
        event: Int64, resource: String, level: String = "study", secondsAgo: Double, state: RunState, reason: Reason? = nil,
        origin: String = "event", duration: Double? = nil, addedParams: JSONValue = [:], jobs: [SampleJob] = [],
        attempts: [SampleAttempt] = [],
        decisions: [Decision] = []
    ) throws -> String {
        let created = now.addingTimeInterval(-secondsAgo)
        let number = next()
        let id = RunID(milliseconds: UInt64(created.timeIntervalSince1970 * 1000), random: (number &* 0x9e37_79b9_7f4a_7c15, number))
            .rawValue
        let start = created.timeIntervalSince1970
        try database.write { db in
            try db.execute(
                sql: """
                    INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, reason, dcmpath, added_params,
                    created_at, finished_at) VALUES (?, ?, ?, ?, 'orthanc', ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    id, event, origin, "key-\(number)", level, resource, state.rawValue, reason.map(Self.json), "dicom/\(id)",
                    addedParams.text, start, duration.map { start + $0 },
                ])
            for (position, job) in jobs.enumerated() { try Self.insert(job, position, jobs, id, start, db) }
            for attempt in attempts {
                try db.execute(
                    sql: """
                        INSERT INTO attempt (job_id, attempt, token, worker, claimed_at, progress, exit, lost_reason, ended_at)
                        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                        """,
                    arguments: [
                        "\(id).\(attempt.job)", attempt.attempt, attempt.token, attempt.worker, start + attempt.claimed,
                        attempt.progress?.text, attempt.exit.map(Self.json), attempt.lost.map(Self.json), attempt.ended.map { start + $0 },
                    ])
            }
            for decision in decisions {
                try db.execute(sql: "INSERT INTO decision (run_id, body) VALUES (?, ?)", arguments: [id, Self.json(decision)])
            }
            try db.execute(
                sql: "INSERT INTO fact (at, kind, run_id, data) VALUES (?, ?, ?, '{}')", arguments: [start, "run.created", id])
        }
        return id
    }

    private static func insert(
        _ job: SampleJob, _ position: Int, _ jobs: [SampleJob], _ run: String, _ start: Double, _ db: Database
    ) throws {
        let definition = JobDefinition(
            name: job.name, service: job.service, stage: job.stage, kind: job.stage == .export ? .export : .python,
            entry: job.stage == .export ? "" : "\(job.service).worker", params: job.params, channel: job.channel, priority: job.priority,
            retry: job.retry, isStoring: job.isStoring)
        func at(_ offset: Double?) -> Double? { offset.map { start + $0 } }
        var reason = job.reason
        // A job of the same run, by its position.
        if let subject = reason.subject, subject.hasPrefix("#") { reason.subject = "\(run).\(subject.dropFirst())" }
        try db.execute(
            sql: """
                INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt, dispatch,
                token, crashes, failures, cancel_requested, worker, not_before, queued_at, dispatched_at, started_at, finished_at, error,
                result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                "\(run).\(position)", run, position, job.name, job.service, job.stage.rawValue, job.channel, job.priority.rawValue,
                json(definition), job.state.rawValue, json(reason), job.attempt, job.token, job.worker, at(job.notBefore),
                at(job.queued), at(job.queued), at(job.started), at(job.finished), job.failure.map(json), job.result?.text,
            ])
        for (parents, origin) in [(job.needs, "declared"), (job.stageNeeds, "stage")] {
            for parent in parents {
                try db.execute(
                    sql: "INSERT INTO edge (run_id, child, parent, condition, origin, satisfied_by) VALUES (?, ?, ?, 'succeeded', ?, ?)",
                    arguments: [run, position, parent, origin, jobs[parent].state == .succeeded ? 1 : nil])
            }
        }
    }

    // MARK: The rest

    func addFact(_ kind: String, run: String? = nil, job: String? = nil, data: JSONValue = [:]) throws {
        try write { db in
            try db.execute(
                sql: "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (?, ?, ?, ?, ?)",
                arguments: [Date().timeIntervalSince1970, kind, run, job, data.text])
        }
    }

    /// - Parameter seen: how many seconds ago; as it stands it is there for the whole test, however slow the machine is.
    func addWorker(
        _ id: String, channels: [String] = ["default"], slots: Int = 2, state: String = "running", seen: Double = -600,
        machine: [String: JSONValue] = [:]
    ) throws {
        var info: [String: JSONValue] = [
            "pid": 4711, "version": "0.1.0", "slots": .integer(Int64(slots)), "channels": .array(channels.map(JSONValue.string)),
            "state": .string(state),
        ]
        info.merge(machine) { _, new in new }
        try write { db in
            try db.execute(
                sql: "INSERT INTO worker (id, host, info, busy, started_at, seen_at) VALUES (?, 'hal', ?, 1, ?, ?)",
                arguments: [id, JSONValue.object(info).text, time(7200), time(seen)])
        }
    }

    func addService(_ name: String, jobs: [JobDefinition], problems: [JSONValue] = []) throws {
        try write { db in
            try db.execute(
                sql: "INSERT INTO service (name, jobs, problems, loaded_at) VALUES (?, ?, ?, ?)",
                arguments: [name, Self.json(jobs), JSONValue.array(problems).text, time(600)])
        }
    }

    func addDeadMessage(queue: String, reason: String, body: String = "{}") throws {
        try write { db in
            try db.execute(
                sql: """
                    INSERT INTO dead_message (at, queue, routing_key, reason, message_id, type, size, properties, body)
                    VALUES (?, ?, ?, ?, 'm-1', 'dcm.event.v1', 2048, '{}', ?)
                    """,
                arguments: [time(300), queue, queue, reason, Data(body.utf8)])
        }
    }

    func pause(_ name: String, kind: String = "channel", by actor: String) throws {
        try write { db in
            try db.execute(
                sql: "INSERT INTO pause VALUES (?, ?, ?, ?)", arguments: [kind, name, actor, time(900)])
        }
    }

    func block(_ reason: String, secondsAgo: Double) throws {
        try write { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO broker (id, condition, reason, since, reported_at) VALUES (1, 'blocked', ?, ?, ?)",
                arguments: [reason, time(secondsAgo), time(1)])
        }
    }

    /// As retention does.
    func deleteFacts(upTo sequence: Int64) throws {
        try write { db in
            try db.execute(sql: "DELETE FROM fact WHERE seq <= ?", arguments: [sequence])
            try db.execute(sql: "UPDATE retention SET deleted_fact = ?", arguments: [sequence])
        }
    }

    func writeFile(_ path: String, _ bytes: some DataProtocol) throws {
        let file = folder.appending(path: path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: file)
    }

    static func json(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .secondsSince1970
        guard let data = try? encoder.encode(value) else { preconditionFailure("the sample is not JSON") }
        return String(decoding: data, as: UTF8.self)
    }

    private func next() -> UInt64 {
        counter.withLock { counter in
            counter += 1
            return counter
        }
    }
}
