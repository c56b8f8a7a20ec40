import AMQP
import Accounts
import Curl
import Foundation
import GRDB
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Stack
import Testing

@testable import Dashboard
@testable import JobStore
@testable import Monitor

private func withFolder<Value>(_ body: (URL) async throws -> Value) async throws -> Value {
    let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-webhooks-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder)
}

struct WebhookValueTests {
    /// libcurl looks no further at an address of a kind that the machine has not.
    private static let hasIPv6: Bool = {
        let descriptor = socket(AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }()

    @Test("A signature is that of the published example of Standard Webhooks; while secrets change, there are two")
    func signature() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        let old = "whsec_" + Data(repeating: 7, count: 32).base64EncodedString()
        let at = Date(timeIntervalSince1970: 1_614_265_330.9)
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
        let one = WebhookSignature(id: id, body: "{\"test\": 2432232314}", secrets: [secret], at: at)
        #expect(
            one.headers == [
                "webhook-id": id, "webhook-timestamp": "1614265330",
                "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ])
        let both = WebhookSignature(id: id, body: "{\"test\": 2432232314}", secrets: [secret, old], at: at)
        let signatures = both.headers["webhook-signature"]?.split(separator: " ") ?? []
        #expect(signatures.count == 2 && signatures[0] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        #expect(signatures.last != signatures.first)
    }

    @Test("The schedule: 10 s, 1 min, 10 min, 1 h, 6 h, then no more; what a receiver asks for lengthens it")
    func schedule() {
        let schedule = WebhookSchedule.standard
        #expect((1...6).map { schedule.delay(afterAttempt: $0) } == [10, 60, 600, 3600, 21600, nil])
        #expect(schedule.delay(afterAttempt: 1, atLeast: 120) == 600)
        #expect(schedule.delay(afterAttempt: 1, atLeast: 1_000_000) == 21600)
        #expect(schedule.delay(afterAttempt: 6, atLeast: 1) == nil)
        let names = schedule.topology(of: "w").queues.map(\.name)
        #expect(
            names == [
                "dcm.webhooks.w.v1", "dcm.webhooks.retry.10s.v1", "dcm.webhooks.retry.1m.v1", "dcm.webhooks.retry.10m.v1",
                "dcm.webhooks.retry.1h.v1", "dcm.webhooks.retry.6h.v1",
            ])
    }

    @Test("Link-local addresses are refused in every disguise, others are not")
    func addresses() {
        func refuses(_ text: String) -> Bool? {
            var four = in_addr()
            if inet_pton(AF_INET, text, &four) == 1 {
                return AddressRefusal.linkLocal.refuses(address: withUnsafeBytes(of: four) { Array($0) })
            }
            var six = in6_addr()
            guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
            return AddressRefusal.linkLocal.refuses(address: withUnsafeBytes(of: six) { Array($0) })
        }
        for text in [
            "169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1", "febf::1", "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "ff02::1", "fd00:ec2::254",
        ] {
            #expect(refuses(text) == true, "\(text)")
        }
        for text in [
            "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.253.1.1", "169.255.1.1", "8.8.8.8", "::1", "fec0::1", "fd00::1", "2001:db8::1",
        ] {
            #expect(refuses(text) == false, "\(text)")
        }
    }

    @Test(
        "No connection is made to a link-local address, however it is written",
        arguments: ["http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xA9FEA9FE/"]
            + (hasIPv6 ? ["http://[fe80::1]/", "http://[::ffff:169.254.169.254]/"] : []))
    func refused(url: String) async throws {
        let request = CurlRequest(
            url: url, sink: .nothing(limit: 10), connectTimeout: .seconds(3), stallTimeout: .seconds(3), timeout: .seconds(3),
            refusal: .linkLocal)
        let failure = await #expect(throws: CurlFailure.self) { try await CurlSession(parallelism: 1).perform(request) }
        guard case .refusedAddress = failure?.kind else {
            Issue.record("\(url): \(String(describing: failure))")
            return
        }
    }
}

/// What libcurl is asked for on behalf of webhooks. One after the other: the environment is everybody's.
@Suite(.serialized, .timeLimit(.minutes(1)))
struct WebhookRequestTests {
    private func ask(_ url: String, refusal: AddressRefusal? = .linkLocal) async throws -> CurlResponse {
        let request = CurlRequest(
            url: url, body: .init(Data("{}".utf8), type: "application/json"),
            headers: ["webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"], sink: .nothing(limit: 64 << 10),
            connectTimeout: .seconds(1), stallTimeout: .seconds(1), timeout: .seconds(1), refusal: refusal)
        return try await CurlSession(parallelism: 1).perform(request)
    }

    @Test("A receiver that has answered 200 has accepted it, whether the rest of its answer comes or not")
    func stalled() async throws {
        try await withFolder { folder in
            let receiver = try WebhookReceiver(in: folder)
            let answer = try await ask(receiver.url("/stalled"))
            #expect(answer.status == 200)
            // Without a status there is no answer.
            let failure = await #expect(throws: CurlFailure.self) { try await ask(receiver.url("/slow")) }
            guard case .timedOut = failure?.kind else {
                Issue.record("\(String(describing: failure))")
                return
            }
        }
    }

    @Test("No proxy connects where we have not looked")
    func proxy() async throws {
        try await withFolder { folder in
            let proxy = try WebhookReceiver(in: folder)
            setenv("https_proxy", proxy.url(""), 1)
            defer { unsetenv("https_proxy") }
            await #expect(throws: CurlFailure.self) { try await ask("https://169.254.169.254/", refusal: nil) }
            #expect(proxy.requests.map(\.path) == ["169.254.169.254:443"])
            let failure = await #expect(throws: CurlFailure.self) { try await ask("https://169.254.169.254/") }
            guard case .refusedAddress = failure?.kind else {
                Issue.record("\(String(describing: failure))")
                return
            }
            #expect(proxy.requests.count == 1)
        }
    }
}

struct WebhookPaceTests {
    @Test("One after the other, so far apart; who comes later has waited already")
    func pace() {
        let pace = WebhookPace(apart: .seconds(30))
        let now = ContinuousClock.now
        let turns = [0, 1, 2, 100, 101].map { pace.reserve(at: now + .seconds($0)) - now }
        #expect(turns == [.zero, .seconds(30), .seconds(60), .seconds(100), .seconds(130)])
    }
}

struct WebhookPlaceTests {
    @Test("In another ledger, or an older copy, reading goes on behind what was told: by the facts' times, not by their numbers")
    func places() async throws {
        try await withFolder { folder in
            let path = Ledger.file(in: folder).path
            let database = try DatabasePool(path: path)
            try LedgerSchema.migrator().migrate(database)
            let ledger = LedgerReader(path: path)
            func at(_ seconds: Double) -> Date { Date(timeIntervalSince1970: seconds) }
            func moved(_ sequence: Int64, _ seconds: Double) async throws -> LedgerPlace? {
                try await ledger.replacement(of: LedgerPlace(sequence: sequence, at: at(seconds)))
            }
            let empty = try await ledger.newestPlace(at: at(7))
            #expect(empty == LedgerPlace(sequence: 0, at: at(7)))
            #expect(try await moved(0, 7) == nil)
            try await database.write { db in
                for time in 1...10 {
                    try db.execute(
                        sql: "INSERT INTO fact (at, kind, run_id, data) VALUES (?, 'run.failed', 'r', '{}')",
                        arguments: [Double(time) + 0.123456])
                }
            }
            let newest = try await ledger.newestPlace(at: at(99))
            #expect(newest == LedgerPlace(sequence: 10, at: at(10.123456)))
            #expect(try await ledger.replacement(of: newest) == nil)
            // An older copy that has gone on: what happened since then has numbers that were told before.
            #expect(try await moved(10, 8.5) == LedgerPlace(sequence: 8, at: at(8.123456)))
            #expect(try await moved(50, 8.5)?.sequence == 8)
            // A new ledger, in which all is new.
            #expect(try await moved(50, 0.5) == LedgerPlace(sequence: 0, at: at(0.5)))
            // Before the first fact of all there was nothing, and there is nothing to look for.
            #expect(try await moved(0, 0.5) == nil)
            // A fact that retention has deleted says nothing.
            try await database.write { db in
                try db.execute(sql: "DELETE FROM fact WHERE seq = 3; UPDATE retention SET deleted_fact = 3")
            }
            #expect(try await moved(3, 99) == nil)
            let (endings, last) = try await ledger.endings(after: LedgerPlace(sequence: 3, at: at(3)), limit: 4)
            #expect(endings.isEmpty && last == LedgerPlace(sequence: 7, at: at(7.123456)))
            #expect(try await ledger.endings(after: newest).last == newest)
            // Nothing happened for longer than facts are kept, and then something did.
            try await database.write { db in
                try db.execute(
                    sql: """
                        DELETE FROM fact; UPDATE retention SET deleted_fact = 5000;
                        INSERT INTO fact (seq, at, kind, run_id, data) VALUES (5001, 50, 'run.failed', 'r', '{}')
                        """)
            }
            let far = try await ledger.endings(after: newest, limit: 4)
            #expect(far.last == LedgerPlace(sequence: 5001, at: at(50)))
            try await database.write { db in try db.execute(sql: "DELETE FROM fact; UPDATE retention SET deleted_fact = 5001") }
            #expect(try await ledger.endings(after: newest).last == newest)
            #expect(try await ledger.newestPlace(at: at(60)) == LedgerPlace(sequence: 5001, at: at(60)))
        }
    }
}

/// A monitor's parts that are about webhooks, on a ledger that is written through SQL.
private struct WebhookBench {
    static let factTime = 1060.5
    static let secret = "whsec_" + Data((0..<32).map { UInt8($0) }).base64EncodedString()

    let folder: URL
    let database: DatabasePool
    let store: MonitorStore
    let broker: PrivateBroker
    let vitals = WebhookVitals()
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(_ broker: PrivateBroker, in folder: URL) throws {
        self.broker = broker
        self.folder = folder
        database = try DatabasePool(path: Ledger.file(in: folder).path)
        try LedgerSchema.migrator().migrate(database)
        store = try MonitorStore(folder: folder)
    }

    /// - Parameter fact: what came up to this one is not told.
    func addWebhook(_ id: String, _ url: String, _ events: Set<WebhookEvent>, after fact: Int64 = 0) async throws {
        try await store.addWebhook(
            MonitorWebhook(
                id: id, name: id, url: url, events: events, secret: Self.secret, createdBy: "root", createdAt: Date(),
                place: LedgerPlace(sequence: fact, at: Date(timeIntervalSince1970: fact == 0 ? 0 : Self.factTime))))
    }

    func delivery(_ id: String, _ webhook: String, age: TimeInterval = 0) -> WebhookDelivery {
        WebhookDelivery(id: id, webhook: webhook, event: "run.failed", body: "{}", createdAt: Date().addingTimeInterval(-age))
    }

    /// A run with one job, ended, and its facts.
    func addRun(_ run: String, state: String, job: String, facts: [(kind: String, isOfJob: Bool)]) async throws {
        try await database.write { db in
            try db.execute(
                sql: """
                    INSERT INTO event (snapshot, server, level, resource_id, observed_at, received_at, series, refused, headers, modalities)
                    VALUES (?, 'orthanc', 'study', 'res-1', 0, 0, '[]', '{}', '{"PatientName": "DOE^JANE"}', '[]')
                    """, arguments: [run])
            try db.execute(
                sql: """
                    INSERT INTO run (id, event_seq, origin, dedupe_key, server, level, resource_id, state, reason, dcmpath, added_params,
                    created_at, finished_at)
                    VALUES (?, ?, 'event', ?, 'orthanc', 'study', 'res-1', ?, '{"code":"job-failed","text":"DOE^JANE"}', 'x', '{}', 1000, 1060)
                    """, arguments: [run, db.lastInsertedRowID, run, state])
            try db.execute(
                sql: """
                    INSERT INTO job (id, run_id, position, name, service, stage, channel, priority, definition, state, reason, attempt,
                    dispatch, token, crashes, failures, cancel_requested, started_at, finished_at, error)
                    VALUES (?, ?, 0, 'convert', 'dcm2nii', 'services', 'default', 2, '{}', ?, '{"code":"timeout","text":"DOE^JANE"}', 2, 1, 2,
                    0, 0, 0, 1001, 1050, '{"type":"X","message":"DOE^JANE"}')
                    """, arguments: ["\(run).0", run, job])
            for attempt in 1...2 {
                try db.execute(
                    sql: "INSERT INTO attempt (job_id, attempt, token, worker, claimed_at, exit, ended_at) VALUES (?, ?, ?, 'w', 1, ?, 2)",
                    arguments: ["\(run).0", attempt, attempt, "{\"kind\":\"\(attempt == 2 ? "timeout" : "exception")\"}"])
            }
        }
        for fact in facts { try await addFact(fact.kind, run, isOfJob: fact.isOfJob) }
    }

    func addFact(_ kind: String, _ run: String, isOfJob: Bool = false, at time: Double = factTime) async throws {
        try await database.write { db in
            try db.execute(
                sql: "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (?, ?, ?, ?, '{}')",
                arguments: [time, kind, run, isOfJob ? "\(run).0" : nil])
        }
    }

    /// One life of a monitor.
    ///
    /// - Parameter delivers: without it, nothing takes what waits on the broker.
    func live(
        delivers: Bool = true, schedule: WebhookSchedule, limits: WebhookCourier.Limits = .init(), patience: TimeInterval = 120,
        _ body: (WebhookQueue, AMQPClient) async throws -> Void
    ) async throws {
        let client = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: broker.amqpURL)], connectionName: "webhooks"),
            topology: PipelineTopology.monitor(), logger: logger)
        let ledger = LedgerReader(path: Ledger.file(in: folder).path)
        let feed = FactFeed(ledger: ledger, interval: .milliseconds(100), logger: logger)
        let queue = WebhookQueue(broker: client, schedule: schedule)
        let courier = WebhookCourier(store: store, queue: queue, vitals: vitals, limits: limits, logger: logger)
        let follower = WebhookFollower(
            ledger: ledger, store: store, feed: feed, queue: queue, vitals: vitals, address: "https://monitor.example", logger: logger,
            patience: patience
        ) { courier.serve($0) }
        let services: [any Service] = delivers ? [client, feed, courier, follower] : [client, feed, follower]
        let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: services, logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            do {
                try await client.waitUntilReady()
                try await body(queue, client)
            } catch {
                await group.triggerGracefulShutdown()
                throw error
            }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    func eventually(_ what: String, _ isTrue: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while ContinuousClock.now < deadline {
            if try await isTrue() { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("never: \(what)")
        throw CancellationError()
    }

    func deliveries(_ webhook: String) async throws -> [WebhookDelivery] {
        try await store.deliveries(of: webhook, limit: 100).items
    }
}

@Suite(.serialized, .timeLimit(.minutes(3)))
struct WebhookBrokerTests {
    private static let fast = WebhookSchedule(delays: [1, 1])

    @Test(
        "With a real broker and a receiver in Python: 500 then 200, over a restart of the monitor; every signature fits; each event comes once"
    )
    func delivered() async throws {
        try await PrivateBroker.withTemporary("dcm-webhooks") { broker in
            try await withFolder { folder in
                let bench = try WebhookBench(broker, in: folder)
                let receiver = try WebhookReceiver(
                    in: folder, secret: WebhookBench.secret,
                    answers: [
                        "/flaky": [500], "/gone": [410], "/moved": [301, 301, 301], "/dead": Array(repeating: 503, count: 20),
                        "/down": [503, 503],
                    ])
                try await restart(bench, receiver)
                try await changed(bench, receiver)
                try await ends(bench, receiver)
                try await fair(bench, receiver)
                try await neverLost(bench, receiver)
                try await notTaken(bench, receiver)
                try await refused(bench)
            }
        }
    }

    private func restart(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        // Without a webhook the broker hears nothing of it.
        try await bench.live(schedule: Self.fast) { _, client in
            try await bench.addRun("01RUNA", state: "failed", job: "dead", facts: [("job.dead", true), ("run.failed", false)])
            let error = await #expect(throws: AMQPError.self) { try await client.inspect(WebhookSchedule.queue(of: "flaky")) }
            #expect(error?.code == .notFound)
        }
        try await bench.addWebhook("flaky", receiver.url("/flaky"), [.runFailed, .jobDead])
        // The monitor goes after it has handed over, and before anything was delivered; the next fact comes while it is away.
        try await bench.live(delivers: false, schedule: Self.fast) { _, _ in
            try await bench.eventually("both facts are handed over") { try await bench.store.webhook("flaky")?.place.sequence == 2 }
        }
        #expect(receiver.requests.isEmpty)
        try await bench.addFact("run.succeeded", "01RUNA")
        try await bench.addFact("run.failed", "01RUNA")
        var limits = WebhookCourier.Limits()
        // One after the other: what comes behind the copies is taken when they have been.
        limits.atOnce = 1
        try await bench.live(schedule: Self.fast, limits: limits) { queue, _ in
            try await bench.eventually("three messages are accepted") { try await bench.store.webhook("flaky")?.delivered == 3 }
            // Handed over twice, as after a crash: sent once.
            for delivery in try await bench.deliveries("flaky") { try await queue.send(WebhookMessage(delivery)) }
            let first = try #require(try await bench.deliveries("flaky").last)
            var again = WebhookMessage(first)
            again.attempt = 1
            try await queue.send(again)
            let marker = bench.delivery("marker", "flaky")
            try await bench.store.queueDeliveries([marker])
            try await queue.send(WebhookMessage(marker))
            try await bench.eventually("the marker is accepted") { try await bench.store.delivery("marker")?.state == .delivered }
        }
        let requests = receiver.requests.filter { $0.id != "marker" }
        #expect(requests.count == 4, "\(requests.map { "\($0.id) \($0.status)" })")
        #expect(requests.allSatisfy { $0.fitting == 1 && $0.signatures == 1 && $0.type == "application/json" && $0.age < 60 })
        let failed = try #require(requests.first { $0.status == 500 })
        let second = try #require(requests.last { $0.id == failed.id })
        #expect(second.status == 200 && second.text == failed.text)
        let time = String(1_060_500, radix: 36)
        #expect(Set(requests.map(\.id)) == Set([1, 2, 4].map { "flaky_01RUNA_\($0)_\(time)" }))
        let dead = try #require(requests.first { $0.id.hasPrefix("flaky_01RUNA_1_") }).body
        #expect(dead["type"] == "job.dead" && dead["timestamp"] == "1970-01-01T00:17:40.500Z")
        #expect(dead["data"]?["runId"] == "01RUNA" && dead["data"]?["jobId"] == "01RUNA.0" && dead["data"]?["resourceId"] == "res-1")
        #expect(dead["data"]?["url"] == "https://monitor.example/runs/01RUNA")
        let job = try #require(dead["data"]?["jobs"]?.array?.first)
        #expect(job["service"] == "dcm2nii" && job["state"] == "dead" && job["reason"] == "timeout" && job["exit"] == "timeout")
        #expect(requests.allSatisfy { !$0.text.contains("DOE") })
        // What the receiver wrote is nowhere.
        let rows = try await bench.deliveries("flaky")
        #expect(rows.allSatisfy { $0.state == .delivered && $0.status == 200 && $0.problem == nil && $0.dueAt == nil })
        #expect(rows.map(\.attempt).sorted() == [1, 1, 1, 2])
    }

    /// While the monitor is away, somebody wants to be told of more: of that from then on, of the rest without a gap.
    private func changed(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        try await bench.addFact("run.cancelled", "01RUNA")
        try await bench.addFact("run.failed", "01RUNA")
        _ = try await bench.store.changeWebhook(
            "flaky", name: "flaky", url: receiver.url("/flaky"), events: [.runFailed, .jobDead, .runCancelled], from: 6)
        try await bench.live(schedule: Self.fast) { _, _ in
            try await bench.eventually("the failed one is told") { try await bench.store.webhook("flaky")?.delivered == 5 }
        }
        #expect(receiver.requests.last?.id.hasPrefix("flaky_01RUNA_6_") == true)
        #expect(!receiver.requests.contains { $0.text.contains("run.cancelled") })
    }

    private func ends(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        for name in ["gone", "moved", "dead"] { try await bench.addWebhook(name, receiver.url("/\(name)"), [.runCancelled], after: 6) }
        try await bench.addWebhook("local", "http://169.254.169.254/latest", [.runCancelled], after: 6)
        // Two that nobody has looked after for four days; one of them has much that waits, and so is never given up.
        let days = 4.0 * 86400
        try await bench.addWebhook("backlog", receiver.url("/dead"), [.jobDead], after: 6)
        for name in ["dead", "backlog"] {
            try await bench.store.queueDeliveries([bench.delivery("\(name)-old", name, age: days)])
            let failed = WebhookTry(.dead, attempt: 1, at: Date().addingTimeInterval(-days), status: 503, milliseconds: 1, problem: "No.")
            _ = try await bench.store.record(failed, of: "\(name)-old", round: 1)
        }
        let waiting = ["b-1", "b-2"].map { bench.delivery($0, "backlog", age: days) }
        try await bench.live(schedule: Self.fast) { queue, _ in
            try await bench.addFact("run.cancelled", "01RUNA")
            try await bench.store.queueDeliveries(waiting)
            try await queue.send(waiting.map { WebhookMessage($0) })
            try await bench.eventually("all four are given up") {
                for name in ["gone", "moved", "dead", "local"] {
                    guard try await bench.deliveries(name).first?.state == .dead else { return false }
                }
                return true
            }
            try await bench.eventually("two are disabled, and the one that wants no more") {
                try await bench.store.webhooks().filter { !$0.isEnabled }.map(\.name) == ["backlog", "dead", "gone"]
            }
            let gone = try #require(try await bench.store.webhook("gone"))
            #expect(gone.disabledBecause == "The receiver answered 410: it wants no more messages.")
            #expect(gone.failed == 1)
            for name in ["moved", "dead", "local"] {
                let webhook = try #require(try await bench.store.webhook(name))
                #expect(webhook.failed == (name == "dead" ? 4 : 3))
                #expect(webhook.disabledBecause == (name == "dead" ? "It has accepted nothing for 3 days." : nil))
                let row = try #require(try await bench.deliveries(name).first)
                #expect(row.attempt == 3 && row.dueAt == nil)
                #expect(row.status == ["moved": 301, "dead": 503][name])
                #expect(row.problem?.isEmpty == false && row.problem?.contains("DOE") == false)
            }
            #expect(try await bench.store.webhook("backlog")?.disabledBecause == "It has accepted nothing for 3 days.")
            let dropped = try await bench.store.deliveries(of: "backlog", states: [.cancelled], limit: 10).items.map(\.id)
            #expect(dropped == ["b-2", "b-1"])
            #expect(try await bench.deliveries("local").first?.problem?.contains("link-local") == true)
            #expect(!receiver.requests.contains { $0.path == "/elsewhere" })
            let audit = try await bench.store.audit(AuditFilter(action: "disable-webhook"), limit: 10).items
            #expect(audit.count == 3 && audit.allSatisfy { $0.entry.actor == "monitor" })
            // Somebody wants it once more, after the receiver's troubles.
            let row = try #require(try await bench.deliveries("moved").first)
            let again = try #require(try await bench.store.deliverAgain(row.id, of: "moved", at: Date()))
            try await queue.send(WebhookMessage(again))
            try await bench.eventually("it is accepted now") { try await bench.deliveries("moved").first?.state == .delivered }
            let round = try await bench.deliveries("moved").first?.round
            #expect(round == 2 && receiver.requests.contains { $0.id == row.id && $0.status == 200 })
        }
    }

    /// A slow receiver has twenty messages before another one's only one.
    private func fair(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        try await bench.addWebhook("slow", receiver.url("/slow"), [.runDeclined], after: 7)
        try await bench.addWebhook("quick", receiver.url("/quick"), [.runDeclined], after: 7)
        let messages = (0..<20).map { bench.delivery("slow-\($0)", "slow") } + [bench.delivery("quick-1", "quick")]
        try await bench.store.queueDeliveries(messages)
        try await bench.live(schedule: Self.fast) { queue, _ in
            try await queue.send(messages.map { WebhookMessage($0) })
            try await bench.eventually("the slow one has its first") { receiver.requests.contains { $0.path == "/slow" } }
            let begun = ContinuousClock.now
            try await bench.eventually("the quick one is told") { try await bench.store.delivery("quick-1")?.state == .delivered }
            #expect(ContinuousClock.now - begun < .seconds(2))
            let slow = receiver.requests.filter { $0.path == "/slow" }.count
            #expect(slow <= 4)
            // What somebody sends by hand is not the last one.
            let byHand = bench.delivery("slow-by-hand", "slow")
            try await bench.store.queueDeliveries([byHand])
            try await queue.send(WebhookMessage(byHand))
            try await bench.eventually("it is sent") { try await bench.store.delivery("slow-by-hand")?.state == .delivered }
            #expect(try await bench.store.webhook("slow")?.delivered ?? 0 < 20)
            try await bench.eventually("the slow one gets on") { try await bench.store.webhook("slow")?.delivered ?? 0 >= 5 }
            #expect(try await bench.store.webhook("slow")?.failed == 0)
        }
        try await bench.store.removeWebhook("slow")
    }

    private func neverLost(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        // On record, and nothing on the broker: as if that had lost its disk, or a dead-letter exchange its message.
        let lost = WebhookDelivery(
            id: "flaky_lost", webhook: "flaky", event: "run.failed", body: "{}", createdAt: Date().addingTimeInterval(-60))
        try await bench.store.queueDeliveries([lost])
        // And a ledger that is an older copy: its numbers are smaller, and what has happened since then is new.
        let ahead = LedgerPlace(sequence: 1_000_000, at: Date(timeIntervalSince1970: WebhookBench.factTime))
        _ = try await bench.store.moveWebhook("flaky", toOtherLedger: ahead)
        try await bench.addFact("run.failed", "01RUNA", at: 2000)
        try await bench.live(schedule: Self.fast, patience: 1) { _, client in
            try await bench.eventually("it is found and sent") { try await bench.store.delivery("flaky_lost")?.state == .delivered }
            try await bench.eventually("the reading goes on from where it was told") {
                try await bench.store.webhook("flaky")?.place == LedgerPlace(sequence: 8, at: Date(timeIntervalSince1970: 2000))
            }
            try await bench.eventually("what came after that is told") {
                receiver.requests.contains { $0.id.hasPrefix("flaky_01RUNA_8_") }
            }
            // What is no message of ours goes where people see it.
            let stray = AMQPPublishing(
                exchange: "", routingKey: WebhookSchedule.queue(of: "flaky"), properties: .pipeline(type: "dcm.other.v1"),
                body: Array("{}".utf8))
            try await client.publish(stray)
            try await bench.eventually("it is a dead letter") { try await client.inspect(PipelineQueue.dead).messages == 1 }
        }
        #expect(receiver.requests.filter { $0.id == "flaky_lost" }.count == 1)
    }

    /// A receiver that accepts nothing, and a broker that does not take what has to wait: the receiver is not told again and again.
    private func notTaken(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        try await bench.addWebhook("down", receiver.url("/down"), [], after: 8)
        let message = bench.delivery("down-1", "down")
        try await bench.store.queueDeliveries([message])
        try await bench.live(schedule: Self.fast) { queue, client in
            // Each webhook's lane declares the queue that is deleted here.
            for webhook in try await bench.store.webhooks() {
                _ = try await queue.depth(of: webhook.id)
                try await bench.eventually("\(webhook.name) is served") {
                    try await client.inspect(WebhookSchedule.queue(of: webhook.id)).consumers == 1
                }
            }
            try await bench.broker.rabbitmqctl("delete_queue", "--vhost", bench.broker.virtualHost, "dcm.webhooks.retry.1s.v1")
            try await queue.send(WebhookMessage(message))
            try await bench.eventually("the try is on record") { try await bench.store.delivery("down-1")?.attempt == 1 }
            try await bench.eventually("it is said") { bench.vitals.alarm(at: Date().addingTimeInterval(61)) != nil }
            #expect(bench.vitals.alarm(at: Date().addingTimeInterval(61))?.text.contains("was deleted") == true)
            let marker = bench.delivery("down-2", "down")
            try await bench.store.queueDeliveries([marker])
            try await queue.send(WebhookMessage(marker))
            try await bench.eventually("the next one is tried") { try await bench.store.delivery("down-2")?.attempt == 1 }
            #expect(receiver.requests.filter { $0.id == "down-1" }.count == 1)
        }
        // The next life declares the queue, and finds what never came to it.
        try await bench.live(schedule: Self.fast, patience: 1) { _, _ in
            try await bench.eventually("it is accepted in the end") { try await bench.store.webhook("down")?.delivered == 2 }
        }
        try await bench.store.removeWebhook("down")
    }

    /// A broker that refuses for good: nothing moves on, and people are told why.
    private func refused(_ bench: WebhookBench) async throws {
        try await bench.live(delivers: false, schedule: Self.fast) { _, client in
            let other = AMQPQueue(name: "dcm.webhooks.retry.7s.v1", arguments: ["x-queue-type": "classic"])
            try await client.declare(AMQPTopology(queues: [other]))
        }
        let left = bench.vitals.alarm(at: Date().addingTimeInterval(61))?.text
        #expect(left == nil)
        try await bench.addFact("run.failed", "01RUNA", at: 2001)
        try await bench.live(schedule: WebhookSchedule(delays: [7])) { _, _ in
            try await bench.eventually("it is said") {
                let alarm = bench.vitals.alarm(at: Date().addingTimeInterval(61))
                return alarm?.text.contains("exists with other properties") == true
            }
        }
        #expect(try await bench.store.webhook("flaky")?.place.sequence == 8)
    }
}
