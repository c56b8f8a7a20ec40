import Foundation
import Jobs
import Stack
import Testing

/// Services in the shapes of the Python project's (`Fixtures/upstream`), for events of series and of patients, on a real stack.
@Suite(.serialized, .timeLimit(.minutes(5))) struct UpstreamServicesTests {
    @Test func servicesOfThePythonProjectRunAsTheyAre() async throws {
        let services = try #require(Bundle.module.url(forResource: "Fixtures/upstream", withExtension: nil))
        try await TestStack.with(services: services, environment: ["EVENTS": "series,patient"]) { stack in
            let images = try await SampleImages.write(into: stack.home)
            let some = try stack.copy(images.small.folder, upTo: 6)
            try await stack.send(some)
            let series = try await until("all series of the images are in Orthanc") { try await stack.series(of: 6) }
            let sample = images.small.studies.flatMap(\.series).filter(series.contains)
            for id in sample {
                let run = try await stack.ended(try await stack.run(of: id))
                try await check(run, series: [id], stack)
            }
            let run = try await stack.ended(try await stack.run(level: "patient"))
            try await check(run, series: sample, stack)
        }
    }

    private func check(_ run: JSONValue, series: [String], _ stack: TestStack) async throws {
        let names = ["export", "anonymize", "dcm2nii", "ms-sub", "store", "clean"]
        #expect(run.states == Dictionary(uniqueKeysWithValues: names.map { ($0, "succeeded") }))
        let reader = try await stack.get("/api/v1/jobs/\(try #require(run.job("ms-sub")?["id"]?.string))")
        let result = try #require(reader["result"])
        // The dependant has found every file, and seen what all callbacks of this event have added.
        let counts = result["counts"]?.array?.compactMap(\.integer) ?? []
        #expect(!counts.isEmpty && counts.count <= series.count && counts.allSatisfy { $0 > 0 }, "\(counts)")
        #expect(result["seen"]?.array?.compactMap(\.string) == ["anonymize", "clean", "dcm2nii", "ms-sub", "store"])
        let id = try #require(run["id"]?.string)
        #expect(!FileManager.default.fileExists(atPath: stack.endpoints.data + "/dicom/\(id)"))
    }
}

extension TestStack {
    /// The first files of a folder in one of their own.
    fileprivate func copy(_ folder: URL, upTo count: Int) throws -> URL {
        let target = home.appending(path: "some-images")
        try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().prefix(count) {
            try FileManager.default.copyItem(at: folder.appending(path: name), to: target.appending(path: name))
        }
        return target
    }

    /// Orthanc's series, once it holds so many images; nil until then.
    fileprivate func series(of instances: Int) async throws -> Set<String>? {
        guard try await list("/instances").count == instances else { return nil }
        return Set(try await list("/series"))
    }

    private func list(_ path: String) async throws -> [String] {
        try await orthanc(path).array?.compactMap(\.string) ?? []
    }

    /// The first run of a level, once there is one.
    fileprivate func run(level: String) async throws -> JSONValue {
        let summary = try await until("a run of a \(level)") {
            try await get("/api/v1/runs?limit=100")["runs"]?.array?.last { $0["level"]?.string == level }
        }
        return try await get("/api/v1/runs/\(try #require(summary["id"]?.string))")
    }
}
