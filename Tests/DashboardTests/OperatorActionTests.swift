import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Dashboard

/// Retry with other params, pauses of services, discarded jobs, messages that nobody could read: pages, API, roles, record.
@Suite(.timeLimit(.minutes(2)))
struct OperatorActionTests {
    private static func setParams(_ params: JSONValue, of job: String, in sample: SampleLedger) throws {
        try sample.write { db in
            try db.execute(
                sql: "UPDATE job SET definition = json_set(definition, '$.params', json(?)) WHERE id = ?", arguments: [params.text, job])
        }
    }

    @Test("A retry with other params: the form holds what the job has, keeps what was typed, and names what is wrong")
    func form() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let path = "/jobs/\(hospital.failed).2"
        try Self.setParams(["threshold": 0.5, "mode": "fast"], of: "\(hospital.failed).2", in: sample)
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get(path).text
            #expect(page.contains("Starts this job and the 3 after it again, this one with what stands here."))
            #expect(page.contains("&quot;threshold&quot; : 0.5") || page.contains("&quot;threshold&quot;: 0.5"))
            let form = try await dashboard.openForm(path)
            func post(_ text: String) async throws -> Answer {
                try await dashboard.send(
                    "POST", path + "/retry", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "params": text])
            }
            for (text, why) in [
                ("{\"threshold\": 0.5,\n oops<script>}", "params is not JSON"), ("[1, 2]", "params is not an object"),
                ("{\"PatientName\": \"hidden\"}", "params has &#39;hidden&#39; as its PatientName"),
                (String(repeating: "{\"a\":", count: 40) + "1" + String(repeating: "}", count: 40), "params is deeper than 32 levels"),
                ("{\"a\": \"\(String(repeating: "x", count: 40_000))\"}", "allowed are 32768"),
            ] {
                let answer = try await post(text)
                #expect(answer.status == 400 && answer.text.contains(why), "\(why)")
                #expect(answer.text.contains("<details class=\"confirm broad\" id=\"params-form\" open>"))
                #expect(!answer.text.contains("data-fact"), "the form's address is no page that the script could follow")
                #expect(
                    answer.text.contains(HTMLText.escape(text)) && !answer.text.contains("oops<script>"), "what was typed is kept: \(why)")
            }
            #expect(dashboard.commands.sent.isEmpty)
            let sent = try await post("{\"threshold\": 0.75, \"mode\": \"fast\", \"patient\": \"DOE^JANE\"}")
            #expect(sent.status == 303 && sent.headers["location"] == path + "?done=retry-job")
            let command = try #require(dashboard.commands.sent.first)
            #expect(command.action == .retryJob && command.params == ["threshold": 0.75, "mode": "fast", "patient": "DOE^JANE"])
            let entry = try #require(try await dashboard.store.audit(limit: 1).items.first).entry
            #expect(entry.detail["params"] == "patient, threshold")
            #expect(!entry.detail.text.contains("DOE") && !entry.detail.text.contains("0.75"))
            // A page that was open while somebody else retried.
            let seen = try #require(page.firstMatch(of: /name="attempt" value="(\d+)"/)?.output.1)
            for (attempt, status) in [(String(seen), 303), ("7", 409), ("x", 400)] {
                let fields = ["csrf": form.token, "params": "{}", "attempt": attempt]
                let answer = try await dashboard.send("POST", path + "/retry", headers: ["Cookie": form.cookie], form: fields)
                #expect(answer.status == status, "\(attempt)")
            }
            #expect(dashboard.commands.sent.map(\.attempt) == [nil, Int(seen)])
            // As long as params may be, each character as three.
            let most = "{\"a\": \"\(String(repeating: "<", count: 32_700))\"\(String(repeating: "\n", count: 40_000))}"
            #expect(try await post(most).status == 303)
            // Without the field it is the retry that it always was.
            let plain = try await dashboard.send("POST", path + "/retry", headers: ["Cookie": form.cookie], form: ["csrf": form.token])
            #expect(plain.status == 303 && dashboard.commands.sent.last?.params == nil)
            #expect(try await dashboard.send("POST", path + "/retry", form: ["params": "{}"]).status == 403, "no token of the session")
            // What ran well cannot be retried: no form.
            #expect(try await !dashboard.get("/jobs/\(hospital.succeeded).2").text.contains("params-form"))
        }
    }

    @Test("Masked params are not typed over: the form asks to reveal them first")
    func masked() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try Self.setParams(["PatientName": "DOE^JANE"], of: "\(hospital.failed).2", in: sample)
        try await RunningDashboard.serving(sample) { dashboard in
            let path = "/jobs/\(hospital.failed).2"
            let page = try await dashboard.get(path).text
            #expect(page.contains("Reveal them first") && !page.contains("<textarea") && !page.contains("DOE^JANE"))
            let form = try await dashboard.openForm(path)
            _ = try await dashboard.send(
                "POST", "/runs/\(hospital.failed)/reveal", headers: ["Cookie": form.cookie], form: ["csrf": form.token])
            let revealed = try await dashboard.get(path, headers: ["Cookie": form.cookie]).text
            #expect(revealed.contains("<textarea") && revealed.contains("DOE^JANE"))
        }
    }

    @Test("The API takes params as a whole, and says which attempt ran with which")
    func params() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let id = "\(hospital.failed).2"
        try Self.setParams(["level": 1], of: id, in: sample)
        try sample.write { db in
            try db.execute(sql: "UPDATE job SET params = '{\"level\":2}' WHERE id = ?", arguments: [id])
            try db.execute(sql: "UPDATE attempt SET params = '{\"level\":2}' WHERE job_id = ? AND attempt = 2", arguments: [id])
        }
        try await RunningDashboard.serving(sample) { dashboard in
            let job = try await dashboard.get("/api/v1/jobs/\(id)").json
            #expect(job["params"] == ["level": 2] && job["plannedParams"] == ["level": 1])
            #expect(job["attempts"]?.array?.map { $0["params"] } == [.null, ["level": 2]])
            let page = try await dashboard.get("/jobs/\(id)").text
            #expect(page.contains("Ran with other params than planned: level") && page.contains("Parameters as planned"))
            func retry(_ body: String) async throws -> Answer {
                try await dashboard.send(
                    "POST", "/api/v1/jobs/\(id)/retry", headers: ["Content-Type": "application/json"], body: Data(body.utf8))
            }
            #expect(try await retry("{\"params\": {\"level\": 3}}").status == 202)
            #expect(try await retry("{}").status == 202)
            #expect(dashboard.commands.sent.map(\.params) == [["level": 3], nil])
            #expect(try await retry("{\"attempt\": 9}").status == 409)
            #expect(page.contains("with its changed params"))
            for (body, name) in [
                ("{\"params\": 1}", "params"), ("{\"params\": null}", "params"), ("{\"parms\": {}}", "parms"), ("[]", nil),
                ("{\"attempt\": \"2\"}", "attempt"), ("{\"attempt\": 1e300}", "attempt"),
                ("{\"params\": {\"PatientID\": \"hidden\"}}", "params"),
            ] as [(String, String?)] {
                let answer = try await retry(body)
                #expect(answer.status == 400, "\(body)")
                let problem = try answer.json
                #expect(problem["parameter"]?.string == name, "\(body)")
            }
            let export = try await dashboard.send(
                "POST", "/api/v1/jobs/\(hospital.cancelled).0/retry", headers: ["Content-Type": "application/json"],
                body: Data("{\"params\": {}}".utf8))
            #expect(export.status == 409)
        }
    }

    @Test("A service is paused from its page and by the API; every page says so, with who")
    func pause() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try sample.write { try $0.execute(sql: "DELETE FROM pause") }
        try sample.pause("dcm2nii", kind: "service", by: "zoe<b>")
        try sample.pause("gone-one", kind: "service", by: "zoe")
        let retrying = "\(hospital.retrying).2"
        try sample.write { try $0.execute(sql: "UPDATE job SET not_before = 1 WHERE id = ?", arguments: [retrying]) }
        try await RunningDashboard.serving(sample) { dashboard in
            let services = try await dashboard.get("/services").text
            #expect(services.contains("/services/dcm2nii/resume") && services.contains("by zoe&lt;b&gt;") && !services.contains("zoe<b>"))
            #expect(services.contains("/services/gone-one/resume"), "what the registry no longer has can still be resumed")
            let overview = try await dashboard.get("/").text
            #expect(overview.contains("Service dcm2nii is paused by zoe&lt;b&gt;"))
            let why = try await dashboard.get("/api/v1/jobs/\(retrying)").json["explanation"]
            #expect(why?["code"] == "service-paused")
            let list = try await dashboard.get("/api/v1/services").json["services"]?.array ?? []
            #expect(list.filter { $0["paused"] == true }.map { $0["name"]?.string } == ["dcm2nii", "gone-one"])
            let lines = try await dashboard.get("/metrics").text.split(separator: "\n")
            #expect(lines.contains(#"dcm_service_paused{service="dcm2nii"} 1"#))
            let form = try await dashboard.openForm("/services")
            let answer = try await dashboard.send(
                "POST", "/services/dcm2nii/resume", headers: ["Cookie": form.cookie], form: ["csrf": form.token])
            #expect(answer.status == 303 && answer.headers["location"] == "/services?done=resume-service")
            for (path, status) in [("dcm2nii/pause", 202), ("dcm2nii/resume", 202), ("nobody/pause", 404)] {
                #expect(try await dashboard.send("POST", "/api/v1/services/\(path)").status == status, "\(path)")
            }
            #expect(dashboard.commands.sent.map(\.action) == [.resumeService, .pauseService, .resumeService])
            let entry = try #require(try await dashboard.store.audit(limit: 1).items.first).entry
            #expect(entry.target?.kind == "service" && entry.target?.id == "dcm2nii")
        }
    }

    @Test("A discarded job leaves the dead letters and their counts, and is found with who and when")
    func discard() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let job = "\(hospital.dead).4"
        try await RunningDashboard.serving(sample) { dashboard in
            #expect(try await dashboard.get("/dead").text.contains("/jobs/\(job)/discard"))
            #expect(try await dashboard.get("/runs/\(hospital.dead)").text.contains("runs/\(hospital.dead)/retry"))
            #expect(try await dashboard.get("/bulk/new?kind=runs&action=retry&q=\(hospital.dead)").text.contains("Retry 1 run?"))
            let form = try await dashboard.openForm("/jobs/\(job)")
            let answer = try await dashboard.send(
                "POST", "/jobs/\(job)/discard", headers: ["Cookie": form.cookie], form: ["csrf": form.token])
            #expect(answer.status == 303)
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(job)/discard").status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(hospital.failed).2/discard").status == 409)
            #expect(dashboard.commands.sent.map(\.action) == [.discardJob, .discardJob])
            for (body, status) in [("{\"attempt\": 99}", 409), ("{\"params\": {}}", 400)] {
                let answer = try await dashboard.send(
                    "POST", "/api/v1/jobs/\(job)/discard", headers: ["Content-Type": "application/json"], body: Data(body.utf8))
                #expect(answer.status == status, "\(body)")
            }
            #expect(try await dashboard.get("/dead").text.contains("name=\"attempt\""))
        }
        try sample.write {
            try $0.execute(sql: "UPDATE job SET discarded_by = 'zoe<b>', discarded_at = ? WHERE id = ?", arguments: [sample.time(5), job])
        }
        try await RunningDashboard.serving(sample) { dashboard in
            let list = try await dashboard.get("/dead").text
            #expect(!list.contains("/jobs/\(job)") && list.contains("1 discarded"))
            let discarded = try await dashboard.get("/dead?discarded=true").text
            #expect(
                discarded.contains("/jobs/\(job)") && discarded.contains("discarded by zoe&lt;b&gt;")
                    && !discarded.contains("\(job)/discard"))
            let page = try await dashboard.get("/jobs/\(job)").text
            #expect(
                page.contains("<dt>Discarded</dt><dd>by zoe&lt;b&gt;") && !page.contains("\(job)/discard") && page.contains("\(job)/retry"))
            let api = try await dashboard.get("/api/v1/dead").json
            let other = try await dashboard.get("/api/v1/dead?discarded=true").json
            #expect(api["jobs"] == [] && other["jobs"]?.array?.first?["discarded"]?["by"] == "zoe<b>")
            let lines = try await dashboard.get("/metrics").text.split(separator: "\n")
            #expect(lines.contains("dcm_jobs_discarded 1"))
            #expect(!lines.contains { $0.hasPrefix("dcm_jobs{") && $0.contains(#"state="dead""#) && !$0.hasSuffix(" 0") })
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(job)/discard").status == 409)
            // A retry of the run leaves it out, and there is nothing else to retry: nobody is offered it.
            #expect(try await !dashboard.get("/runs/\(hospital.dead)").text.contains("runs/\(hospital.dead)/retry"))
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.dead)/retry").status == 409)
            #expect(try await dashboard.get("/bulk/new?kind=runs&action=retry&q=\(hospital.dead)").text.contains("Nothing to retry"))
        }
    }

    @Test("Messages that nobody could read: listed with whence and why, requeued and discarded one or all, looked into by admins alone")
    func messages() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        try sample.addDeadMessage(
            queue: "dcm.results.v1", reason: "key 'job' is missing", body: "{\"tags\":{\"PatientName\":\"<b>DOE^JANE\"}}")
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("ann", .admin)
            try await dashboard.addUser("oli", .operator)
            let admin = try await dashboard.signIn("ann").cookie
            let page = try await dashboard.get("/dead", headers: ["Cookie": admin])
            #expect(page.text.contains("dcm.results.v1") && page.text.contains("Requeue 2 messages") && !page.text.contains("DOE^JANE"))
            let form = try await dashboard.openForm("/dead", cookie: admin)
            func post(_ path: String, _ fields: [String: String] = [:]) async throws -> Answer {
                try await dashboard.send(
                    "POST", "/dead/undecodable/\(path)", headers: ["Cookie": form.cookie],
                    form: fields.merging(["csrf": form.token]) { $1 })
            }
            let requeued = try await post("2/requeue")
            #expect(requeued.status == 303 && requeued.headers["location"] == "/dead?done=requeue-message")
            #expect(try await post("all/discard", ["through": "1"]).status == 303)
            #expect(try await post("all/discard").status == 400)
            for id in ["99", "..2", "x"] { #expect(try await post("\(id)/requeue").status == 404, "\(id)") }
            #expect(dashboard.commands.sent.map(\.target) == ["2", "..1"])
            #expect(dashboard.commands.sent.map(\.action) == [.requeueMessage, .discardMessage])
            let inside = try await post("2/reveal")
            #expect(inside.status == 200 && inside.text.contains("&lt;b&gt;DOE^JANE") && !inside.text.contains("<b>DOE"))
            let entry = try #require(try await dashboard.store.audit(limit: 1).items.first).entry
            #expect(
                entry.actor == "ann" && entry.action == "reveal-message" && entry.target?.id == "2" && !entry.detail.text.contains("DOE"))

            let oli = try await dashboard.signIn("oli").cookie
            let theirs = try await dashboard.openForm("/dead", cookie: oli)
            #expect(try await !dashboard.get("/dead", headers: ["Cookie": oli]).text.contains("Look inside"))
            let refused = try await dashboard.send(
                "POST", "/dead/undecodable/2/reveal", headers: ["Cookie": oli], form: ["csrf": theirs.token])
            #expect(refused.status == 403)
        }
        try await RunningDashboard.serving(sample, token: "secret") { dashboard in
            let bearer = ["Authorization": "Bearer secret"]
            let list = try await dashboard.get("/api/v1/dead", headers: bearer)
            #expect(try list.json["messages"]?.array?.map { $0["state"] } == ["parked", "parked"] && !list.text.contains("DOE"))
            #expect(try await dashboard.send("POST", "/api/v1/dead/undecodable/1/discard", headers: bearer).status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/dead/undecodable/all/requeue", headers: bearer).status == 400)
            #expect(try await dashboard.send("POST", "/api/v1/dead/undecodable/all/requeue?through=2", headers: bearer).status == 202)
            try sample.write {
                try $0.execute(
                    sql: "UPDATE dead_message SET state = 'discarded', body = NULL, decided_by = 'zoe', decided_at = 5 WHERE seq = 1")
            }
            for verb in ["discard", "requeue"] {
                #expect(try await dashboard.send("POST", "/api/v1/dead/undecodable/1/\(verb)", headers: bearer).status == 409)
            }
            let decided = try await dashboard.get("/api/v1/dead?decided=true", headers: bearer).json
            #expect(decided["messages"]?.array?.map { $0["decidedBy"] } == ["zoe"])
        }
    }

    @Test("All is what can be done, up to the newest that is shown, and no more than one command takes; what cannot be sent again says why")
    func allMessages() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        try sample.addDeadMessage(queue: "dcm.results.v1", reason: "key 'job' is missing")
        try sample.write { db in
            try db.execute(
                sql: """
                    INSERT INTO dead_message (at, queue, routing_key, reason, size, problem, properties)
                    VALUES (9, 'dcm.claims.v1', 'claim', 'r', 9, 'Who asked asks again: discard it.', '{}')
                    """)
        }
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/dead").text
            #expect(page.contains("Requeue 2 messages") && page.contains("Discard 3 messages") && page.contains("Who asked asks again"))
            let one = try await dashboard.send("POST", "/api/v1/dead/undecodable/3/requeue")
            #expect(one.status == 409 && one.text.contains("Who asked asks again"))
            try sample.write { try $0.execute(sql: "UPDATE dead_message SET body = NULL") }
            let none = try await dashboard.get("/dead").text
            #expect(!none.contains("undecodable/all/requeue") && none.contains("undecodable/all/discard"))
            #expect(try await dashboard.send("POST", "/api/v1/dead/undecodable/all/requeue?through=3").status == 409)
            try sample.write {
                try $0.execute(sql: "DELETE FROM dead_message WHERE seq = 3; UPDATE dead_message SET body = x'00'")
                // As many as no single command takes.
                try $0.execute(
                    sql: """
                        WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
                        INSERT INTO dead_message (seq, at, queue, routing_key, reason, size, properties) SELECT i, 9, 'q', 'q', 'r', 1, '{}' FROM n
                        """)
            }
            #expect(try await dashboard.get("/dead").text.contains("Discard the oldest 500 messages"))
        }
    }
}
