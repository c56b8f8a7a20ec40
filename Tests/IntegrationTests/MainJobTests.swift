import Foundation
import Jobs
import Stack
import Testing

/// The main job: C-STORE in, jobs in their order on two workers, results on disk and in the monitor.
@Suite(.serialized, .timeLimit(.minutes(10))) struct MainJobTests {
    @Test func realStudiesGoThroughTheWholePipeline() async throws {
        // Kept between tests: the packages come from PyPI.
        let environments = FileManager.default.temporaryDirectory.appending(path: "dcm-test-environments")
        try await TestStack.with(environment: ["ENVIRONMENTS": environments.path]) { stack in
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
            let study = try #require(images.small.studies.first)
            let second = try await checkReprocessing(stack, study: study.id)
            try await checkBundledServices(stack, study, after: second)
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

    private func checkReprocessing(_ stack: TestStack, study: String) async throws -> String {
        let first = try #require(try await stack.run(of: study)["id"]?.string)
        let ended = try await reprocess(first, of: study, stack)
        #expect(ended["state"]?.string == "succeeded", "\(ended.states)")
        return try #require(ended["id"]?.string)
    }

    private func reprocess(_ id: String, of study: String, _ stack: TestStack) async throws -> JSONValue {
        func runs() async throws -> [JSONValue] {
            try await (stack.get("/api/v1/runs?limit=100")["runs"]?.array ?? []).filter { $0["resourceId"]?.string == study }
        }
        let known = Set(try await runs().compactMap { $0["id"]?.string })
        try await stack.post("/api/v1/runs/\(id)/reprocess")
        let run = try await until("one more run") {
            try await runs().first { !known.contains($0["id"]?.string ?? "") }
        }
        return try await stack.ended(run, limit: .seconds(240))
    }

    /// The services that de-identify, store and clean, installed while everything runs: results are in Orthanc, the run's files are gone.
    private func checkBundledServices(_ stack: TestStack, _ study: SampleImages.Study, after previous: String) async throws {
        for name in ["dicomAnonymizer", "storageManager", "systemcleaner"] {
            try await TestStack.tool(["service", "install", name, "--home", stack.home.path])
        }
        let run = try await reprocess(previous, of: study.id, stack)
        let names = ["export", "dicomAnonymizer", "temp", "dcm2nii", "preview", "storageManager", "systemcleaner"]
        #expect(run.states == Dictionary(uniqueKeysWithValues: names.map { ($0, "succeeded") }))
        try checkOrder(of: run)
        let id = try #require(run["id"]?.string)
        let files = try FileManager.default.subpathsOfDirectory(atPath: stack.endpoints.data)
        #expect(files.filter { $0.contains(id) && !$0.hasPrefix(".") } == [])
        let series = try await stack.orthanc("/studies/\(study.id)")["Series"]?.array?.compactMap(\.string) ?? []
        var derived: Set<String> = []
        for id in Set(series).subtracting(study.series) {
            derived.insert(try await stack.orthanc("/series/\(id)")["MainDicomTags"]?["Modality"]?.string ?? "none")
        }
        // The pictures, and the report of what was removed.
        #expect(derived == ["OT", "SR"])
        // They make no run of their own.
        let refused = try await until("the results' event") {
            try await stack.get("/api/v1/events?limit=100")["events"]?.array?.first { $0["reason"]?["code"]?.string == "own-result" }
        }
        #expect(refused["resourceId"]?.string == study.id)
    }
}
