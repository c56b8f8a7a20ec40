import Foundation
import GRDB
import Jobs
import Pipeline
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(2)))
struct APITests {
    @Test("A run has the fixed fields, its jobs in order, and every decision")
    func run() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let run = try await dashboard.get("/api/v1/runs/\(hospital.failed)").json
            #expect(run["id"] == .string(hospital.failed))
            #expect(run["state"] == "failed")
            #expect(run["level"] == "study")
            #expect(run["reason"]?["text"] == "Job dcm2nii failed.")
            #expect(run["counts"]?["skipped"] == 3)
            #expect(run["counts"]?["dead"] == 0)
            let jobs = try #require(run["jobs"]?.array)
            #expect(
                jobs.compactMap { $0["name"]?.string } == [
                    "export", "anonymize", "dcm2nii", "preview", "lesion-segmentation", "storageManager",
                ])
            #expect(jobs[3]["dependsOn"] == ["export", "anonymize", "dcm2nii"])
            #expect(jobs[2]["attempt"] == 2)
            #expect(jobs[2]["priority"] == "default")
            #expect(jobs[2]["error"]?["type"] == "subprocess.CalledProcessError")
            #expect(jobs[5]["startedAt"] == .null)
            let started = try #require(jobs[2]["startedAt"]?.string)
            #expect(started.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil)
            #expect(run["decisions"]?.array?.count == 5)
            #expect(run["decisions"]?.array?.last?["reason"]?["code"] == "callback-raised")
        }
    }

    @Test("Runs come in pages that neither repeat nor omit one, and filters hold")
    func runs() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 25)
        try await RunningDashboard.serving(sample) { dashboard in
            var ids: [String] = []
            var cursor = ""
            repeat {
                let page = try await dashboard.get("/api/v1/runs?limit=7\(cursor)").json
                ids += try #require(page["runs"]?.array).compactMap { $0["id"]?.string }
                cursor = page["next"]?.string.map { "&cursor=\($0)" } ?? ""
            } while !cursor.isEmpty
            #expect(ids.count == 25 + 9)
            #expect(ids == ids.sorted(by: >))
            #expect(Set(ids).count == ids.count)
            let failed = try await dashboard.get("/api/v1/runs?state=failed").json["runs"]?.array?.compactMap { $0["id"]?.string }
            #expect(Set(failed ?? []) == [hospital.failed, hospital.dead])
            let found = try await dashboard.get("/api/v1/runs?q=\(hospital.declined.prefix(20))").json["runs"]?.array
            #expect(found?.contains { $0["id"] == .string(hospital.declined) } == true)
            let event = try await dashboard.get("/api/v1/runs?event=\(SampleLedger.resource(6))").json["runs"]?.array
            #expect(event?.count == 2)
            let wrong = try await dashboard.get("/api/v1/runs?state=lost")
            #expect(wrong.status == 400)
            #expect(wrong.headers["content-type"] == "application/problem+json")
            #expect(try await dashboard.get("/api/v1/runs?limit=0").status == 400)
        }
    }

    @Test("A job tells its attempts, artifacts, result and why it is where it is")
    func job() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let done = try await dashboard.get("/api/v1/jobs/\(hospital.succeeded).2").json
            #expect(done["result"]?["volumes"] == 1)
            #expect(done["params"]?["compression"] == 6)
            #expect(done["addedParams"]?["output"] == "nifti/head.nii.gz")
            #expect(done["result"]?["patient_name"] == "hidden")
            #expect(done["addedParams"]?["PatientID"] == "hidden")
            for path in ["/runs/\(hospital.succeeded)", "/jobs/\(hospital.succeeded).2"] {
                let page = try await dashboard.get(path).text
                #expect(page.contains("nifti/head.nii.gz"), "\(path)")
                #expect(page.contains("MRN-5521") == false && page.contains("ROE^RICHARD") == false, "\(path)")
            }
            let preview = try await dashboard.get("/api/v1/jobs/\(hospital.succeeded).3").json
            #expect(preview["artifacts"]?.array?.first?["url"] == .string("/artifacts/\(hospital.succeeded).3/preview/head.png"))
            let failed = try await dashboard.get("/api/v1/jobs/\(hospital.failed).2").json
            #expect(failed["attempts"]?.array?.compactMap { $0["outcome"]?.string } == ["failed", "failed"])
            #expect(failed["attempts"]?.array?.first?["usage"]?["peakMemory"] == 88_000_000)
            let lost = try await dashboard.get("/api/v1/jobs/\(hospital.dead).4").json
            #expect(lost["attempts"]?.array?.compactMap { $0["kind"]?.string } == ["worker-lost", "worker-lost", "worker-lost"])
            let running = try await dashboard.get("/api/v1/jobs/\(hospital.active).2").json
            #expect(running["progress"]?["fraction"] == .number(0.42))
            let waiting = try await dashboard.get("/api/v1/jobs/\(hospital.active).3").json
            let why = waiting["explanation"]
            #expect(why?["code"] == "waits-for-jobs")
            #expect(why?["sentence"] == "Waits for dcm2nii (running).")
            #expect(why?["subjects"] == [["kind": "job", "id": .string("\(hospital.active).2"), "name": "dcm2nii"]])
            let ofRun = try #require(try await dashboard.get("/api/v1/runs/\(hospital.active)").json["jobs"]?.array)
            #expect(
                ofRun.map { $0["explanation"]?["code"]?.string } == [
                    nil, nil, "running", "waits-for-jobs", "waits-for-jobs", "waits-for-jobs",
                ])
            let paused = try await dashboard.get("/api/v1/jobs/\(hospital.paused).4").json
            #expect(paused["explanation"]?["code"] == "channel-paused")
            #expect(paused["explanation"]?["sentence"]?.string?.hasPrefix("Channel gpu was paused by operator at ") == true)
            #expect(paused["explanation"]?["since"]?.string != nil)
            let page = try await dashboard.get("/jobs/\(hospital.paused).4").text
            #expect(page.contains(#"Channel <a href="/queues#channel-gpu">gpu</a> was paused by operator at <time datetime="#))
            let skipped = try await dashboard.get("/jobs/\(hospital.failed).5").text
            #expect(skipped.contains("It needs job <a href=\"/jobs/\(hospital.failed).2\">dcm2nii</a>, which failed."))
            #expect(try await dashboard.get("/api/v1/jobs/\(hospital.failed).99").status == 404)
        }
    }

    @Test("A log is read on from where one stopped, and says when nothing more comes")
    func log() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let name = "logs/runs/\(hospital.active)/2-1-1.log"
        // The second byte of ü is still to come.
        try sample.writeFile(name, Data("grün".utf8.prefix(3)))
        try await RunningDashboard.serving(sample) { dashboard in
            let path = "/api/v1/jobs/\(hospital.active).2/log"
            let first = try await dashboard.get(path).json
            #expect(first["text"] == "gr")
            #expect(first["next"] == 2)
            #expect(first["eof"] == false)
            try sample.writeFile(name, Data("grün\n".utf8))
            let second = try await dashboard.get("\(path)?offset=2").json
            #expect(second["text"] == "ün\n")
            #expect(second["offset"] == 2)
            // What the program printed as errors, and when, is told apart.
            try sample.writeFile("\(name).index", Data("0 1700000000000 1\n2 1700000001500 2\n".utf8))
            let whole = try #require(try await dashboard.get(path).json["parts"]?.array)
            #expect(whole.map { $0["stream"] } == ["stdout", "stderr"])
            #expect(whole.map { $0["text"] } == ["gr", "ün\n"])
            #expect(whole[1]["at"]?.string?.hasPrefix("2023-11-14T22:13:21.5") == true)
            #expect(try await dashboard.get("/jobs/\(hospital.active).2").text.contains("<span class=\"stderr\">ün\n</span>"))
            let done = try await dashboard.get("/api/v1/jobs/\(hospital.succeeded).3/log?attempt=1").json
            #expect(done["eof"] == true)
            #expect(done["text"]?.string?.hasSuffix("wrote preview/head.png\n") == true)
            #expect(try await dashboard.get("/api/v1/jobs/\(hospital.succeeded).3/log?attempt=9").status == 404)
            let notStarted = try await dashboard.get("/api/v1/jobs/\(hospital.active).4/log").json
            #expect(notStarted["text"] == "")
            #expect(notStarted["eof"] == false)
        }
    }

    @Test("Workers, queues, services, dead letters and events")
    func lists() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let workers = try #require(try await dashboard.get("/api/v1/workers").json["workers"]?.array)
            #expect(
                Dictionary(uniqueKeysWithValues: workers.map { ($0["id"]?.string ?? "", $0["state"]?.string) }) == [
                    "hal.4711.a1": "running", "hal.4712.b2": "running", "titan.99.c3": "lost",
                ])
            let queues = try #require(try await dashboard.get("/api/v1/queues").json["queues"]?.array)
            #expect(queues.map { $0["name"] } == ["default", "gpu"])
            #expect(queues[1]["paused"] == true)
            #expect(queues[1]["priorities"]?["high"]?["ready"] == 1)
            #expect(queues[1]["oldestQueuedAt"]?.string != nil)
            let services = try #require(try await dashboard.get("/api/v1/services").json["services"]?.array)
            #expect(services.first { $0["name"] == "broken" }?["state"] == "error")
            #expect(services.first { $0["name"] == "lesions" }?["problems"]?.array?.first?["key"] == "timout")
            let problem = try #require(services.first { $0["name"] == "broken" }?["problems"]?.array?.first)
            #expect(problem["value"] == #""hihg""#)
            #expect(problem["nearest"] == "high")
            #expect(problem["allowed"]?.string?.hasPrefix("urgent") == true)
            let page = try await dashboard.get("/services").text
            #expect(page.contains("Allowed: urgent, high") && page.contains("Did you mean <b class=\"mono\">high</b>?"))
            let dead = try await dashboard.get("/api/v1/dead").json
            #expect(dead["jobs"]?.array?.map { $0["id"] } == [.string("\(hospital.dead).4")])
            #expect(dead["messages"]?.array?.first?["queue"] == "dcm.ingest.v1")
            let filtered = try #require(try await dashboard.get("/api/v1/events?reason=modality").json["events"]?.array)
            #expect(filtered.count == 2)
            #expect(filtered[0]["reason"]?["text"] == "Modality DX is not one of CT, MR.")
            let accepted = try #require(try await dashboard.get("/api/v1/events?filtered=false&limit=500").json["events"]?.array)
            #expect(accepted.allSatisfy { $0["runs"]?.array?.isEmpty == false || $0["resourceId"] == .string(SampleLedger.resource(6)) })
        }
    }

    @Test("A worker is drained and resumed, and says how its machine is")
    func workers() async throws {
        let sample = try SampleLedger()
        try sample.addWorker(
            "busy.1", machine: ["load": [1.5, 1, 0], "memory": 17_179_869_184, "freeMemory": 4_294_967_296, "gpus": 2])
        try sample.addWorker("idle.2", state: "draining", machine: ["isDrained": true])
        try sample.addWorker("ending.3", state: "draining")
        try sample.addWorker("gone.4", state: "stopped")
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/workers").text
            #expect(page.contains("load 1.50, 4.3 GB of 17.2 GB free, 2 GPUs"), "\(page)")
            #expect(page.contains(#"action="/workers/busy.1/drain""#))
            #expect(page.contains(#"action="/workers/idle.2/resume""#))
            #expect(!page.contains("/workers/ending.3/") && !page.contains("/workers/gone.4/"))
            let workers = try #require(try await dashboard.get("/api/v1/workers").json["workers"]?.array)
            let drained = Dictionary(uniqueKeysWithValues: workers.map { ($0["id"]?.string ?? "", $0["drained"]?.bool) })
            #expect(drained == ["busy.1": false, "idle.2": true, "ending.3": false, "gone.4": false])
            #expect(workers.first { $0["id"] == "busy.1" }?["freeMemory"] == 4_294_967_296)

            #expect(try await dashboard.send("POST", "/api/v1/workers/busy.1/drain").status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/workers/idle.2/resume").status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/workers/gone.4/drain").status == 409)
            #expect(try await dashboard.send("POST", "/api/v1/workers/nobody/drain").status == 404)
            #expect(dashboard.commands.sent.map(\.action) == [.drainWorker, .resumeWorker])
            #expect(dashboard.commands.sent.map(\.target) == ["busy.1", "idle.2"])
        }
    }

    @Test("A command reaches the broker once and names who asked")
    func commands() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample, token: "secret-token") { dashboard in
            let bearer = ["Authorization": "Bearer secret-token"]
            let answer = try await dashboard.send("POST", "/api/v1/jobs/\(hospital.failed).2/retry", headers: bearer)
            #expect(answer.status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.active)/cancel").status == 401)
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.active)/cancel", headers: bearer).status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.declined)/reprocess", headers: bearer).status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/channels/default/pause", headers: bearer).status == 202)
            let sent = dashboard.commands.sent
            #expect(sent.map(\.action) == [.retryJob, .cancelRun, .reprocessRun, .pauseChannel])
            #expect(sent.map(\.target) == ["\(hospital.failed).2", hospital.active, hospital.declined, "default"])
            #expect(sent.map(\.actor) == ["api", "api", "api", "api"])
            #expect(try answer.json["command"] == .string(sent[0].id))
            #expect(Set(sent.map(\.id)).count == 4)
        }
    }

    @Test("A priority is set and a job is run again, by the rules that the router has")
    func rerunAndPriority() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(hospital.succeeded).2/rerun").status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(hospital.active).3/priority?priority=urgent").status == 202)
            #expect(try await dashboard.send("POST", "/api/v1/jobs/\(hospital.active).4/priority?priority=0").status == 202)
            for (path, status) in [
                ("jobs/\(hospital.active).3/priority", 400), ("jobs/\(hospital.active).3/priority?priority=hihg", 400),
                ("jobs/\(hospital.active).2/priority?priority=low", 409), ("jobs/\(hospital.succeeded).2/priority?priority=low", 409),
                ("jobs/\(hospital.active).99/priority?priority=low", 404), ("jobs/nonsense/rerun", 404),
                ("jobs/\(hospital.active).2/rerun", 409), ("jobs/\(hospital.active).1/rerun", 409),
            ] {
                let answer = try await dashboard.send("POST", "/api/v1/\(path)")
                #expect(answer.status == status, "\(path)")
                #expect(try answer.json["detail"]?.string?.isEmpty == false)
            }
            // The buttons say what they do, and are not there when the router would refuse.
            let done = try await dashboard.get("/jobs/\(hospital.succeeded).2").text
            #expect(done.contains("Runs this job and the 3 after it once more"))
            #expect(!done.contains("/priority"))
            let running = try await dashboard.get("/jobs/\(hospital.active).2").text
            #expect(!running.contains("/rerun") && !running.contains("/priority"))
            let failed = try await dashboard.get("/jobs/\(hospital.failed).2").text
            #expect(failed.contains("Retry this job and the 3 after it"))
            let path = "/jobs/\(hospital.active).3"
            let form = try await dashboard.openForm(path)
            let asked = try await dashboard.send(
                "POST", path + "/priority", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "priority": "high"])
            #expect(asked.status == 303)
            #expect(asked.headers["location"] == path + "?done=set-priority")
            #expect(try await dashboard.send("POST", path + "/priority", form: ["priority": "high"]).status == 403)
            let sent = dashboard.commands.sent
            #expect(sent.map(\.action) == [.rerunJob, .setPriority, .setPriority, .setPriority])
            #expect(sent.map(\.priority) == [nil, "urgent", "low", "high"])
        }
    }

    @Test("What keeps jobs from starting stands on every page and in the metrics, with its beginning")
    func alarms() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try sample.block("low on memory", secondsAgo: 90)
        try sample.write { try $0.execute(sql: "DELETE FROM pause") }
        try sample.write { try $0.execute(sql: #"UPDATE worker SET seen_at = seen_at - 1200 WHERE info LIKE '%"gpu"%'"#) }
        try await RunningDashboard.serving(sample) { dashboard in
            for path in ["/", "/runs", "/jobs/\(hospital.active).2"] {
                let page = try await dashboard.get(path).text
                #expect(page.contains("RabbitMQ takes no messages (low on memory)"), "\(path)")
                #expect(page.contains("No worker serves channel gpu: 1 job waits."), "\(path)")
                #expect(page.contains("<span class=\"since\">since <time"), "\(path)")
            }
            let lines = try await dashboard.get("/metrics").text.split(separator: "\n").map(String.init)
            #expect(lines.contains("dcm_broker_blocked 1"))
            #expect(lines.contains(#"dcm_channel_unserved{channel="gpu"} 1"#))
            #expect(lines.contains(#"dcm_channel_unserved{channel="default"} 0"#))
            #expect(lines.contains(#"dcm_channel_queued{channel="gpu"} 1"#))
            let blocked = try #require(
                lines.first { $0.hasPrefix("dcm_broker_blocked_seconds ") }?.split(separator: " ").last.flatMap { Double($0) })
            #expect((90...(91 + Date().timeIntervalSince(sample.now))).contains(blocked))
            let queues = try await dashboard.get("/api/v1/queues").json
            #expect(queues["broker"]?["state"] == "blocked")
            #expect(queues["queues"]?.array?.map { $0["unservedSince"] == .null } == [true, false])
            let why = try await dashboard.get("/api/v1/jobs/\(hospital.paused).4").json["explanation"]
            #expect(why?["code"] == "broker-blocked")
        }
    }

    @Test("What cannot be is refused with a reason and never sent")
    func impossibleCommands() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for (path, status) in [
                ("/api/v1/jobs/\(hospital.succeeded).2/cancel", 409), ("/api/v1/jobs/\(hospital.active).2/retry", 409),
                ("/api/v1/jobs/\(hospital.succeeded).2/retry", 409), ("/api/v1/runs/\(hospital.failed)/cancel", 409),
                ("/api/v1/runs/\(hospital.succeeded)/retry", 409),
                ("/api/v1/runs/nonsense/retry", 404), ("/api/v1/channels/No%20Channel/pause", 400),
            ] {
                let answer = try await dashboard.send("POST", path)
                #expect(answer.status == status, "\(path)")
                #expect(answer.headers["content-type"] == "application/problem+json")
                #expect(try answer.json["detail"]?.string?.isEmpty == false)
            }
            dashboard.commands.goAway()
            let unconfirmed = try await dashboard.send("POST", "/api/v1/runs/\(hospital.failed)/retry")
            #expect(unconfirmed.status == 503)
            // It may have arrived all the same.
            #expect(unconfirmed.text.contains("not known whether the router will do it"))
            #expect(dashboard.commands.sent.isEmpty)
        }
    }

    @Test("Before the router has ever run, everything says so and nothing breaks")
    func noLedger() async throws {
        let sample = try SampleLedger()
        let path = sample.folder.appending(path: "later/ledger.sqlite").path
        try await RunningDashboard.serving(sample, path: path) { dashboard in
            #expect(try await dashboard.get("/healthz").status == 200)
            let ready = try await dashboard.get("/readyz")
            #expect(ready.status == 503)
            #expect(ready.text.contains("No ledger yet"))
            #expect(try await dashboard.get("/api/v1/runs").status == 503)
            #expect(try await dashboard.get("/").status == 503)
            #expect(try await dashboard.get("/metrics").text.contains("dcm_ledger_readable 0"))
            // It comes: the next question finds it.
            try await sample.database.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
            try FileManager.default.createDirectory(at: sample.folder.appending(path: "later"), withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: sample.path, toPath: path)
            #expect(try await dashboard.get("/readyz").status == 200)
            #expect(try await dashboard.get("/api/v1/runs").json["runs"] == [])
            #expect(try await dashboard.get("/").status == 200)
        }
    }

    @Test("Where everything in Orthanc went stands on the events page, and adds up")
    func accounts() async throws {
        let sample = try SampleLedger()
        try await sample.fillJournal()
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/events").text
            #expect(page.contains("4 received = 2 dispatched + 1 filtered (modality 1) + 1 pending (unstable 1)."))
            #expect(page.contains("Orthanc listed 4 in the last sweep.") && page.contains("Instances are still arriving."))
            let json = try await dashboard.get("/api/v1/events").json
            let account = json["accounts"]?.array?.first
            #expect(account?["received"] == 4 && account?["listed"] == 4 && account?["server"] == "ct")
            #expect(json["pending"]?.array?.first?["resourceId"]?.string == SampleLedger.resource(4))
        }
    }

    @Test("Metrics count, and hold nothing of a patient")
    func metrics() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        try await sample.fillJournal()
        try await RunningDashboard.serving(sample) { dashboard in
            let text = try await dashboard.get("/metrics").text
            let lines = text.split(separator: "\n").map(String.init)
            #expect(lines.contains(#"dcm_runs{state="failed"} 2"#))
            #expect(lines.contains(#"dcm_jobs{channel="default",service="dcm2nii",state="failed"} 1"#))
            #expect(lines.contains(#"dcm_events_total{reason="modality"} 2"#))
            #expect(lines.contains(#"dcm_workers{state="lost"} 1"#))
            #expect(lines.contains("dcm_broker_connected 1"))
            #expect(lines.contains(#"dcm_channel_paused{channel="gpu"} 1"#))
            #expect(!text.contains("DOE") && !text.contains(SampleLedger.resource(4)))
            #expect(lines.contains(#"dcm_ingest_lag{server="ct"} 20"#))
            #expect(lines.contains(#"dcm_ingest_listed{level="study",server="ct"} 4"#))
            #expect(lines.contains(#"dcm_ingest_resources{level="study",reason="",server="ct",state="dispatched"} 2"#))
            #expect(lines.contains(#"dcm_ingest_resources{level="study",reason="modality",server="ct",state="filtered"} 1"#))
            #expect(lines.contains(#"dcm_ingest_resources{level="study",reason="unstable",server="ct",state="pending"} 1"#))
            // Each family stands together, as the format wants it.
            let names = lines.filter { !$0.hasPrefix("#") }.map { $0.prefix { $0 != "{" && $0 != " " } }
            let blocks = names.reduce(into: [Substring]()) { if $0.last != $1 { $0.append($1) } }
            #expect(Set(blocks).count == blocks.count)
        }
    }
}
