import Foundation
import GRDB
import JobStore
import Jobs
import Logging
import Pipeline
import Synchronization
import Testing

@testable import Dashboard

/// A router of a few lines: answers commands in the ledger, as the real one does, once each.
private final class AnsweringRouter: CommandSender, Sendable {
    let sample: SampleLedger
    /// What each command got: its id and how often it came.
    let seen = Mutex<[String: Int]>([:])
    /// How many may come before the broker goes away; nil is for ever.
    let patience = Mutex<Int?>(nil)
    let refuses: @Sendable (String) -> String?

    init(_ sample: SampleLedger, refuses: @escaping @Sendable (String) -> String? = { _ in nil }) {
        self.sample = sample
        self.refuses = refuses
    }

    var isConnected: Bool { true }
    var count: Int { seen.withLock { $0.count } }

    func send(_ command: CommandMessage) async throws {
        let mayCome = patience.withLock { left in
            guard let now = left else { return true }
            left = now - 1
            return now > 0
        }
        if !mayCome { throw RecordedCommands.BrokerAway() }
        let isNew = seen.withLock { seen in
            seen[command.id, default: 0] += 1
            return seen[command.id] == 1
        }
        guard isNew else { return }
        let outcome = refuses(command.target).map { "refused: \($0)" } ?? "done"
        let data: JSONValue = ["id": .string(command.id), "action": .string(command.action.rawValue), "outcome": .string(outcome)]
        // What the broker has taken is answered, though the monitor goes away meanwhile.
        try await Task { [sample] in
            try await sample.database.write { db in
                try db.execute(
                    sql: "INSERT INTO fact (at, kind, data) VALUES (?, 'command.done', ?)",
                    arguments: [Date().timeIntervalSince1970, data.text])
            }
        }.value
    }
}

@Suite(.timeLimit(.minutes(2)))
struct BulkTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private let identity = Identity(means: .token, actor: "api", role: .operator, address: "127.0.0.1")

    private struct Bench: Sendable {
        let desk: BulkDesk
        let runner: BulkRunner
        let store: MonitorStore
        let feed: FactFeed

        /// Until the operation is over; the runner stops then, as at a restart.
        func run(until isEnough: @escaping @Sendable (BulkRecord) async -> Bool, _ id: String) async throws -> BulkRecord {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await feed.run() }
                group.addTask { await runner.run() }
                defer { group.cancelAll() }
                let deadline = ContinuousClock.now + .seconds(60)
                while true {
                    let record = try #require(try await store.bulk(id))
                    if await isEnough(record) { return record }
                    try #require(ContinuousClock.now < deadline, "\(record)")
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
        }
    }

    private func bench(_ sample: SampleLedger, _ router: AnsweringRouter) throws -> Bench {
        let ledger = LedgerReader(path: sample.path)
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        let feed = FactFeed(ledger: ledger, interval: .milliseconds(50), logger: logger)
        let runner = BulkRunner(ledger: ledger, store: store, sender: router, feed: feed, logger: logger)
        return Bench(desk: BulkDesk(ledger: ledger, store: store, runner: runner), runner: runner, store: store, feed: feed)
    }

    /// Runs of one job each, `state` all of them.
    private func addRuns(_ count: Int, _ state: RunState, _ sample: SampleLedger) throws -> [String] {
        try sample.database.write { db in
            let event = try Int64.fetchOne(db, sql: "SELECT max(seq) FROM event") ?? 1
            return try (0..<count).map { number in
                let id = RunID.make(at: Date()).rawValue
                try db.execute(
                    sql: """
                        INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, dcmpath, added_params, created_at,
                            finished_at) VALUES (?, ?, 'event', ?, 'orthanc', 'study', ?, ?, ?, '{}', ?, ?)
                        """,
                    arguments: [id, event, id, "r\(number)", state.rawValue, id, 1.0, state == .active ? nil : 2.0])
                try db.execute(
                    sql: """
                        INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt, dispatch,
                            token, crashes, failures, cancel_requested) VALUES (?, ?, 0, 'work', 'bulk-service', 'services', 'default', 2, '{}', ?,
                            '{"code":"exception","text":"It failed."}', 1, 1, 1, 0, 1, 0)
                        """, arguments: [id + ".0", id, state == .failed ? "failed" : state == .active ? "running" : "succeeded"])
                return id
            }
        }
    }

    @Test("What is done is what was previewed; what has changed meanwhile or is refused is skipped, with the reason")
    func exact() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let failed = try addRuns(120, .failed, sample)
        _ = try addRuns(3, .active, sample)
        let router = AnsweringRouter(sample) { $0 == failed[5] ? "Nothing to do." : nil }
        let bench = try bench(sample, router)
        let order = try BulkOrder(["kind": "runs", "action": "retry", "filter": ["service": "bulk-service"]])
        let preview = try await bench.desk.preview(order, by: identity)
        #expect(preview.record.total == 120)
        #expect(preview.record.leftOut == ["It is still active.": 3])
        #expect(preview.examples.count == 5)
        // One changes, and one more comes that matches: neither is done.
        try await sample.database.write { db in
            try db.execute(sql: "UPDATE run SET state = 'succeeded', finished_at = 9 WHERE id = ?", arguments: [failed[7]])
        }
        let late = try addRuns(1, .failed, sample)
        _ = try await bench.desk.start(preview.record.id, by: identity)
        let record = try await bench.run(until: { $0.state.isOver }, preview.record.id)
        #expect(record.state == .done)
        #expect(record.done == 118)
        #expect(record.skipped == 2)
        #expect(record.failed == 0)
        let reasons = try await bench.store.bulkReasons(record.id)
        #expect(Set(reasons.map(\.reason)) == ["Nothing to do.", "It has changed since the preview."])
        #expect(router.count == 119)
        let targets = try await bench.store.bulkItems(record.id, from: 0, limit: 500).map(\.target)
        #expect(targets == failed.sorted())
        #expect(!targets.contains(late[0]))
        let audit = try await bench.store.audit(AuditFilter(target: record.id), limit: 5).items
        #expect(audit.map(\.entry.action) == ["bulk-retry"])
        #expect(audit.first?.entry.outcome == .done)
        #expect(audit.first?.entry.detail["done"] == .integer(118))
        await #expect(throws: Problem.self) { try await bench.desk.start(preview.record.id, by: identity) }
    }

    @Test("After a restart in the middle the rest is done, and nothing twice, whatever was lost on the way to the broker")
    func restart() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try addRuns(300, .failed, sample)
        let router = AnsweringRouter(sample)
        router.patience.withLock { $0 = 220 }
        let first = try bench(sample, router)
        let order = try BulkOrder(["kind": "runs", "action": "retry", "filter": ["service": "bulk-service", "state": "failed"]])
        let preview = try await first.desk.preview(order, by: identity)
        _ = try await first.desk.start(preview.record.id, by: identity)
        let middle = try await first.run(until: { _ in router.patience.withLock { $0 ?? 0 } < 0 }, preview.record.id)
        #expect(middle.state == .running && middle.position - middle.done - middle.skipped <= BulkRunner.window)
        router.patience.withLock { $0 = nil }
        let second = try bench(sample, router)
        let record = try await second.run(until: { $0.state.isOver }, preview.record.id)
        #expect(record.done == 300)
        #expect(record.skipped == 0)
        #expect(record.failed == 0)
        #expect(router.count == 300)
    }

    @Test("A cancelled operation sends nothing more and counts what it did not do")
    func cancel() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try addRuns(300, .active, sample)
        let router = AnsweringRouter(sample)
        router.patience.withLock { $0 = 50 }
        let bench = try bench(sample, router)
        let order = try BulkOrder(["kind": "runs", "action": "cancel", "filter": ["service": "bulk-service"]])
        let preview = try await bench.desk.preview(order, by: identity)
        _ = try await bench.desk.start(preview.record.id, by: identity)
        _ = try await bench.run(until: { $0.done == 50 && $0.position == BulkRunner.window + 50 }, preview.record.id)
        #expect(try await bench.desk.cancel(preview.record.id, by: identity).state == .cancelling)
        // The broker comes back: what it did not confirm is not sent now.
        router.patience.withLock { $0 = nil }
        let again = try self.bench(sample, router)
        let record = try await again.run(until: { $0.state.isOver }, preview.record.id)
        #expect(record.state == .cancelled)
        #expect(record.done == 50 && record.failed == BulkRunner.window && record.skipped == 50)
        #expect(router.count == 50)
        let reasons = try await bench.store.bulkReasons(record.id)
        #expect(reasons.first { $0.state == .failed }?.reason == BulkRunner.unanswered)
        #expect(reasons.first { $0.state == .skipped }?.reason == "Cancelled by api.")
    }

    @Test("What the broker did not confirm is sent again only while it is what it was; an answer that came meanwhile counts")
    func unconfirmed() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let failed = try addRuns(4, .failed, sample).sorted()
        let router = AnsweringRouter(sample)
        router.patience.withLock { $0 = 0 }
        let first = try bench(sample, router)
        let order = try BulkOrder(["kind": "runs", "action": "retry", "filter": ["service": "bulk-service"]])
        let preview = try await first.desk.preview(order, by: identity)
        _ = try await first.desk.start(preview.record.id, by: identity)
        // Each is tried more than once, as long as nothing has changed.
        let tried = try await first.run(until: { _ in router.patience.withLock { $0 ?? 0 } <= -8 }, preview.record.id)
        #expect(tried.position == 4 && tried.failed == 0 && router.count == 0)
        // Somebody else retries two of them; of the second it was this very command, and the answer is there.
        let answer: JSONValue = ["id": .string("\(preview.record.id):1"), "outcome": "done"]
        try await sample.database.write { db in
            for id in failed[0...1] {
                try db.execute(sql: "UPDATE run SET state = 'active', finished_at = NULL WHERE id = ?", arguments: [id])
            }
            try db.execute(sql: "INSERT INTO fact (at, kind, data) VALUES (1, 'command.done', ?)", arguments: [answer.text])
        }
        router.patience.withLock { $0 = nil }
        let second = try bench(sample, router)
        let record = try await second.run(until: { $0.state.isOver }, preview.record.id)
        #expect(record.state == .done && record.done == 3 && record.failed == 1 && record.skipped == 0)
        let sent = router.seen.withLock { Set($0.keys) }
        #expect(sent == ["\(record.id):2", "\(record.id):3"])
        let given = try await second.store.bulkItems(record.id, states: [.failed], from: 0, limit: 5)
        #expect(given.map(\.target) == [failed[0]] && given.map(\.reason) == [BulkRunner.unanswered])
    }

    @Test("To discard what was discarded is refused, not counted")
    func discardedAlready() throws {
        let wrong: JSONValue = ["kind": "jobs", "action": "discard", "filter": ["state": "dead", "discarded": "true"]]
        let problem = #expect(throws: Problem.self) { try BulkOrder(wrong) }
        #expect(problem?.members["parameter"] == "discarded")
        #expect(throws: Never.self) { try BulkOrder(["kind": "jobs", "action": "retry", "filter": ["discarded": "true"]]) }
        #expect(throws: Never.self) { try BulkOrder(["kind": "jobs", "action": "discard", "filter": ["discarded": "false"]]) }
    }

    @Test("Reprocessing does the newest run of each study once; one that came meanwhile is not done over")
    func reprocess() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let first = try addRuns(6, .succeeded, sample)
        let later = try addRuns(4, .succeeded, sample)
        let other = try addRuns(2, .failed, sample)
        try await sample.database.write { db in
            try db.execute(sql: "UPDATE run SET resource_id = id")
            // Three runs of one study, two of another; and two studies whose newest run does not match.
            for (run, of) in [(first[0], first[0]), (first[1], first[0]), (later[0], first[0]), (first[2], first[2]), (later[1], first[2])]
            {
                try db.execute(sql: "UPDATE run SET resource_id = ? WHERE id = ?", arguments: [of, run])
            }
            for (run, of) in [(other[0], first[3]), (other[1], first[4])] {
                try db.execute(sql: "UPDATE run SET resource_id = ? WHERE id = ?", arguments: [of, run])
            }
        }
        let router = AnsweringRouter(sample)
        let bench = try bench(sample, router)
        let order = try BulkOrder([
            "kind": "runs", "action": "reprocess", "filter": ["service": "bulk-service", "state": "succeeded"],
        ])
        let preview = try await bench.desk.preview(order, by: identity)
        #expect(preview.record.total == 5)
        #expect(preview.record.leftOut.values.sorted() == [2, 3])
        let pinned = try await bench.store.bulkItems(preview.record.id, from: 0, limit: 50).map(\.target)
        #expect(Set(pinned) == Set([later[0], later[1], later[2], later[3], first[5]]))
        // Somebody is quicker with one of them.
        let quicker = try addRuns(1, .active, sample)
        try await sample.database.write { db in
            try db.execute(sql: "UPDATE run SET resource_id = ? WHERE id = ?", arguments: [first[0], quicker[0]])
        }
        _ = try await bench.desk.start(preview.record.id, by: identity)
        let record = try await bench.run(until: { $0.state.isOver }, preview.record.id)
        #expect(record.done == 4)
        #expect(record.skipped == 1)
        let left = try await bench.store.bulkItems(record.id, states: [.skipped], from: 0, limit: 5)
        #expect(left.map(\.target) == [later[0]])
        #expect(left.map(\.reason) == ["It has changed since the preview."])
    }

    @Test("It stops when its starter may no longer do it, and says why")
    func starter() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try addRuns(300, .failed, sample)
        let router = AnsweringRouter(sample)
        router.patience.withLock { $0 = 50 }
        let bench = try bench(sample, router)
        let anna = Identity(means: .session, actor: "anna", role: .operator, address: "127.0.0.1", hasAccount: true)
        try await bench.store.addUser("anna", role: .operator, password: "x", at: Date())
        let order = try BulkOrder(["kind": "runs", "action": "retry", "filter": ["service": "bulk-service"]])
        let preview = try await bench.desk.preview(order, by: anna)
        _ = try await bench.desk.start(preview.record.id, by: anna)
        _ = try await bench.run(until: { $0.done == 50 && $0.position == BulkRunner.window + 50 }, preview.record.id)
        try await bench.store.setDisabled("anna", true, keepsAdmin: false)
        router.patience.withLock { $0 = nil }
        let again = try self.bench(sample, router)
        let record = try await again.run(until: { $0.state.isOver }, preview.record.id)
        let why = "Stopped: the user anna, who started it, was disabled."
        #expect(record.state == .cancelled && record.stopReason == why)
        #expect(record.done == 50 && record.failed == BulkRunner.window && record.skipped == 50)
        #expect(router.count == 50)
        #expect(try await bench.store.bulkReasons(record.id).map(\.reason) == [BulkRunner.unanswered, why])
        let audit = try await bench.store.audit(AuditFilter(target: record.id), limit: 5).items
        #expect(audit.first?.entry.detail["why"] == .string(why))
    }

    @Test("Whose right has ended: users, users of a proxy, API tokens; the settings' own stay")
    func rights() async throws {
        let sample = try SampleLedger()
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        func objection(_ identity: Identity) async throws -> String? {
            try await BulkStarter(onRecord: BulkStarter(identity).onRecord).objection(store, at: Date())
        }
        func person(_ means: Identity.Means, hasAccount: Bool = false) -> Identity {
            Identity(means: means, actor: "anna", role: .operator, address: "127.0.0.1", hasAccount: hasAccount)
        }
        let anna = person(.session, hasAccount: true)
        for settings in [person(.loopback), person(.token), person(.session), person(.proxy)] {
            #expect(try await objection(settings) == nil)
        }
        #expect(try await objection(anna)?.contains("was removed") == true)
        try await store.addUser("anna", role: .operator, password: "x", at: Date())
        #expect(try await objection(anna) == nil)
        try await store.setRole("anna", .viewer, keepsAdmin: false)
        #expect(try await objection(anna)?.contains("no operator any more") == true)
        try await store.setDisabled("anna", true, keepsAdmin: false)
        #expect(try await objection(anna)?.contains("was disabled") == true)
        #expect(try await objection(person(.proxy))?.contains("was disabled") == true)
        let night = person(.apiToken("t1"))
        #expect(try await objection(night)?.contains("is gone") == true)
        try await store.addToken(
            MonitorToken(id: "t1", name: "night", role: .operator, createdBy: "test", createdAt: Date()), hash: "h")
        #expect(try await objection(night) == nil)
        _ = try await store.revokeToken("t1", at: Date())
        #expect(try await objection(night)?.contains("night") == true)
    }

    @Test("What somebody typed into a search is kept until the start and no longer, and goes into no audit")
    func typed() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let failed = try addRuns(2, .failed, sample)
        let bench = try bench(sample, AnsweringRouter(sample))
        let order = try BulkOrder([
            "kind": "runs", "action": "retry", "filter": ["q": .string(failed[0]), "error": "It failed", "state": "failed"],
        ])
        let preview = try await bench.desk.preview(order, by: identity)
        #expect(preview.record.total == 1)
        #expect(try await bench.store.bulk(preview.record.id)?.filter["error"] == "It failed")
        let record = try await bench.desk.start(preview.record.id, by: identity)
        let kept: JSONValue = ["q": "text filter (26 characters)", "error": "text filter (9 characters)", "state": "failed"]
        #expect(record.filter == kept)
        let entry = try #require(try await bench.store.audit(AuditFilter(target: record.id), limit: 1).items.first?.entry)
        #expect(entry.detail["filter"] == kept)
        // A preview that nobody starts does not stay either.
        let forgotten = try await bench.desk.preview(order, by: identity).record
        try await bench.store.forgetPreviews(at: Date() + MonitorStore.previewLifetime - 5)
        #expect(try await bench.store.bulk(forgotten.id) != nil)
        try await bench.store.forgetPreviews(at: Date() + MonitorStore.previewLifetime + 5)
        #expect(try await bench.store.bulk(forgotten.id) == nil)
        #expect(try await bench.store.bulk(record.id) != nil)
    }

    @Test("Only what is named, of what matches; what is not there is counted")
    func chosen() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let failed = try addRuns(5, .failed, sample)
        let bench = try bench(sample, AnsweringRouter(sample))
        let ids = [failed[3], failed[1], failed[1], RunID.make(at: Date()).rawValue]
        let order = try BulkOrder(["kind": "runs", "action": "retry", "ids": .array(ids.map(JSONValue.string))])
        let preview = try await bench.desk.preview(order, by: identity)
        let pinned = try await bench.store.bulkItems(preview.record.id, from: 0, limit: 50).map(\.target)
        #expect(pinned == [failed[1], failed[3]].sorted())
        #expect(preview.record.leftOut.values.map { $0 } == [1])
        #expect(preview.record.filter == ["chosen": "3"])
        let job = try BulkOrder(["kind": "jobs", "action": "retry", "ids": [.string("\(hospital.dead).4")], "filter": ["state": "failed"]])
        #expect(try await bench.desk.find(job).wanted.isEmpty)
        for wrong in [[], ["x"], [.string("\(failed[0]).0")], [1]] as [[JSONValue]] {
            #expect(throws: Problem.self) { try BulkOrder(["kind": "runs", "action": "retry", "ids": .array(wrong)]) }
        }
    }

    @Test("Jobs by service and exit class, over the API: preview, start, progress, record; a word too many is refused")
    func overTheAPI() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let body: JSONValue = ["kind": "jobs", "action": "retry", "filter": ["state": "failed,dead"]]
            let preview = try await dashboard.post("/api/v1/bulk/preview", body)
            #expect(preview.status == 200)
            let count = try #require(try preview.json["count"]?.integer)
            let broken = try await sample.database.read {
                try Int64.fetchOne($0, sql: "SELECT count(*) FROM job WHERE state IN ('failed', 'dead')")
            }
            #expect(count == broken && count > 0)
            let token = try #require(try preview.json["token"])
            let started = try await dashboard.post("/api/v1/bulk", ["token": token])
            #expect(started.status == 202)
            let deadline = ContinuousClock.now + .seconds(20)
            while Int64(dashboard.commands.sent.count) < count, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
            let sent = dashboard.commands.sent
            #expect(Int64(sent.count) == count)
            #expect(sent.allSatisfy { $0.action == .retryJob })
            #expect(sent.contains { $0.target == "\(hospital.dead).4" })
            let id = try #require(token.string)
            let detail = try await dashboard.get("/api/v1/bulk/\(id)").json
            #expect(detail["state"] == .string("running"))
            #expect(detail["total"] == .integer(count))
            #expect(detail["done"] == .integer(0))
            #expect(try await dashboard.get("/api/v1/bulk").json["operations"]?.array?.first?["id"] == token)
            let items = try await dashboard.get("/api/v1/bulk/\(id)/items?limit=1").json
            #expect(items["items"]?.array?.first?["state"] == .string("sent"))
            #expect(items["next"]?.string != nil)
            #expect(try await dashboard.post("/api/v1/bulk", ["token": token]).status == 409)
            #expect(try await dashboard.post("/api/v1/bulk/\(id)/cancel", .null).status == 202)
            #expect(try await dashboard.post("/api/v1/bulk", ["token": "none"]).status == 404)
            for (wrong, parameter) in [
                (["kind": "runs", "action": "retry", "filter": ["stat": "failed"]], "filter"),
                (["kind": "jobs", "action": "cancel"], "action"), (["kind": "all"], "kind"),
                (["kind": "runs", "action": "retry", "filter": ["from": "yesterday"]], "from"),
                (["kind": "runs", "action": "retry", "filters": [:]], "filters"),
            ] as [(JSONValue, String)] {
                let answer = try await dashboard.post("/api/v1/bulk/preview", wrong)
                #expect(answer.status == 400)
                #expect(try answer.json["parameter"] == .string(parameter))
            }
        }
    }
}

extension RunningDashboard {
    func post(_ path: String, _ body: JSONValue) async throws -> Answer {
        try await send("POST", path, headers: ["Content-Type": "application/json"], body: body.encoded())
    }
}
