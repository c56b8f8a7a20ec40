import Foundation
import Jobs
import Stack

/// Real images: the sample patients of the demo, with fresh UIDs at each call.
struct SampleImages {
    struct Study: Sendable {
        /// Orthanc's id.
        var id: String
        var instances: Int
        var series: [String]
    }

    let folder: URL
    private let manifest: JSONValue

    static func write(into home: URL) async throws -> SampleImages {
        let folder = home.appending(path: "images-\(UUID().uuidString.prefix(8))")
        // Kept between tests: the images come from a Python package.
        let cache = FileManager.default.temporaryDirectory.appending(path: "dcm-test-cache")
        let command = Command(
            name: "sample_studies.py", executable: "/usr/bin/python3",
            arguments: [TestStack.checkout.appending(path: "python/demo/sample_studies.py").path, folder.path, "--cache", cache.path],
            environment: ProcessInfo.processInfo.environment, logFile: home.appending(path: "images.log"))
        let process = try ManagedProcess(command)
        let exit = try await until("the sample images are written", limit: .seconds(300)) { process.exit }
        guard exit == .status(0) else {
            throw TestFailure("sample_studies.py ended with \(exit): \(LogTail.lastLines(of: command.logFile, count: 5))")
        }
        return SampleImages(folder: folder, manifest: try JSONValue(json: Data(contentsOf: folder.appending(path: "studies.json"))))
    }

    /// The studies of the patient with few and tiny images.
    var small: (folder: URL, studies: [Study]) { patient(0) }

    private func patient(_ index: Int) -> (folder: URL, studies: [Study]) {
        let patient = manifest["patients"]?.array?[index]
        let studies = (patient?["studies"]?.array ?? []).map { study in
            Study(
                id: study["id"]?.string ?? "", instances: study["instances"]?.integer.map(Int.init) ?? 0,
                series: (study["series"]?.array ?? []).compactMap(\.string))
        }
        return (folder.appending(path: patient?["folder"]?.string ?? ""), studies)
    }
}

extension TestStack {
    /// C-STORE of everything below a folder.
    func send(_ folder: URL) async throws {
        let command = Command(
            name: "storescu", executable: try FileSystem.program("storescu"),
            arguments: ["-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", "\(endpoints.orthancDicomPort)", folder.path],
            environment: ProcessInfo.processInfo.environment, logFile: home.appending(path: "storescu.log"))
        let process = try ManagedProcess(command)
        let exit = try await until("the images are sent", limit: .seconds(120)) { process.exit }
        guard exit == .status(0) else { throw TestFailure("storescu ended with \(exit)") }
    }
}
