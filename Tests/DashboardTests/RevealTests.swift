import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(2)))
struct RevealTests {
    private static let identifying = [
        "DOE^JANE", "98890234", "19700101", "ACC-4711", "1 Main Street", "General Hospital", "MRN-5521", "ROE^RICHARD",
    ]

    private static func visible(_ text: String) -> [String] { identifying.filter { text.contains($0) } }

    @Test("What identifies a patient shows to who revealed it, of that run, in that browser, for a time; and is on record")
    func reveal() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let run = hospital.succeeded
        try await RunningDashboard.serving(sample) { dashboard in
            for role in AccountRole.allCases { try await dashboard.addUser("u-\(role.rawValue)", role) }
            func visible(_ path: String, _ headers: [String: String]) async throws -> [String] {
                Self.visible(try await dashboard.get(path, headers: headers).text)
            }
            let viewer = try await dashboard.signIn("u-viewer").cookie
            let mine = try await dashboard.signIn("u-operator").cookie
            let other = try await dashboard.signIn("u-operator").cookie
            let pages = [
                "/runs/\(run)", "/jobs/\(run).2", "/runs", "/events", "/runs?q=DOE", "/api/v1/runs/\(run)", "/api/v1/jobs/\(run).2",
            ]
            for path in pages {
                for cookie in [viewer, mine] {
                    let text = try await dashboard.get(path, headers: ["Cookie": cookie]).text
                    #expect(Self.visible(text) == [], "\(path)")
                }
            }
            #expect(try await dashboard.post("/runs/\(run)/reveal", as: viewer).status == 403)
            let revealed = try await dashboard.post("/runs/\(run)/reveal", ["reason": "call from ward 3", "back": "\(run).2"], as: mine)
            #expect(revealed.headers["location"] == "/jobs/\(run).2?done=reveal")
            let shown = Self.visible(try await dashboard.get("/runs/\(run)", headers: ["Cookie": mine]).text)
            #expect(Set(shown) == ["DOE^JANE", "98890234", "19700101", "ACC-4711", "1 Main Street", "General Hospital", "MRN-5521"])
            #expect(try await visible("/jobs/\(run).2", ["Cookie": mine]).contains("ROE^RICHARD"))
            // An open page hides it by itself when the time is over.
            for path in ["/runs/\(run)", "/jobs/\(run).2"] {
                let refresh = try await dashboard.get(path, headers: ["Cookie": mine]).headers["refresh"] ?? ""
                #expect(Int(refresh.prefix { $0 != ";" }).map { (60...901).contains($0) } == true && refresh.hasSuffix("; url=\(path)"))
                #expect(try await dashboard.get(path, headers: ["Cookie": other]).headers["refresh"] == nil)
            }
            // Not elsewhere: the person's other browser, others, other runs, the API.
            #expect(try await visible("/runs/\(run)", ["Cookie": other]) == [])
            #expect(try await visible("/runs/\(run)", ["Cookie": viewer]) == [])
            #expect(try await visible("/runs/\(hospital.failed)", ["Cookie": mine]) == [])
            #expect(try await visible("/api/v1/jobs/\(run).2", ["Cookie": mine]) == [])
            // Whoever loses the role sees nothing any more.
            try await dashboard.store.setRole("u-operator", .viewer, keepsAdmin: true)
            #expect(try await visible("/runs/\(run)", ["Cookie": mine]) == [])
            try await dashboard.store.setRole("u-operator", .operator, keepsAdmin: true)
            #expect(try await visible("/runs/\(run)", ["Cookie": mine]) != [])
            #expect(try await dashboard.post("/runs/\(run)/hide", as: mine).status == 303)
            #expect(try await visible("/runs/\(run)", ["Cookie": mine]) == [])

            let entries = try await dashboard.store.audit(AuditFilter(target: run), limit: 10).items.map(\.entry)
            #expect(entries.map(\.action) == ["hide", "reveal"])
            #expect(entries.last?.actor == "u-operator" && entries.last?.role == .operator)
            #expect(entries.last?.detail == ["reason": "call from ward 3"])
            #expect(try await dashboard.post("/runs/none/reveal", as: mine).status == 404)
            #expect(try await dashboard.post("/runs/\(run)/reveal", ["reason": String(repeating: "x", count: 201)], as: mine).status == 400)
        }
    }

    @Test("A program gets it in the answer to its own request, with the operator's role, and on record")
    func program() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample, token: "secret") { dashboard in
            let bearer = ["Authorization": "Bearer secret"]
            let answer = try await dashboard.send("POST", "/api/v1/runs/\(hospital.succeeded)/reveal?reason=export", headers: bearer)
            #expect(answer.status == 200)
            #expect(try answer.json["headers"]?["tags"]?["PatientName"]?.string == "DOE^JANE")
            #expect(Set(Self.visible(answer.text)) == Set(Self.identifying))
            let job = try await dashboard.get("/api/v1/jobs/\(hospital.succeeded).2", headers: bearer).text
            #expect(Self.visible(job) == [])
            let record = try #require(try await dashboard.store.audit(limit: 1).items.first).entry
            #expect(record.actor == "api" && record.action == "reveal" && record.target?.id == hospital.succeeded)
        }
    }

    @Test("The masks come back")
    func time() {
        let reveals = Reveals(capacity: 2)
        let now = Date()
        func key(_ run: String) -> Reveals.Key { Reveals.Key(actor: "anna", session: "s", run: run) }
        reveals.reveal(key("a"), at: now)
        #expect(reveals.end(key("a"), at: now + 899) == now + 900)
        #expect(reveals.end(key("a"), at: now + 900) == nil)
        #expect(reveals.end(key("b"), at: now) == nil)
        #expect(reveals.end(Reveals.Key(actor: "bea", session: "s", run: "a"), at: now) == nil)
        // Bounded: what is over goes first, and then rather everything is hidden than the memory full.
        reveals.reveal(key("b"), at: now + 901)
        reveals.reveal(key("c"), at: now + 902)
        #expect(reveals.end(key("b"), at: now + 902) != nil)
        reveals.reveal(key("d"), at: now + 903)
        #expect(reveals.end(key("b"), at: now + 903) == nil && reveals.end(key("d"), at: now + 903) != nil)
    }

    @Test("Every action is on the audit's page, with who, what and how it ended; filters and pages follow")
    func audit() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample, token: "secret") { dashboard in
            let bearer = ["Authorization": "Bearer secret"]
            for path in [
                "runs/\(hospital.failed)/retry", "jobs/\(hospital.failed).2/retry", "jobs/\(hospital.paused).4/priority?priority=urgent",
                "channels/gpu/resume", "workers/hal.4711.a1/drain",
            ] {
                #expect(try await dashboard.send("POST", "/api/v1/\(path)", headers: bearer).status == 202, "\(path)")
            }
            dashboard.commands.goAway()
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.failed)/retry", headers: bearer).status == 503)
            let page = try await dashboard.get("/api/v1/audit", headers: bearer).json
            let entries = page["entries"]?.array ?? []
            #expect(
                entries.map { "\($0["action"]?.string ?? "") \($0["target"]?["kind"]?.string ?? "") \($0["outcome"]?.string ?? "")" } == [
                    "retry-run run failed", "drain-worker worker sent", "resume-channel channel sent", "set-priority job sent",
                    "retry-job job sent", "retry-run run sent",
                ])
            #expect(entries.last?["detail"]?["command"]?.string == dashboard.commands.sent.first?.id)
            // Page by page, without a gap and without a repetition.
            var sequences: [Int64] = []
            var next: String? = ""
            while let cursor = next {
                let part = try await dashboard.get(
                    "/api/v1/audit?limit=4\(cursor.isEmpty ? "" : "&cursor=\(cursor)")", headers: bearer
                ).json
                sequences += (part["entries"]?.array ?? []).compactMap { $0["sequence"]?.integer }
                next = part["next"]?.string
            }
            #expect(sequences == entries.compactMap { $0["sequence"]?.integer })
            for (query, count) in [
                ("action=retry-run", 2), ("actor=api", 6), ("actor=nobody", 0), ("target=gpu", 1), ("outcome=failed", 1),
                ("from=2020-01-01&to=2020-12-31", 0), ("from=2020-01-01", 6), ("to=2020-12-31", 0), ("action=retry-run&outcome=sent", 1),
            ] {
                let found = try await dashboard.get("/api/v1/audit?\(query)", headers: bearer).json["entries"]?.array?.count
                #expect(found == count, "\(query)")
            }
            for query in ["outcome=maybe", "from=yesterday", "cursor=x", "limit=0", "from=2020-13-01"] {
                #expect(try await dashboard.get("/api/v1/audit?\(query)", headers: bearer).status == 400, "\(query)")
            }
            let html = try await dashboard.get("/audit?actor=api&limit=2", headers: bearer).text
            #expect(html.contains("href=\"/runs/\(hospital.failed)\"") && html.contains("drain-worker"))
            #expect(html.contains("cursor=") && html.contains("actor=api"))
            #expect(try await dashboard.get("/audit?actor=nobody", headers: bearer).text.contains("Nothing matches"))
        }
    }
}
