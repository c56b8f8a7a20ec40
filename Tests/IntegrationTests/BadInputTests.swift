import AMQP
import Foundation
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Stack
import Testing

/// Everything that can be wrong with a service, a study or a message: each stays alone with its trouble, and says what it is.
@Suite(.serialized, .timeLimit(.minutes(10))) struct BadInputTests {
    @Test func nothingBadStopsTheRest() async throws {
        let services = try #require(Bundle.module.url(forResource: "Fixtures/bad", withExtension: nil))
        try await TestStack.with(services: services) { stack in
            let images = try await SampleImages.write(into: stack.home)
            try await stack.send(images.small.folder)
            let study = try #require(images.small.studies.first)
            let started = try await stack.run(of: study.id)
            let run = try await stack.ended(started)
            try checkCallbacks(run)
            try checkStates(run)
            try await checkEnds(run, stack)
            try await checkServices(stack)
            try await checkRetry(run, stack)
            try await checkVanishedStudy(images.small.studies[1].id, stack)
            try await checkGarbage(stack)
            // After all that, the pipeline still works.
            let fresh = try await SampleImages.write(into: stack.home)
            try await stack.send(fresh.small.folder)
            let again = try await stack.ended(try await stack.run(of: try #require(fresh.small.studies.first).id))
            #expect(again.states["after-fine"] == "succeeded")
        }
    }

    private func checkCallbacks(_ run: JSONValue) throws {
        let decisions = run["decisions"]?.array ?? []
        func decision(_ job: String) throws -> JSONValue {
            try #require(decisions.first { $0["job"]?.string == job }, "no decision about \(job)")
        }
        for job in ["asks-raising", "asks-hanging", "asks-exiting", "asks-missing"] {
            #expect(try decision(job)["verdict"]?.string == "failed")
            #expect(run.job(job) == nil)
        }
        #expect(try decision("asks-raising")["output"]?.string?.contains("this callback always raises") == true)
        #expect(try decision("asks-no")["verdict"]?.string == "declined")
        #expect(try decision("asks-nonsense")["verdict"]?.string == "accepted")
        #expect(try decision("needs-no")["verdict"]?.string == "skipped")
        #expect(try decision("fine")["verdict"]?.string == "accepted")
    }

    private func checkStates(_ run: JSONValue) throws {
        let expected = [
            "export": "succeeded", "fine": "succeeded", "asks-nonsense": "succeeded", "raises": "failed", "hangs": "failed",
            "exits": "failed", "kills-itself": "failed", "not-there": "failed", "second-time": "succeeded", "after-raises": "skipped",
            "after-fine": "succeeded", "needs-no": "skipped",
        ]
        #expect(run.states == expected)
        #expect(run["state"]?.string == "failed")
        #expect(run.job("after-raises")?["reason"]?["code"]?.string == "dependency-failed")
        #expect(run.job("second-time")?["attempt"]?.integer == 2)
    }

    /// Each end has its class, and the traceback is there for the page.
    private func checkEnds(_ run: JSONValue, _ stack: TestStack) async throws {
        let kinds = [
            "raises": "exception", "hangs": "timeout", "exits": "no-result", "kills-itself": "killed", "not-there": "broken-service",
        ]
        for (name, kind) in kinds {
            let id = try #require(run.job(name)?["id"]?.string)
            let job = try await stack.get("/api/v1/jobs/\(id)")
            let attempt = try #require(job["attempts"]?.array?.last, "\(name) has no attempt")
            #expect(attempt["kind"]?.string == kind, "\(name) ended by \(attempt["kind"]?.string ?? "?")")
        }
        let raises = try await stack.get("/api/v1/jobs/\(try #require(run.job("raises")?["id"]?.string))")
        #expect(raises["error"]?["traceback"]?.string?.contains("this worker always raises") == true)
        let log = try await stack.get("/api/v1/jobs/\(try #require(raises["id"]?.string))/log?offset=0")
        #expect(log["text"]?.string?.contains("about to raise") == true)
        // The hanging job's child ignored SIGTERM, and is gone all the same.
        let file = URL(filePath: stack.endpoints.data).appending(path: "hanging-child-\(try #require(run["id"]?.string)).pid")
        let child = try #require(Int32(try String(contentsOf: file, encoding: .utf8)))
        // A zombie has no command line any more, and the number may be somebody else's by now.
        let command = (try? Data(contentsOf: URL(filePath: "/proc/\(child)/cmdline"))).map { String(decoding: $0, as: UTF8.self) } ?? ""
        #expect(!command.contains("time.sleep(600)"))
    }

    private func checkServices(_ stack: TestStack) async throws {
        let services = try await stack.get("/api/v1/services")["services"]?.array ?? []
        for name in ["notjson", "lacking"] {
            let service = try #require(services.first { $0["name"]?.string == name }, "\(name) is not listed")
            #expect(service["problems"]?.array?.isEmpty == false)
        }
    }

    private func checkRetry(_ run: JSONValue, _ stack: TestStack) async throws {
        let id = try #require(run.job("raises")?["id"]?.string)
        try await stack.post("/api/v1/jobs/\(id)/retry")
        let job = try await until("job \(id) failed again") {
            let job = try await stack.get("/api/v1/jobs/\(id)")
            return job["attempt"]?.integer == 2 && job["state"]?.string == "failed" ? job : nil
        }
        #expect(job["attempts"]?.array?.count == 2)
    }

    /// A study that is deleted between its event and the export.
    private func checkVanishedStudy(_ study: String, _ stack: TestStack) async throws {
        let first = try await stack.ended(try await stack.run(of: study))
        let firstID = try #require(first["id"]?.string)
        try await stack.post("/api/v1/channels/default/pause")
        try await stack.post("/api/v1/runs/\(firstID)/reprocess")
        let second = try await until("a second run of the study") {
            let runs = try await stack.get("/api/v1/runs?limit=100")["runs"]?.array ?? []
            return runs.first { $0["resourceId"]?.string == study && $0["id"]?.string != firstID }
        }
        #expect(try await stack.orthanc("DELETE", "/studies/\(study)") == 200)
        try await stack.post("/api/v1/channels/default/resume")
        let ended = try await stack.ended(second)
        #expect(ended.states["export"] == "dead")
        #expect(ended.states["fine"] == "skipped")
        let export = try await stack.get("/api/v1/jobs/\(try #require(ended.job("export")?["id"]?.string))")
        #expect(export["attempts"]?.array?.last?["kind"]?.string == "gone")
        let dead = try await stack.get("/api/v1/dead")
        #expect(dead.text.contains(try #require(ended.job("export")?["id"]?.string)))
    }

    /// A message that is not JSON on each queue goes to the dead letters with its reason.
    private func checkGarbage(_ stack: TestStack) async throws {
        let targets = [
            (PipelineExchange.ingest, "study.stable", EventMessage.type, PipelineQueue.ingest),
            (PipelineExchange.router, PipelineKey.claim, ClaimMessage.type, PipelineQueue.claims),
            (PipelineExchange.router, PipelineKey.renew, RenewMessage.type, PipelineQueue.claims),
            (PipelineExchange.router, PipelineKey.result, ResultMessage.type, PipelineQueue.results),
            (PipelineExchange.router, PipelineKey.command, CommandMessage.type, PipelineQueue.commands),
            (PipelineExchange.jobs, "default", HintMessage.type, PipelineQueue.jobs(channel: "default")),
        ]
        let client = AMQPClient(
            configuration: AMQPConfiguration(
                endpoints: [try AMQPEndpoint(uri: stack.endpoints.amqp)], connectionName: "test"),
            topology: AMQPTopology(), logger: Logger(label: "test"))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await client.run() }
            for (index, target) in targets.enumerated() {
                try await client.publish(
                    AMQPPublishing(
                        exchange: target.0, routingKey: target.1,
                        properties: AMQPProperties(type: target.2, messageID: "garbage-\(index)"), body: Array("this is not JSON".utf8)))
            }
            group.cancelAll()
        }
        let queues = try await until("all garbage is in the dead letters") {
            let messages = try await stack.get("/api/v1/dead")["messages"]?.array ?? []
            let garbage = messages.filter { $0["messageId"]?.string?.hasPrefix("garbage-") == true }
            return garbage.count == targets.count ? garbage : nil
        }
        #expect(Set(queues.compactMap { $0["queue"]?.string }) == Set(targets.map(\.3)))
        #expect(queues.allSatisfy { $0["reason"]?.string == "not a JSON document" })
    }
}
