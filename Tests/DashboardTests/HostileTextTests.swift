import Foundation
import GRDB
import JobStore
import Jobs
import Testing

@testable import Dashboard

/// Text of images, services, workers and people in every place where a page or an answer shows it.
@Suite(.timeLimit(.minutes(2)))
struct HostileTextTests {
    /// A quotation mark with an accent over it, tags, entities, template tags, control characters, a turned direction, 10 kB.
    static let attack =
        "\"\u{301}'><script>alert(1)</script><img src=x onerror=alert(2)>&lt;&#x3c;{{page.id}}{{{csrf}}}{{>frame}}</pre></title>"
        + "]]>\u{0}\u{1B}[31m\u{7}\u{202E}\u{2067}\r\ndata: x\n\nevent: reset"

    /// One for each place, so that each can be found again.
    private final class Places {
        private(set) var names: [String] = []

        func text(_ name: String, isLong: Bool = false) -> String {
            names.append(name)
            return "mark-\(name)-" + attack + (isLong ? String(repeating: "long ", count: 2000) : "")
        }
    }

    private struct Planted {
        var run: String
        var filtered: String
        var places: [String]
    }

    private static func plant(_ sample: SampleLedger) async throws -> Planted {
        let places = Places()
        let worker = "mark-worker-<b>\"'&{{page.id}}\u{202E}"
        try sample.addWorker(worker, channels: [places.text("workerchannel")])
        try sample.addWorker("calm", channels: ["default"])
        try sample.write { db in try db.execute(sql: "UPDATE worker SET host = ?", arguments: [places.text("host")]) }
        let service = places.text("service")
        try sample.addService(
            service,
            jobs: [
                JobDefinition(
                    name: places.text("definitionname"), service: service, stage: .services, entry: places.text("definitionentry"),
                    channel: "default")
            ],
            problems: [
                [
                    "severity": "error", "file": .string(places.text("problemfile")), "entry": .string(places.text("problementry")),
                    "key": .string(places.text("problemkey")), "message": .string(places.text("problemmessage")),
                    "value": .string(places.text("problemvalue")), "allowed": .string(places.text("problemallowed")),
                    "nearest": .string(places.text("problemnearest")),
                ]
            ])
        try sample.addDeadMessage(queue: places.text("deadqueue"), reason: places.text("deadreason"))
        try sample.write { db in
            try db.execute(
                sql: "UPDATE dead_message SET message_id = ?, type = ?", arguments: [places.text("deadid"), places.text("deadtype")])
        }
        try sample.pause("default", by: places.text("pausedby"))
        try sample.block(places.text("blocked"), secondsAgo: 5)
        let filtered = try sample.addEvent(
            resource: SampleLedger.resource(1), filtered: (places.text("filtercode"), places.text("filtertext")))
        let journal = try IngestJournal(folder: sample.folder.appending(path: "state"))
        let server = places.text("server")
        _ = try await journal.register(.study, server: server, at: sample.now)
        try await journal.report(
            IngestSource(
                server: server, state: .unavailable, checkedAt: sample.now, error: Reason("down", places.text("sourceerror"))))
        try await journal.notePending([
            IngestPending(
                server: server, level: .study, resource: places.text("pendingresource"), since: sample.now,
                reason: Reason("unstable", places.text("pendingreason")))
        ])

        let series = places.text("series")
        let headers: JSONValue = [
            "id": .string(places.text("headerid")),
            "tags": [
                "StudyDescription": .string(places.text("description", isLong: true)), "PatientName": .string(places.text("hidden")),
                places.text("headerkey"): "x",
            ],
        ]
        let resource = places.text("resource")
        let event = try sample.addEvent(
            resource: resource, series: [.init(id: series, instances: 3)],
            refused: [places.text("refusedseries"): ["code": "x", "text": .string(places.text("refusedtext"))]], headers: headers)
        let failure = JobExit.Failure(
            type: places.text("failuretype"), message: places.text("failuremessage", isLong: true), traceback: places.text("traceback"))
        var jobs = [
            SampleLedger.SampleJob(name: places.text("jobname"), service: places.text("jobservice")),
            SampleLedger.SampleJob(name: "second", service: "s", needs: [0]),
            SampleLedger.SampleJob(name: places.text("waitingname"), service: "s"),
        ]
        jobs[0].state = .failed
        jobs[0].reason = Reason("exception", places.text("jobreason"))
        jobs[0].failure = failure
        jobs[0].worker = worker
        jobs[0].token = 1
        jobs[0].queued = 0
        jobs[0].started = 1
        jobs[0].finished = 3
        jobs[0].params = ["key": .string(places.text("param")), places.text("paramkey"): 1]
        jobs[0].result = ["key": .string(places.text("result"))]
        jobs[1].state = .running
        jobs[1].worker = worker
        jobs[1].token = 1
        jobs[1].queued = 1
        jobs[1].started = 2
        jobs[1].reason = Reason("running", places.text("runningreason"), subject: worker)
        jobs[2].state = .ready
        jobs[2].queued = 1
        jobs[2].reason = Reason("channel-paused", places.text("pausedreason"), subject: "default")
        let file = "mark-file-x\"'><b>{{page.id}}\u{202E}&.png"
        let exit = JobExit(
            outcome: .failed, kind: .exception, failure: failure, exitCode: 1,
            artifacts: [
                .init(name: places.text("artifact"), path: "preview/\(file)", kind: places.text("artifactkind")),
                .init(name: places.text("artifactgone"), path: places.text("artifactpath"), kind: "image"),
            ], startedAt: sample.now, finishedAt: sample.now, log: "runs/hostile.log", tail: places.text("tail"))
        try sample.writeFile("data/preview/\(file)", SampleLedger.picture)
        try sample.writeFile("logs/runs/hostile.log", Data(places.text("log").utf8) + Data([0xff, 0xfe, 0xc0, 0x80]))
        let run = try sample.addRun(
            event: event, resource: resource, secondsAgo: 60, state: .active, reason: Reason("x", places.text("runreason")),
            addedParams: [places.text("addedjob"): ["key": .string(places.text("added"))]], jobs: jobs,
            attempts: [
                .init(job: 0, token: 1, worker: worker, claimed: 1, ended: 2, exit: exit),
                .init(
                    job: 0, attempt: 2, token: 2, worker: worker, claimed: 2, ended: 3,
                    lost: Reason("worker-lost", places.text("lostreason"), subject: worker)),
                .init(
                    job: 1, token: 1, worker: worker, claimed: 2,
                    progress: ["fraction": 0.5, "text": .string(places.text("progress"))]),
            ],
            decisions: [
                Decision(
                    job: places.text("decisionjob"), service: places.text("decisionservice"), stage: .services, verdict: .failed,
                    reason: Reason("callback-raised", places.text("decisionreason")), duration: 0.1, output: places.text("decisionoutput"))
            ])
        try sample.addFact(places.text("factkind"), run: run, data: ["key": .string(places.text("fact"))])
        return Planted(run: run, filtered: String(filtered), places: places.names)
    }

    @Test("None of it comes out raw, on no page and in no answer, and every page stays well-formed")
    func everywhere() async throws {
        let sample = try SampleLedger()
        let planted = try await Self.plant(sample)
        let run = planted.run
        try await RunningDashboard.serving(sample) { dashboard in
            // One that the monitor has disabled is named at the head of every page.
            try await dashboard.store.addWebhook(
                MonitorWebhook(
                    id: "w", name: "mark-webhook-" + Self.attack, url: "https://a.example", events: [.runFailed], secret: "x",
                    createdBy: "root", createdAt: sample.now, place: .start))
            _ = try await dashboard.store.disableWebhook("w", because: "mark-webhookreason-" + Self.attack)
            for action in ["mark-auditaction-", "sign-in"] {
                try await dashboard.store.record(
                    AuditEntry(
                        actor: "mark-auditactor-" + Self.attack, address: "mark-auditaddress-" + Self.attack, action: action + Self.attack,
                        target: .init("mark-auditkind-" + Self.attack, "mark-audittarget-" + Self.attack), outcome: .refused,
                        detail: ["mark-auditkey-" + Self.attack: .string("mark-auditdetail-" + Self.attack)]))
            }
            let query = Self.attack.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
            var pages = [
                "/", "/runs", "/runs/\(run)", "/workers", "/queues", "/services", "/dead", "/events", "/events?filtered=true",
                "/audit", "/account", "/bulk", "/bulk/new?kind=jobs&action=retry", "/bulk/new?kind=runs&action=cancel",
                "/bulk/new?kind=\(query)&action=\(query)", "/bulk/\(query)",
                "/runs?q=mark\(query)", "/runs?q=\(query)&state=failed", "/events?reason=\(query)", "/audit?actor=\(query)&target=\(query)",
                "/runs/\(query)", "/jobs/\(query)", "/nothing/\(query)", "/runs?done=\(query)", "/sign-in?next=/\(query)",
            ]
            for job in 0..<3 { pages.append("/jobs/\(run).\(job)") }
            pages += ["/jobs/\(run).0?token=1", "/jobs/\(run).0?token=1&find=mark", "/jobs/\(run).0?token=1&find=\(query)"]
            pages += ["service", "modality", "error", "level", "from"].map { "/runs?\($0)=\(query)" } + ["/?range=\(query)"]
            pages += ["service", "reason", "type", "error", "run", "name", "from"].map { "/dead?\($0)=\(query)" }
            pages += ["q", "error", "event"].map { "/bulk/new?kind=runs&action=cancel&\($0)=\(query)" }
            // One on record, with all of it in its filter, its items and its reasons.
            var bulk = BulkRecord(
                id: "6f9619ff-8b86-d011-b42d-00c04fc964ff", kind: "jobs", action: "retry",
                filter: ["service": .string("mark-bulkfilter-" + Self.attack)], actor: "mark-bulkactor-" + Self.attack, previewedAt: Date(),
                leftOut: ["mark-bulkleft-" + Self.attack: 3], total: 1)
            try await dashboard.store.addPreview(bulk, [(target: "mark-bulktarget-" + Self.attack, mark: "x")])
            bulk.starter = "user:nobody"
            #expect(try await dashboard.store.startBulk(bulk, fact: 0, audit: 999, at: Date()))
            pages += ["/bulk/\(bulk.id)", "/bulk/\(bulk.id)?items=all", "/bulk/\(bulk.id)?items=\(query)"]
            var seen = ""
            // The run revealed, too: nothing of it is masked then.
            for isRevealed in [false, true] {
                var cookie = ""
                let form = try await dashboard.openForm("/runs/\(run)")
                if isRevealed {
                    cookie = form.cookie
                    let answer = try await dashboard.send(
                        "POST", "/runs/\(run)/reveal", headers: ["Cookie": cookie], form: ["csrf": form.token, "reason": Self.attack])
                    #expect(answer.status == 303)
                }
                for path in pages {
                    let page = try await dashboard.get(path, headers: ["Cookie": cookie])
                    #expect(page.status < 500, "\(path.prefix(60)): \(page.status)")
                    guard page.headers["content-type"]?.hasPrefix("text/html") == true else {
                        #expect(page.data.isEmpty, "\(path.prefix(60))")
                        continue
                    }
                    let problems = HTMLCheck(page.text).problems
                    #expect(problems.isEmpty, "\(path.prefix(60)): \(problems)")
                    for raw in ["<script>alert", "<img src=x", "\u{202E}", "\u{0}", "\u{1B}"] {
                        #expect(!page.text.unicodeScalars.contains(raw), "\(path.prefix(60))")
                    }
                    seen += page.text
                }
            }
            let answers =
                ["runs", "runs/\(run)", "jobs/\(run).0", "jobs/\(run).0/log", "jobs/\(run).1", "jobs/\(run).2", "workers"]
                + ["queues", "services", "dead", "events", "audit", "runs?q=\(query)", "runs/\(query)", "jobs/\(query)/log"]
            for path in answers {
                let answer = try await dashboard.get("/api/v1/\(path)")
                #expect(answer.status < 500, "\(path.prefix(60))")
                let type = answer.headers["content-type"] ?? ""
                #expect(type == "application/json" || type == "application/problem+json", "\(path.prefix(60))")
                #expect(answer.headers["x-content-type-options"] == "nosniff")
                // Strict: a control character in a string would be refused.
                #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: answer.data, options: .fragmentsAllowed) }
                seen += answer.text
            }
            // Everything that was planted was looked at somewhere; what hides a patient was hidden until it was revealed.
            let missing = planted.places.filter { !seen.contains("mark-\($0)-") && !$0.hasPrefix("fact") }
            #expect(missing.isEmpty, "\(missing)")
            for name in ["worker", "auditactor", "auditaction", "auditdetail", "bulkfilter", "bulkactor", "bulkleft", "bulktarget"]
                + ["webhook", "webhookreason"]
            {
                #expect(seen.contains("mark-\(name)-"), "\(name)")
            }
            for path in ["/runs/\(run)", "/api/v1/runs/\(run)", "/runs", "/events"] {
                let text = try await dashboard.get(path).text
                #expect(!text.contains("mark-hidden-"), "\(path)")
            }
            // What the page's script puts into the page as markup.
            let tail = try await dashboard.get("/jobs/\(run).0/log?offset=0&token=1&style=\(query)").json["html"]?.string ?? ""
            let problems = HTMLCheck(tail).problems
            #expect(tail.contains("mark-log-") && problems.isEmpty, "\(problems)")
            // The file's name comes into a header and an address.
            let link = try #require(
                try await dashboard.get("/jobs/\(run).0?token=1").text.firstMatch(of: /href="(\/artifacts\/[^"]+)"/)
            ).output.1
            let picture = try await dashboard.get(String(link))
            #expect(picture.status == 200 && picture.data == SampleLedger.picture)
            #expect(picture.headers["content-disposition"]?.contains("<") == false)
            #expect(try await dashboard.get("/metrics").text.split(separator: "\n").allSatisfy { !$0.hasPrefix("data:") })
        }
    }

    @Test("A fact that holds line breaks stays one message of the stream")
    func stream() async throws {
        let sample = try SampleLedger()
        let planted = try await Self.plant(sample)
        try await RunningDashboard.serving(sample) { dashboard in
            let listener = Listener()
            try await listener.listen("http://127.0.0.1:\(dashboard.port)/api/v1/stream", lastEventID: "0") {
                $0.text.contains("mark-fact-")
            }
            let fields = listener.text.split(separator: "\n", omittingEmptySubsequences: true).map { $0.prefix { $0 != ":" } }
            #expect(Set(fields).isSubset(of: ["retry", "id", "event", "data", ""]))
            #expect(!listener.text.split(separator: "\n").contains("event: reset"))
            let data = listener.text.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { Data($0.dropFirst(6).utf8) }
            #expect(data.count == 2)
            for line in data { #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: line) } }
            #expect(listener.text.contains(planted.run))
        }
    }

    @Test(
        "The check of the pages finds what broke out",
        arguments: [
            "<p>a</b></p>", "<p>", "<p a=b>x</p>", "<p a=\"<\">x</p>", "a < b", "a & b", "<p onclick=\"x\">a</p>", "<script>x</script>",
            "<a href=\"javascript:x\">a</a>", "<p>\u{202E}</p>", "<p>\u{0}</p>", "<p a=\"1\" a=\"2\">x</p>", "<p a=\"1\"b=\"2\">x</p>",
            "<p style=\"x\">a</p>", "<iframe></iframe>",
        ])
    func check(page: String) {
        #expect(!HTMLCheck(page).problems.isEmpty)
        let good = "<!doctype html>\n<p class=\"a\"><br>a &lt; &amp; <img src=\"/x\" alt=\"\"> <b hidden>ü</b></p>"
        #expect(HTMLCheck(good).problems.isEmpty)
    }
}

extension String.UnicodeScalarView {
    fileprivate func contains(_ text: String) -> Bool {
        let wanted = Array(text.unicodeScalars)
        guard let first = wanted.first else { return true }
        var place = startIndex
        while let hit = self[place...].firstIndex(of: first) {
            if self[hit...].starts(with: wanted) { return true }
            place = index(after: hit)
        }
        return false
    }
}
