import Foundation
import Jobs
import Stack
import Testing

/// The main job: C-STORE in, jobs in their order on two workers, results on disk and in the monitor.
@Suite(.serialized, .timeLimit(.minutes(10))) struct MainJobTests {
    @Test func realStudiesGoThroughTheWholePipeline() async throws {
        try await TestStack.with { stack in
            let images = try await SampleImages.write(into: stack.home)
            try await stack.send(images.small.folder)
            #expect(!images.small.studies.isEmpty)
            for study in images.small.studies {
                let started = try await stack.run(of: study.id)
                let run = try await stack.ended(started)
                #expect(run["state"]?.string == "succeeded", "\(run.states)")
                #expect(run.states == ["export": "succeeded", "temp": "succeeded", "dcm2nii": "succeeded", "preview": "succeeded"])
                try checkOrder(of: run)
                try await checkFiles(of: run, study, stack)
                try await checkJobPage(of: run, stack)
            }
            try await checkOperatorsView(stack, studies: images.small.studies.count)
            try await checkReprocessing(stack, study: try #require(images.small.studies.first).id)
        }
    }

    /// A child starts after its parents have ended.
    private func checkOrder(of run: JSONValue) throws {
        for job in run["jobs"]?.array ?? [] {
            let start = try #require(job["startedAt"]?.string)
            for parent in job["dependsOn"]?.array ?? [] {
                let end = try #require(parent.string.flatMap(run.job)?["finishedAt"]?.string)
                #expect(end <= start, "\(job["name"]?.string ?? "?") started before \(parent.string ?? "?") had ended")
            }
        }
    }

    private func checkFiles(of run: JSONValue, _ study: SampleImages.Study, _ stack: TestStack) async throws {
        let id = try #require(run["id"]?.string)
        let exported = URL(filePath: stack.endpoints.data).appending(path: "dicom/\(id)")
        var count = 0
        for series in study.series {
            let files = try FileManager.default.contentsOfDirectory(atPath: exported.appending(path: series).path)
            #expect(files.allSatisfy { $0.hasSuffix(".dcm") }, "unfinished files are left: \(files)")
            count += files.count
        }
        #expect(count == study.instances)
        let nifti = try FileManager.default.subpathsOfDirectory(atPath: stack.endpoints.data + "/nifti")
        #expect(nifti.contains { $0.contains(id) && $0.hasSuffix(".nii.gz") })
    }

    /// The preview is an artifact that the monitor hands out; the log is what the job printed.
    private func checkJobPage(of run: JSONValue, _ stack: TestStack) async throws {
        let preview = try await stack.get("/api/v1/jobs/\(try #require(run.job("preview")?["id"]?.string))")
        let artifact = try #require(preview["artifacts"]?.array?.first)
        let path = try #require(artifact["url"]?.string)
        let url = try #require(URL(string: stack.endpoints.monitor + path))
        let image = try await LoopbackHTTP.request("GET", url, credentials: .bearer(stack.endpoints.monitorToken))
        #expect(image.status == 200)
        #expect(image.body.starts(with: [0x89, 0x50, 0x4e, 0x47]))
        let temp = try #require(run.job("temp")?["id"]?.string)
        let log = try await stack.get("/api/v1/jobs/\(temp)/log?offset=0")
        #expect(log["text"]?.string?.isEmpty == false)
        let attempts = try await stack.get("/api/v1/jobs/\(temp)")["attempts"]?.array
        #expect(attempts?.count == 1)
    }

    private func checkOperatorsView(_ stack: TestStack, studies: Int) async throws {
        let workers = try await stack.get("/api/v1/workers")["workers"]?.array
        #expect(workers?.count == 2)
        let events = try await stack.get("/api/v1/events")["events"]?.array
        #expect((events?.count ?? 0) >= studies)
        let services = try await stack.get("/api/v1/services")["services"]?.array?.compactMap { $0["name"]?.string }
        #expect(Set(services ?? []).isSuperset(of: ["dcm2nii", "preview", "temp"]))
        let metrics = try await LoopbackHTTP.request(
            "GET", try #require(URL(string: stack.endpoints.monitor + "/metrics")), credentials: .bearer(stack.endpoints.monitorToken))
        #expect(metrics.status == 200)
    }

    private func checkReprocessing(_ stack: TestStack, study: String) async throws {
        let first = try #require(try await stack.run(of: study)["id"]?.string)
        try await stack.post("/api/v1/runs/\(first)/reprocess")
        let second = try await until("a second run") {
            let runs = try await stack.get("/api/v1/runs?limit=100")["runs"]?.array ?? []
            return runs.first { $0["resourceId"]?.string == study && $0["id"]?.string != first }
        }
        let ended = try await stack.ended(second)
        #expect(ended["state"]?.string == "succeeded", "\(ended.states)")
    }
}
