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
            #expect(run["reason"]?["text"] == "Job dcm2nii ended failed.")
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
            #expect(waiting["explanation"] == "Waits for dcm2nii (running).")
            let paused = try await dashboard.get("/api/v1/jobs/\(hospital.paused).4").json
            #expect(paused["explanation"]?.string?.hasPrefix("Channel gpu is paused by operator") == true)
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

    @Test("What cannot be is refused with a reason and never sent")
    func impossibleCommands() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for (path, status) in [
                ("/api/v1/jobs/\(hospital.succeeded).2/cancel", 409), ("/api/v1/jobs/\(hospital.active).2/retry", 409),
                ("/api/v1/jobs/\(hospital.succeeded).2/retry", 409), ("/api/v1/runs/\(hospital.failed)/cancel", 409),
                ("/api/v1/runs/nonsense/retry", 404), ("/api/v1/channels/No%20Channel/pause", 400),
            ] {
                let answer = try await dashboard.send("POST", path)
                #expect(answer.status == status, "\(path)")
                #expect(answer.headers["content-type"] == "application/problem+json")
                #expect(try answer.json["detail"]?.string?.isEmpty == false)
            }
            dashboard.commands.goAway()
            #expect(try await dashboard.send("POST", "/api/v1/runs/\(hospital.failed)/retry").status == 503)
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

    @Test("Metrics count, and hold nothing of a patient")
    func metrics() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
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
            // Each family stands together, as the format wants it.
            let names = lines.filter { !$0.hasPrefix("#") }.map { $0.prefix { $0 != "{" && $0 != " " } }
            let blocks = names.reduce(into: [Substring]()) { if $0.last != $1 { $0.append($1) } }
            #expect(Set(blocks).count == blocks.count)
        }
    }
}
