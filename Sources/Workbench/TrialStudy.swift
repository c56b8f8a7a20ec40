package import Foundation
package import Jobs
import Stack

/// The images of one trial, with headers as ingest would have made them.
package struct TrialStudy: Sendable {
    struct File: Sendable, Decodable {
        var path: String
        var series: String
        var id: String
    }

    package var level: ResourceLevel
    /// Without `dcmpath`, unfiltered.
    package var headers: JSONValue
    /// How many images a series has, by its id.
    package var instances: [String: Int]
    var files: [File]
    /// Files of the folder that are no DICOM images.
    package var skipped: Int

    package var images: Int { files.count }

    private struct Answer: Decodable {
        var error: String?
        var headers: JSONValue?
        var instances: [String: Int]?
        var files: [File]?
        var skipped: Int?
    }

    private struct Request: Encodable {
        var folder: String
        var level: ResourceLevel
        var series: String?
        var order: [String]
    }

    /// Reads a folder, whatever its files are called, folders in it included.
    /// - Parameters:
    ///   - series: Orthanc's id of the series that is meant, for a folder with several.
    ///   - order: ids of instances in Orthanc's order, where it is known: the first one of a series gives the tags.
    /// - Throws: ``StackError``: no images, images of several studies, no pydicom.
    package static func read(
        _ folder: URL, level: ResourceLevel, series: String? = nil, order: [String] = [], on bench: Bench
    ) async throws -> TrialStudy {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder), isFolder.boolValue else {
            throw StackError(.notFound, "There is no folder \(folder.path).")
        }
        try bench.makeFolders()
        let request = bench.folder.appending(path: "study-request.json")
        let answer = bench.folder.appending(path: "study.json")
        try JSONEncoder().encode(Request(folder: folder.path, level: level, series: series, order: order)).write(to: request)
        try? FileManager.default.removeItem(at: answer)
        let log = bench.folder.appending(path: "study.log")
        var environment = bench.variables
        environment["PYTHONPATH"] = bench.library.path
        environment["PYTHONUTF8"] = "1"
        let process = try ManagedProcess(
            Command(
                name: "study reader", executable: bench.python,
                arguments: ["-B", "-m", "dcm_processor.host.study", request.path, answer.path], environment: environment, logFile: log))
        let failure = StackError(.timedOut, "The images in \(folder.path) were not read within 10 minutes.", logFile: log)
        do {
            _ = try await poll(for: .seconds(600), every: .milliseconds(20), orThrow: failure) { process.exit }
        } catch {
            _ = await process.kill()
            throw error
        }
        guard let data = try? Data(contentsOf: answer) else {
            throw StackError(.cannotStart, "\(bench.python) could not read the images in \(folder.path).", logFile: log)
        }
        let read = try JSONDecoder().decode(Answer.self, from: data)
        if let error = read.error { throw StackError(.badSetting, error) }
        return TrialStudy(
            level: level, headers: read.headers ?? [:], instances: read.instances ?? [:], files: read.files ?? [],
            skipped: read.skipped ?? 0)
    }

    /// Copies the images to where an export would have put them.
    func copy(to data: URL, _ dcmpath: String) throws {
        let folder = data.appending(path: dcmpath, directoryHint: .isDirectory)
        for file in files {
            let place = level == .series ? folder : folder.appending(path: file.series, directoryHint: .isDirectory)
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: file.path, toPath: place.appending(path: "\(file.id).dcm").path)
        }
    }
}
