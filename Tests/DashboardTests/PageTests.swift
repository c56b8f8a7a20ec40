import Foundation
import JobStore
import Jobs
import Logging
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(2)))
struct PageTests {
    @Test("Every page shows, with nothing to show and with everything", arguments: [true, false])
    func everyPage(isFull: Bool) async throws {
        let sample = try SampleLedger()
        var paths = [
            "/", "/runs", "/runs?state=failed&q=x", "/workers", "/queues", "/services", "/dead", "/events", "/events?reason=modality",
            "/dead?service=x&error=y&from=2026-01-01", "/bulk", "/bulk/new?kind=runs&action=reprocess",
            "/bulk/new?kind=jobs&action=retry&state=dead",
        ]
        if isFull {
            let hospital = try sample.fillHospital(older: 3)
            for run in [
                hospital.succeeded, hospital.active, hospital.failed, hospital.retrying, hospital.dead, hospital.cancelled,
                hospital.declined,
                hospital.paused, hospital.reprocessed,
            ] {
                paths.append("/runs/\(run)")
                if run != hospital.declined { paths += (0..<6).map { "/jobs/\(run).\($0)" } }
            }
        }
        try await RunningDashboard.serving(sample) { [paths] dashboard in
            for path in paths {
                let page = try await dashboard.get(path)
                #expect(page.status == 200, "\(path)")
                #expect(page.headers["content-type"] == "text/html; charset=utf-8")
                #expect(page.headers["content-security-policy"]?.contains("default-src 'none'") == true)
                #expect(page.text.hasSuffix("</html>\n"), "\(path)")
                #expect(!page.text.contains("style=\"") && !page.text.contains("<script>") && !page.text.contains(" onclick"), "\(path)")
                #expect(!page.text.contains("Optional("), "\(path)")
            }
        }
    }

    @Test("The first visit says what to do next")
    func empty() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/").text
            #expect(page.contains("No event yet"))
            #expect(page.contains("storescu"))
            let runs = try await dashboard.get("/runs").text
            #expect(runs.contains("No runs yet") && !runs.contains("class=\"pager\""))
            let lost = try await dashboard.get("/runs/none")
            #expect(lost.status == 404 && lost.text.contains("<a href=\"/dead\">Dead letters</a>"))
            #expect(try await dashboard.get("/workers").text.contains("No worker has been seen"))
        }
    }

    @Test("Whoever pastes an id is taken there")
    func paste() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let run = try await dashboard.get("/runs?q=\(hospital.failed.lowercased())")
            #expect(run.headers["location"] == "/runs/\(hospital.failed)")
            let job = try await dashboard.get("/runs?q=\(hospital.failed).2")
            #expect(job.headers["location"] == "/jobs/\(hospital.failed).2")
            let unknown = try await dashboard.get("/runs?q=\(hospital.failed).77")
            #expect(unknown.status == 200)
        }
    }

    @Test("A patient's name is on no page")
    func masked() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/runs/\(hospital.succeeded)").text
            for secret in ["DOE", "98890234", "19700101", "ACC-4711", "ROE", "Main Street", "General Hospital"] {
                #expect(!page.contains(secret), "\(secret)")
            }
            #expect(page.contains("Head CT") && page.contains("SliceThickness"))
        }
    }

    @Test(
        "Hostile text stays text",
        arguments: [
            "<script>alert(1)</script>", "\" onmouseover=\"alert(1)", "'><img src=x>", "\"\u{301} onclick=x", "{{{page}}}",
            "a\u{202E}b\u{0}c",
        ])
    func hostile(text: String) async throws {
        let sample = try SampleLedger()
        let event = try sample.addEvent(
            resource: text, filtered: nil, series: [.init(id: text, instances: 1)], refused: [text: ["code": "x", "text": .string(text)]],
            headers: ["StudyDescription": .string(text)])
        let failure = JobExit.Failure(type: text, message: text, traceback: text)
        let run = try sample.addRun(
            event: event, resource: text, secondsAgo: 1, state: .failed, reason: Reason(text, text), addedParams: ["x": .string(text)],
            jobs: [
                .init(
                    name: text, service: text, state: .failed, reason: Reason(text, text), worker: text, queued: 0, started: 0, finished: 1,
                    failure: failure, result: .string(text), params: .string(text))
            ],
            attempts: [.init(job: 0, worker: text, claimed: 0, ended: 1, lost: Reason(text, text))],
            decisions: [Decision(job: text, service: text, stage: .services, verdict: .failed, reason: Reason(text, text), output: text)])
        try sample.addDeadMessage(queue: text, reason: text)
        try sample.addWorker(text, channels: [text])
        try sample.addService(text, jobs: [], problems: [["severity": .string("error"), "message": .string(text)]])
        try await RunningDashboard.serving(sample) { dashboard in
            let query = text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
            for path in [
                "/", "/runs", "/runs?q=\(query)", "/runs/\(run)", "/jobs/\(run).0", "/workers", "/queues", "/services", "/dead", "/events",
            ] {
                let page = try await dashboard.get(path)
                #expect(page.status == 200, "\(path)")
                let scalars = page.text.unicodeScalars
                #expect(!page.text.contains("<script>alert"), "\(path)")
                #expect(!page.text.contains("<img src=x"), "\(path)")
                // Not as characters: a quotation mark may carry an accent and would not be found.
                #expect(!String(String.UnicodeScalarView(scalars.filter { $0 != "\u{301}" })).contains("\" on"), "\(path)")
                #expect(!scalars.contains("\u{202E}") && !scalars.contains("\u{0}"), "\(path)")
            }
        }
    }

    @Test("The port is in use: the error names it and the variable")
    func portInUse() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { first in
            let ledger = LedgerReader(path: sample.path)
            let second = DashboardServer(
                configuration: try DashboardConfiguration(port: first.port, data: sample.data, logs: sample.logs), ledger: ledger,
                journal: IngestJournalReader(path: "/nowhere"), store: first.store, sender: first.commands, feed: first.feed,
                logger: .init(label: "test"))
            let error = await #expect(throws: DashboardError.self) { try await second.run() }
            #expect(error?.code == .portInUse)
            #expect(error?.message.contains("\(first.port)") == true && error?.message.contains("MONITOR_PORT") == true)
        }
    }
}
