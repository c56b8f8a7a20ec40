import AMQP
import Accounts
import Curl
import Dashboard
import Foundation
import GRDB
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Stack
import Testing

@testable import JobStore
@testable import Monitor

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
        let names = schedule.topology.queues.map(\.name)
        #expect(
            names == [
                "dcm.webhooks.v1", "dcm.webhooks.retry.10s.v1", "dcm.webhooks.retry.1m.v1", "dcm.webhooks.retry.10m.v1",
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

/// A monitor's parts that are about webhooks, on a ledger that is written through SQL.
private struct WebhookBench {
    static let secret = "whsec_" + Data((0..<32).map { UInt8($0) }).base64EncodedString()

    let folder: URL
    let database: DatabasePool
    let store: MonitorStore
    let broker: PrivateBroker
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(_ broker: PrivateBroker, in folder: URL) throws {
        self.broker = broker
        self.folder = folder
        database = try DatabasePool(path: Ledger.file(in: folder).path)
        try LedgerSchema.migrator().migrate(database)
        store = try MonitorStore(folder: folder)
    }

    func addWebhook(_ id: String, _ url: String, _ events: Set<WebhookEvent> = WebhookEvent.standard) async throws {
        try await store.addWebhook(
            MonitorWebhook(id: id, name: id, url: url, events: events, secret: Self.secret, createdBy: "root", createdAt: Date(), fact: 0))
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

    func addFact(_ kind: String, _ run: String, isOfJob: Bool = false) async throws {
        try await database.write { db in
            try db.execute(
                sql: "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (1060.5, ?, ?, ?, '{}')",
                arguments: [kind, run, isOfJob ? "\(run).0" : nil])
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
        let courier = WebhookCourier(store: store, queue: queue, limits: limits, logger: logger)
        let follower = WebhookFollower(
            ledger: ledger, store: store, feed: feed, queue: queue, address: "https://monitor.example", logger: logger, patience: patience
        ) { courier.start() }
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
            let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-webhooks-state-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let bench = try WebhookBench(broker, in: folder)
            let receiver = try WebhookReceiver(
                in: folder, secret: WebhookBench.secret,
                answers: [
                    "/flaky": [500], "/gone": [410], "/moved": [301, 301, 301], "/dead": Array(repeating: 503, count: 20),
                ])
            try await restart(bench, receiver)
            try await ends(bench, receiver)
            try await neverLost(bench, receiver)
        }
    }

    private func restart(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        // Without a webhook the broker hears nothing of it.
        try await bench.live(schedule: Self.fast) { _, client in
            try await bench.addRun("01RUNA", state: "failed", job: "dead", facts: [("job.dead", true), ("run.failed", false)])
            let error = await #expect(throws: AMQPError.self) { try await client.inspect(WebhookSchedule.queue) }
            #expect(error?.code == .notFound)
        }
        try await bench.addWebhook("flaky", receiver.url("/flaky"), [.runFailed, .jobDead])
        // The monitor goes after it has handed over, and before anything was delivered; the next fact comes while it is away.
        try await bench.live(delivers: false, schedule: Self.fast) { _, _ in
            try await bench.eventually("both facts are handed over") { try await bench.store.webhook("flaky")?.fact == 2 }
        }
        #expect(receiver.requests.isEmpty)
        try await bench.addFact("run.succeeded", "01RUNA")
        try await bench.addFact("run.failed", "01RUNA")
        try await bench.live(schedule: Self.fast) { queue, _ in
            try await bench.eventually("three messages are accepted") { try await bench.store.webhook("flaky")?.delivered == 3 }
            // Handed over twice, as after a crash: sent once.
            for delivery in try await bench.deliveries("flaky") { try await queue.send(WebhookMessage(delivery)) }
            let first = try #require(try await bench.deliveries("flaky").last)
            var again = WebhookMessage(first)
            again.attempt = 1
            try await queue.send(again)
            try await bench.eventually("nothing waits") { try await queue.depth() == 0 }
        }
        let requests = receiver.requests
        #expect(requests.count == 4, "\(requests.map { "\($0.id) \($0.status)" })")
        #expect(requests.allSatisfy { $0.fitting == 1 && $0.signatures == 1 && $0.type == "application/json" && $0.age < 60 })
        let failed = try #require(requests.first { $0.status == 500 })
        let second = try #require(requests.last { $0.id == failed.id })
        #expect(second.status == 200 && second.text == failed.text)
        #expect(Set(requests.map(\.id)) == ["flaky_01RUNA_1", "flaky_01RUNA_2", "flaky_01RUNA_4"])
        let dead = try #require(requests.first { $0.id == "flaky_01RUNA_1" }).body
        #expect(dead["type"] == "job.dead" && dead["timestamp"] == "1970-01-01T00:17:40.500Z")
        #expect(dead["data"]?["runId"] == "01RUNA" && dead["data"]?["jobId"] == "01RUNA.0" && dead["data"]?["resourceId"] == "res-1")
        #expect(dead["data"]?["url"] == "https://monitor.example/runs/01RUNA")
        let job = try #require(dead["data"]?["jobs"]?.array?.first)
        #expect(job["service"] == "dcm2nii" && job["state"] == "dead" && job["reason"] == "timeout" && job["exit"] == "timeout")
        #expect(requests.allSatisfy { !$0.text.contains("DOE") })
        // What the receiver wrote is nowhere.
        let rows = try await bench.deliveries("flaky")
        #expect(rows.allSatisfy { $0.state == .delivered && $0.status == 200 && $0.problem == nil && $0.dueAt == nil })
        #expect(rows.map(\.attempt).sorted() == [1, 1, 2])
    }

    private func ends(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        for name in ["gone", "moved", "dead"] { try await bench.addWebhook(name, receiver.url("/\(name)"), [.runCancelled]) }
        try await bench.addWebhook("local", "http://169.254.169.254/latest", [.runCancelled])
        var limits = WebhookCourier.Limits()
        limits.endurance = 0
        try await bench.live(schedule: Self.fast, limits: limits) { queue, _ in
            try await bench.addFact("run.cancelled", "01RUNA")
            try await bench.eventually("all four are given up") {
                try await bench.store.webhooks().filter { $0.name != "flaky" }.allSatisfy { $0.dead == 1 && !$0.isEnabled }
            }
            let gone = try #require(try await bench.store.webhook("gone"))
            #expect(gone.disabledBecause == "The receiver answered 410: it wants no more messages.")
            #expect(gone.failed == 1)
            for name in ["moved", "dead", "local"] {
                let webhook = try #require(try await bench.store.webhook(name))
                #expect(
                    webhook.failed == 3 && webhook.failures == 3 && webhook.disabledBecause?.hasPrefix("It has accepted nothing") == true)
                let row = try #require(try await bench.deliveries(name).first)
                #expect(row.state == .dead && row.attempt == 3 && row.dueAt == nil)
                #expect(row.status == ["moved": 301, "dead": 503][name])
                #expect(row.problem?.isEmpty == false && row.problem?.contains("DOE") == false)
            }
            #expect(try await bench.deliveries("local").first?.problem?.contains("link-local") == true)
            #expect(!receiver.requests.contains { $0.path == "/elsewhere" })
            let audit = try await bench.store.audit(AuditFilter(action: "disable-webhook"), limit: 10).items
            #expect(audit.count == 4 && audit.allSatisfy { $0.entry.actor == "monitor" })
            // Somebody wants it once more, after the receiver's troubles.
            _ = try await bench.store.enableWebhook("moved", from: 5)
            let row = try #require(try await bench.deliveries("moved").first)
            let again = try #require(try await bench.store.deliverAgain(row.id, of: "moved", at: Date()))
            try await queue.send(WebhookMessage(again))
            try await bench.eventually("it is accepted now") { try await bench.deliveries("moved").first?.state == .delivered }
            let round = try await bench.deliveries("moved").first?.round
            #expect(round == 2 && receiver.requests.last?.id == row.id)
            // What comes for a webhook that is disabled is dropped, and said to be.
            let dropped = WebhookDelivery(id: "gone_late", webhook: "gone", event: "run.failed", body: "{}", createdAt: Date())
            try await bench.store.queueDeliveries([dropped])
            try await queue.send(WebhookMessage(dropped))
            try await bench.eventually("it is dropped") { try await bench.store.delivery("gone_late")?.state == .cancelled }
        }
    }

    private func neverLost(_ bench: WebhookBench, _ receiver: WebhookReceiver) async throws {
        // On record, and nothing on the broker: as if that had lost its disk, or a dead-letter exchange its message.
        let lost = WebhookDelivery(
            id: "flaky_lost", webhook: "flaky", event: "run.failed", body: "{}", createdAt: Date().addingTimeInterval(-60))
        try await bench.store.queueDeliveries([lost])
        // And a ledger that is an older copy: the facts' numbers begin again.
        try await bench.store.moveWebhook("flaky", to: 1_000_000)
        try await bench.live(schedule: Self.fast, patience: 1) { _, client in
            try await bench.eventually("it is found and sent") { try await bench.store.delivery("flaky_lost")?.state == .delivered }
            try await bench.eventually("the reading goes on from the ledger's end") { try await bench.store.webhook("flaky")?.fact == 5 }
            // What is no message of ours goes where people see it.
            let stray = AMQPPublishing(
                exchange: "", routingKey: WebhookSchedule.queue, properties: .pipeline(type: "dcm.other.v1"), body: Array("{}".utf8))
            try await client.publish(stray)
            try await bench.eventually("it is a dead letter") { try await client.inspect(PipelineQueue.dead).messages == 1 }
        }
        #expect(receiver.requests.filter { $0.id == "flaky_lost" }.count == 1)
    }
}
