import Foundation
import Jobs
import Stack
import Synchronization
import Testing

/// What arrives in a test: small studies, each with a UID of its own, sent by C-STORE as a scanner would.
enum Arrivals {
    private static let counter = Mutex(0)

    /// A study that no other one is like, of its own patient.
    static func study(series: Int = 1, instances: Int = 1, description: String = "") -> [SmallImage] {
        let number = counter.withLock { counter in
            counter += 1
            return counter
        }
        return (1...series).flatMap { series in
            (1...instances).map { instance in
                SmallImage(
                    study: "1.2.3.\(1000 + number)", patient: "\(1000 + number)", series: "\(series)", instance: "\(instance)",
                    description: description)
            }
        }
    }
}

extension PipelineProcesses {
    /// Sends in this order, in one association, and returns when Orthanc has taken everything.
    func send(_ images: [SmallImage]) async throws {
        let files = folder.appending(path: "send-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: files, withIntermediateDirectories: true)
        var paths: [String] = []
        for (index, image) in images.enumerated() {
            let file = files.appending(path: "\(index).dcm")
            try image.file.write(to: file)
            paths.append(file.path)
        }
        let command = Command(
            name: "storescu", executable: try FileSystem.program("storescu"),
            arguments: ["-aec", orthanc.aet, "127.0.0.1", "\(orthanc.dicomPort)"] + paths,
            // Otherwise each image waits 40 ms for an acknowledgement.
            environment: Command.plainEnvironment.merging(["TCP_NODELAY": "1"]) { $1 }, logFile: files.appending(path: "storescu.log"))
        let process = try ManagedProcess(command)
        let exit = try await until("\(images.count) images are sent") { process.exit }
        guard exit == .status(0) else {
            throw TestFailure("storescu ended with \(exit): \(LogTail.lastLines(of: command.logFile, count: 5))")
        }
        try FileManager.default.removeItem(at: files)
    }

    /// Sends studies in one association.
    func send(_ studies: [[SmallImage]]) async throws { try await send(studies.flatMap(\.self)) }

    /// Orthanc's id of a study.
    func id(of study: [SmallImage]) async throws -> String {
        let uid = try #require(study.first?.study)
        let found = try await orthanc.ask("POST", "/tools/lookup", body: Data(uid.utf8))
        return try #require(found.array?.first { $0["Type"]?.string == "Study" }?["ID"]?.string, "Orthanc does not have study \(uid)")
    }

    /// Sends a study and waits until it has its run.
    func sendAndWait(_ study: [SmallImage]) async throws {
        try await send(study)
        _ = try await run(of: id(of: study))
    }

    /// Orthanc's ids of the studies that its change log calls stable, in order and with repetitions.
    func stableStudies() async throws -> [String] {
        let page = try await orthanc.ask("GET", "/changes?limit=1000000")
        return (page["Changes"]?.array ?? []).filter { $0["ChangeType"]?.string == "StableStudy" }.compactMap { $0["ID"]?.string }
    }

    /// Waits until the change log calls a study stable so often.
    func stable(_ study: [SmallImage], times: Int = 1) async throws {
        let id = try await id(of: study)
        _ = try await until("study \(id) is stable") {
            try await stableStudies().count { $0 == id } >= times ? true : nil
        }
    }

    /// When the change log first called each of so many studies stable, by Orthanc's id.
    func watchStable(_ count: Int) async throws -> [String: Date] {
        var seen: [String: Date] = [:]
        var last: Int64 = 0
        let deadline = ContinuousClock.now + .seconds(60)
        while seen.count < count {
            guard ContinuousClock.now < deadline else { throw TestFailure("After 60 s \(seen.count) of \(count) studies are stable.") }
            let page = try await orthanc.ask("GET", "/changes?since=\(last)&limit=1000")
            let now = Date()
            for change in page["Changes"]?.array ?? [] {
                last = max(last, change["Seq"]?.integer ?? 0)
                guard change["ChangeType"]?.string == "StableStudy", let id = change["ID"]?.string, id != study.id else { continue }
                if seen[id] == nil { seen[id] = now }
            }
            // Shorter than `until` would, because this is a measurement.
            try await Task.sleep(for: .milliseconds(3))
        }
        return seen
    }

    /// The lines of Orthanc's log that tell of a request, since the log level is `verbose`.
    func requests() -> [String] {
        let log = (try? String(contentsOf: orthanc.node.logFile, encoding: .utf8)) ?? ""
        return log.split(separator: "\n").filter { $0.contains("(http) ") && $0.contains(" /") }.map(String.init)
    }
}
