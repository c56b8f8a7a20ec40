import Accounts
import Foundation
import Jobs
import Testing

@testable import Dashboard
@testable import JobStore

extension RunningDashboard {
    /// The header of a program with this role.
    func bearer(_ role: AccountRole) async throws -> [String: String] {
        let (id, token) = SecretText.makeToken()
        try await store.addToken(
            MonitorToken(id: id, name: "t-\(id.lowercased())", role: role, createdBy: "test", createdAt: Date()),
            hash: SecretText.digest(token))
        return ["Authorization": "Bearer \(token)"]
    }
}

@Suite(.timeLimit(.minutes(2)))
struct WebhookTests {
    private static let url = "https://ris.example.org/hooks/dcm?key=in-the-address"

    @Test(
        "A webhook's life through the API: added, changed, tested, given another secret, removed; the secret is said once; all is audited")
    func api() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("root", .admin)
            let admin = try await dashboard.bearer(.admin)
            func ask(_ method: String, _ path: String, _ body: JSONValue? = nil) async throws -> Answer {
                try await dashboard.send(
                    method, "/api/v1/webhooks\(path)", headers: admin.merging(["Content-Type": "application/json"]) { $1 },
                    body: body?.encoded())
            }
            let added = try await ask("POST", "", ["name": "RIS", "url": .string(Self.url), "events": ["run.failed"]])
            #expect(added.status == 201)
            let id = try #require(try added.json["id"]?.string)
            let secret = try #require(try added.json["secret"]?.string)
            #expect(secret.hasPrefix("whsec_") && Data(base64Encoded: String(secret.dropFirst(6)))?.count == 32)
            // It begins with what happens from now on.
            let start = try await dashboard.store.webhook(id)?.place.sequence
            let newest = try await LedgerReader(path: sample.path).latestFact()
            #expect(start == newest && newest > 0)
            for (body, word): (JSONValue, String) in [
                (["name": "ris", "url": "https://a.example"], "already"), (["name": "a"], "url is missing"),
                (["name": "a", "url": "ftp://a.example"], "https://"), (["name": "a", "url": "https://u:p@a.example"], "no user"),
                (["name": "a", "url": "http://169.254.169.254/latest"], "link-local"),
                (["name": "a", "url": "http://[fe80::1]/"], "link-local"),
                (["name": "a", "url": "https://a.example/#b"], "'#'"), (["name": "a\u{202E}", "url": "https://a.example"], "control"),
                (["name": "a", "url": "https://a.example", "events": []], "at least one"),
                (["name": "a", "url": "https://a.example", "events": ["run.lost"]], "run.succeeded"),
                (["name": "a", "url": "https://a.example", "secret": "mine"], "secret"), ([1], "object"),
            ] {
                let refused = try await ask("POST", "", body)
                #expect(refused.status == 400 && refused.text.contains(word), "\(body.text): \(refused.text)")
            }
            let changed = try await ask("PATCH", "/\(id)", ["events": ["job.dead", "run.declined"]])
            #expect(changed.status == 200)
            #expect(try changed.json["events"] == ["run.declined", "job.dead"] && changed.json["name"] == "RIS")
            let rotated = try await ask("POST", "/\(id)/secret")
            #expect(rotated.status == 200)
            let new = try #require(try rotated.json["secret"]?.string)
            let webhook = try #require(try await dashboard.store.webhook(id))
            #expect(new != secret && webhook.secrets(at: Date()) == [new, secret])
            #expect(webhook.secrets(at: Date().addingTimeInterval(WebhookDesk.rotation + 1)) == [new])
            // The receiver may still have the first one only: a third would shut it out.
            let third = try await ask("POST", "/\(id)/secret")
            #expect(third.status == 409 && third.text.contains("add it again"))
            #expect(try await dashboard.store.webhook(id)?.secret == new)
            // What changes nothing is no news in the audit.
            #expect(try await ask("PATCH", "/\(id)", ["name": "RIS", "enabled": true]).status == 200)
            let test = try await ask("POST", "/\(id)/test")
            let delivery = try #require(try test.json["id"]?.string)
            #expect(test.status == 202)
            #expect(try test.json["state"] == "queued" && test.json["event"] == "webhook.test")
            // It is on its way: another round would send it twice.
            #expect(try await ask("POST", "/\(id)/deliveries/\(delivery)/retry").status == 409)
            #expect(try await dashboard.store.delivery(delivery)?.round == 1)
            _ = try await dashboard.store.record(
                WebhookTry(.dead, attempt: 1, at: Date(), status: 503, milliseconds: 12, problem: "It did not accept the message."),
                of: delivery, round: 1)
            let listed = try await ask("GET", "/\(id)/deliveries?state=dead")
            #expect(try listed.json["deliveries"]?.array?.map { $0["status"] } == [503])
            #expect(try await ask("GET", "/\(id)/deliveries?state=lost").status == 400)
            #expect(try await ask("POST", "/\(id)/deliveries/\(delivery)/retry").json["state"] == "queued")
            #expect(try await dashboard.store.delivery(delivery)?.round == 2)
            #expect(try await ask("PATCH", "/\(id)", ["enabled": false]).json["state"] == "disabled")
            #expect(try await dashboard.store.delivery(delivery)?.state == .cancelled)
            for path in ["test", "deliveries/\(delivery)/retry"] {
                #expect(try await ask("POST", "/\(id)/\(path)").status == 409, "\(path)")
            }
            #expect(try await ask("PATCH", "/\(id)", ["enabled": true]).json["state"] == "ok")
            for (method, path) in [
                ("GET", "/none"), ("PATCH", "/none"), ("DELETE", "/none"), ("POST", "/none/test"), ("GET", "/none/deliveries"),
            ] {
                #expect(try await ask(method, path, method == "PATCH" ? [:] : nil).status == 404, "\(method) \(path)")
            }
            #expect(try await ask("POST", "/\(id)/deliveries/none/retry").status == 404)
            let all = try await ask("GET", "")
            #expect(!all.text.contains("whsec_"))
            #expect(try all.json["webhooks"]?.array?.count == 1)
            #expect(try await ask("DELETE", "/\(id)").status == 200)
            #expect(try await ask("GET", "").json["webhooks"] == [])
            let gone = try await dashboard.store.delivery(delivery)
            #expect(gone == nil)
            let audit = try await dashboard.store.audit(AuditFilter(target: id), limit: 50).items.map(\.entry)
            #expect(
                audit.reversed().map(\.action) == [
                    "add-webhook", "change-webhook", "rotate-webhook-secret", "test-webhook", "redeliver-webhook", "disable-webhook",
                    "enable-webhook", "remove-webhook",
                ])
            #expect(audit.allSatisfy { !$0.detail.text.contains("whsec_") && !$0.detail.text.contains("in-the-address") })
            #expect(!hospital.failed.isEmpty)
        }
    }

    @Test("Admins manage webhooks on a page; the secret is on one answer alone; what was typed stays when it is refused")
    func pages() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("root", .admin)
            try await dashboard.addUser("otto", .operator)
            let cookie = try await dashboard.signIn("root").cookie
            func post(_ path: String, _ fields: [String: String] = [:]) async throws -> Answer {
                try await dashboard.post(path, fields, as: cookie, page: "/webhooks")
            }
            func page(_ path: String) async throws -> String { try await dashboard.get(path, headers: ["Cookie": cookie]).text }
            #expect(try await page("/webhooks").contains("Nobody yet."))
            let refused = try await post("/webhooks", ["name": "RIS", "url": "ris.example", "event-run.failed": "on"])
            #expect(refused.status == 422 && refused.text.contains("value=\"ris.example\"") && refused.text.contains("role=\"alert\""))
            let added = try await post("/webhooks", ["name": "RIS", "url": Self.url, "event-run.failed": "on", "event-job.dead": "on"])
            #expect(added.status == 200)
            let webhook = try #require(try await dashboard.store.webhooks().first)
            #expect(webhook.events == [.runFailed, .jobDead] && added.text.contains(webhook.secret))
            let path = "/webhooks/\(webhook.id)"
            #expect(try await !page(path).contains("whsec_"))
            let list = try await page("/webhooks")
            #expect(list.contains("href=\"\(path)\"") && !list.contains("whsec_") && !list.contains("in-the-address"))
            #expect(try await post("\(path)/test").status == 303)
            let delivery = try #require(try await dashboard.store.deliveries(of: webhook.id, limit: 10).items.first)
            #expect(try await page(path).contains("on its way"))
            // A real one that was given up.
            try await dashboard.store.queueDeliveries([
                WebhookDelivery(
                    id: "d-1", webhook: webhook.id, event: "run.failed", run: hospital.failed, body: "{\"type\":\"run.failed\"}",
                    createdAt: Date())
            ])
            _ = try await dashboard.store.record(
                WebhookTry(.dead, attempt: 1, at: Date(), status: 500, milliseconds: 3, problem: "It did not accept the message."),
                of: "d-1",
                round: 1)
            let shown = try await page(path)
            #expect(shown.contains("given up") && shown.contains("/runs/\(hospital.failed)") && shown.contains("/deliveries/d-1/again"))
            // What is on its way is not sent again from here.
            #expect(!shown.contains("/deliveries/\(delivery.id)/again"))
            let onlyDead = try await page("\(path)?state=dead")
            #expect(onlyDead.contains("d-1") && !onlyDead.contains(delivery.id))
            #expect(HTMLCheck(shown).problems.isEmpty && HTMLCheck(list).problems.isEmpty && HTMLCheck(added.text).problems.isEmpty)
            #expect(try await post("\(path)/deliveries/d-1/again").status == 303)
            #expect(try await dashboard.store.delivery("d-1")?.state == .queued)
            let saved = try await post(path, ["name": "PACS", "url": "http://pacs.example", "event-run.succeeded": "on"])
            #expect(saved.status == 303)
            #expect(try await page(path).contains("Not encrypted"))
            let rotated = try await post("\(path)/secret")
            let secret = try #require(try await dashboard.store.webhook(webhook.id)?.secret)
            #expect(rotated.status == 200 && rotated.text.contains(secret) && secret != webhook.secret)
            #expect(try await !page(path).contains("\(path)/secret"))
            #expect(try await post("\(path)/secret").status == 409)
            // The monitor gave it up: everybody sees that, nobody but admins sees where it is.
            _ = try await dashboard.store.disableWebhook(webhook.id, because: "It has accepted nothing for 3 days.")
            let otto = try await dashboard.signIn("otto").cookie
            let overview = try await dashboard.get("/", headers: ["Cookie": otto]).text
            #expect(
                overview.contains("Webhook PACS is disabled. It has accepted nothing for 3 days.") && !overview.contains("pacs.example"))
            #expect(try await dashboard.get("/webhooks", headers: ["Cookie": otto]).status == 403)
            #expect(try await post("\(path)/enable").status == 303)
            #expect(try await !page("/").contains("Webhook PACS"))
            #expect(try await post("\(path)/remove").status == 303)
            #expect(try await page("/webhooks?done=remove").contains("The webhook is removed."))
        }
    }

    @Test("Hostile text stays text on these pages too")
    func hostile() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let attack = HostileTextTests.attack
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("root", .admin)
            let cookie = try await dashboard.signIn("root").cookie
            try await dashboard.store.addWebhook(
                MonitorWebhook(
                    id: "w", name: "mark-name-" + attack, url: "https://a.example/mark-url-" + attack, events: [.runFailed], secret: "x",
                    createdBy: "mark-by-" + attack, createdAt: sample.now, place: .start))
            try await dashboard.store.queueDeliveries([
                WebhookDelivery(
                    id: "mark-id-" + attack, webhook: "w", event: "mark-event-" + attack, run: "mark-run-" + attack,
                    job: "mark-job-" + attack, body: "mark-body-" + attack, createdAt: sample.now)
            ])
            _ = try await dashboard.store.record(
                .init(.dead, attempt: 1, at: sample.now, status: 500, milliseconds: 1, problem: "mark-problem-" + attack),
                of: "mark-id-" + attack, round: 1)
            _ = try await dashboard.store.disableWebhook("w", because: "mark-because-" + attack)
            let query = attack.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
            var seen = ""
            for path in ["/webhooks", "/webhooks/w", "/webhooks/w?done=\(query)&state=\(query)&cursor=\(query)", "/webhooks/\(query)"] {
                let page = try await dashboard.get(path, headers: ["Cookie": cookie])
                #expect(page.status < 500)
                let problems = HTMLCheck(page.text).problems
                #expect(problems.isEmpty, "\(path.prefix(40)): \(problems)")
                #expect(!page.text.contains("<script>alert") && !page.text.unicodeScalars.contains("\u{202E}"))
                seen += page.text
            }
            for name in ["name", "url", "by", "id", "event", "run", "job", "body", "problem", "because"] {
                #expect(seen.contains("mark-\(name)-"), "\(name)")
            }
            let answer = try await dashboard.get("/api/v1/webhooks/w/deliveries", headers: ["Cookie": cookie])
            #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: answer.data) }
        }
    }

    @Test("The metrics count tries, what was given up and what waits")
    func metrics() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            #expect(try await !dashboard.get("/metrics").text.contains("\ndcm_webhook"))
            let now = Date()
            try await dashboard.store.addWebhook(
                MonitorWebhook(
                    id: "w", name: "RIS \"1\"", url: Self.url, events: [.runFailed], secret: "whsec_x", createdBy: "root", createdAt: now,
                    place: .start))
            let deliveries = (0..<3).map {
                WebhookDelivery(id: "d\($0)", webhook: "w", event: "run.failed", body: "{}", createdAt: now.addingTimeInterval(-100))
            }
            try await dashboard.store.queueDeliveries(deliveries)
            // Handed over again, it is the same one.
            try await dashboard.store.queueDeliveries(deliveries)
            _ = try await dashboard.store.record(.init(.dead, attempt: 1, at: now, status: nil, milliseconds: 1), of: "d0", round: 1)
            _ = try await dashboard.store.record(.init(.delivered, attempt: 1, at: now, status: 200, milliseconds: 1), of: "d1", round: 1)
            // Late news of a try that is over counts nothing.
            let late = try await dashboard.store.record(.init(.dead, attempt: 1, at: now, status: 500, milliseconds: 1), of: "d1", round: 1)
            #expect(late == nil)
            let text = try await dashboard.get("/metrics").text
            for line in [
                #"dcm_webhook_tries_total{outcome="delivered",webhook="RIS \"1\""} 1"#, #"dcm_webhook_waiting{webhook="RIS \"1\""} 1"#,
                #"dcm_webhook_tries_total{outcome="failed",webhook="RIS \"1\""} 1"#, #"dcm_webhook_dead_total{webhook="RIS \"1\""} 1"#,
            ] {
                #expect(text.contains(line), "\(line)")
            }
            let age = try #require(text.firstMatch(of: /dcm_webhook_oldest_waiting_seconds\{[^}]*\} ([0-9.]+)/)?.output.1)
            #expect((99...200).contains(Double(age) ?? 0))
        }
    }

    @Test("What keeps webhooks from being told anything is at the head of every page, once it lasts")
    func trouble() async throws {
        let vitals = WebhookVitals()
        let now = Date()
        #expect(vitals.note(.handingOver, "RabbitMQ refuses them.", at: now))
        #expect(!vitals.note(.handingOver, "RabbitMQ refuses them.", at: now.addingTimeInterval(30)))
        #expect(vitals.alarm(at: now.addingTimeInterval(59)) == nil)
        let alarm = try #require(vitals.alarm(at: now.addingTimeInterval(61)))
        #expect(alarm.text.hasSuffix("RabbitMQ refuses them.") && alarm.isError)
        vitals.noteSuccess(.delivering("w"))
        #expect(vitals.alarm(at: now.addingTimeInterval(61)) != nil)
        vitals.noteSuccess(.handingOver)
        #expect(vitals.alarm(at: now.addingTimeInterval(61)) == nil)
    }

    private struct Bench {
        let sample: SampleLedger
        let store: MonitorStore
        let now = Date()

        init(_ events: Set<WebhookEvent> = [.runFailed]) async throws {
            sample = try SampleLedger()
            store = try MonitorStore(folder: sample.folder.appending(path: "state"))
            try await store.addWebhook(
                MonitorWebhook(
                    id: "w", name: "w", url: "https://a.example", events: events, secret: "x", createdBy: "root", createdAt: now,
                    place: LedgerPlace(sequence: 10, at: now)))
        }

        func queue(_ ids: some Sequence<String>) async throws {
            try await store.queueDeliveries(
                ids.map { WebhookDelivery(id: $0, webhook: "w", event: "run.failed", body: "{}", createdAt: now) })
        }

        func end(_ id: String, _ state: WebhookDelivery.State) async throws -> MonitorWebhook? {
            try await store.record(.init(state, attempt: 1, at: now, status: 200, milliseconds: 1), of: id, round: 1)
        }

        func ids(_ states: WebhookDelivery.State...) async throws -> [String] {
            try await store.deliveries(of: "w", states: states, limit: 2000).items.map(\.id)
        }
    }

    @Test("So many accepted deliveries are kept, and as many that were given up, by when they ended; those that wait are kept all")
    func kept() async throws {
        let bench = try await Bench()
        let kept = MonitorStore.deliveriesKept
        let waiting = (0..<kept + 20).map { "w\($0)" }
        let dead = (0..<30).map { "x\($0)" }
        let delivered = (0..<kept + 5).map { "d\($0)" }
        // Those that are tried for hours have lower numbers than what came later and ended at once.
        try await bench.queue(dead + waiting + delivered)
        for id in delivered { _ = try await bench.end(id, .delivered) }
        for id in dead { _ = try await bench.end(id, .dead) }
        #expect(try await bench.ids(.queued).count == waiting.count)
        #expect(try await bench.ids(.dead) == dead.reversed())
        #expect(try await bench.ids(.delivered) == delivered.dropFirst(5).reversed())
        // One that ends late is not the oldest because it began first.
        _ = try await bench.end("w0", .delivered)
        #expect(try await bench.ids(.delivered).last == "w0")
        #expect(try await bench.ids(.delivered).count == kept)
    }

    @Test("A webhook that is disabled has nothing that waits, whatever was under way")
    func disabled() async throws {
        let bench = try await Bench()
        try await bench.queue(["a", "b", "c", "d"])
        _ = try await bench.end("a", .delivered)
        let audit = AuditEntry(actor: "monitor", action: "disable-webhook", target: .init("webhook", "w"))
        // Its address was changed while the old one answered 410.
        let other = try await bench.store.disableWebhook("w", because: "410", ifStillAt: "https://b.example", audit: audit)
        #expect(other.isEnabled)
        let off = try await bench.store.disableWebhook("w", because: "410", ifStillAt: "https://a.example", audit: audit)
        #expect(!off.isEnabled && off.disabledBecause == "410")
        #expect(try await bench.ids(.cancelled) == ["d", "c", "b"])
        _ = try await bench.store.disableWebhook("w", because: "again", audit: audit)
        #expect(try await bench.store.audit(AuditFilter(), limit: 10).items.count == 1)
        // A try that was under way: that it failed brings nothing back, that it was accepted is true.
        let failed = try await bench.end("b", .retrying)
        let accepted = try await bench.end("c", .delivered)
        #expect(failed == nil && accepted?.delivered == 2)
        #expect(try await bench.ids(.cancelled) == ["d", "b"])
        #expect(try await bench.ids(.queued, .retrying) == [])
        try await bench.queue(["e"])
        let again = try await bench.store.deliverAgain("d", of: "w", at: bench.now)
        #expect(again == nil)
        #expect(try await bench.store.delivery("e") == nil)
    }

    @Test("What a webhook is told of anew begins now, and nothing that it was told of before is left out")
    func changed() async throws {
        let bench = try await Bench([.runFailed, .jobDead])
        let webhook = try await bench.store.changeWebhook(
            "w", name: "w", url: "https://a.example", events: [.runFailed, .runCancelled], from: 20)
        func ending(_ event: WebhookEvent, _ sequence: Int64) -> LedgerEnding {
            LedgerEnding(
                sequence: sequence, at: bench.now, event: event, run: "r", level: "study", resourceID: "x", server: "o",
                createdAt: bench.now, state: "failed", jobs: [])
        }
        // The broker was behind: facts 11 to 20 are not handed over yet.
        let told = (10...21).filter { webhook.wants(ending(.runFailed, $0)) }
        #expect(told == Array(11...21))
        #expect((10...21).filter { webhook.wants(ending(.runCancelled, $0)) } == [21])
        #expect((10...21).filter { webhook.wants(ending(.jobDead, $0)) } == [])
        // Who reads on does not put it back before the place from which it was enabled again.
        _ = try await bench.store.disableWebhook("w")
        _ = try await bench.store.enableWebhook("w", from: LedgerPlace(sequence: 30, at: bench.now))
        try await bench.store.moveWebhooks(["w"], to: LedgerPlace(sequence: 25, at: bench.now))
        #expect(try await bench.store.webhook("w")?.place.sequence == 30)
        let other = try await bench.store.moveWebhook("w", toOtherLedger: LedgerPlace(sequence: 5, at: bench.now))
        #expect((1...8).filter { other.wants(ending(.runCancelled, $0)) } == [6, 7, 8])
    }
}
