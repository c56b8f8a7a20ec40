import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Pipeline
import Stack
import Synchronization
import Testing

@testable import Ingest

/// A private Orthanc, a journal, and a publisher that remembers instead of a broker.
final class OrthancFixture: Sendable {
    let folder: URL
    let orthanc: PrivateOrthanc
    let journal: IngestJournal
    let events = RecordedEvents()

    private init(folder: URL, orthanc: PrivateOrthanc) throws {
        self.folder = folder
        self.orthanc = orthanc
        journal = try IngestJournal(folder: folder.appending(path: "state"))
    }

    static func with(
        stableAge: Int = 1, hook: OrthancNode.Hook? = nil, _ body: (OrthancFixture) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ingest-\(UUID().uuidString)", directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let orthanc = try await PrivateOrthanc.start(
            in: folder.appending(path: "orthanc", directoryHint: .isDirectory), stableAge: stableAge, hook: hook)
        do {
            try await body(OrthancFixture(folder: folder, orthanc: orthanc))
            await orthanc.stop()
        } catch {
            await orthanc.stop()
            throw error
        }
    }

    var client: OrthancClient {
        get throws { try client(password: orthanc.password) }
    }

    func client(password: String) throws -> OrthancClient {
        OrthancClient(endpoint: try OrthancEndpoint(url: orthanc.url, user: orthanc.user, password: password))
    }

    func follower(password: String? = nil, _ change: (inout IngestConfiguration) -> Void = { _ in }) throws -> SourceFollower {
        var configuration = IngestConfiguration()
        configuration.pollInterval = .milliseconds(50)
        configuration.sweepInterval = .milliseconds(200)
        configuration.stableAge = 1
        configuration.sweepMargin = 1
        configuration.backoff = IngestConfiguration.Backoff(initial: .milliseconds(50), maximum: .milliseconds(100))
        change(&configuration)
        return SourceFollower(
            client: try client(password: password ?? orthanc.password), configuration: configuration, journal: journal, publisher: events,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// One slice with everything that a test may want to choose.
    struct Slice {
        var patient = "1"
        var study = "1"
        var series = "1"
        var instance: Int
        var modality = "CT"
        var isOwnResult = false
    }

    /// Sends by C-STORE and returns when Orthanc has taken everything.
    func send(_ slices: [Slice]) async throws {
        let files = folder.appending(path: "send-\(UUID().uuidString)", directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: files, withIntermediateDirectories: true)
        for (index, slice) in slices.enumerated() {
            let text = files.appending(path: "\(index).txt")
            try Data(slice.dump.utf8).write(to: text)
            try await run("dump2dcm", ["-q", "+te", "-g", text.path, files.appending(path: "\(index).dcm").path])
            try FileManager.default.removeItem(at: text)
        }
        try await run("storescu", ["+sd", "+r", "-aec", orthanc.aet, "127.0.0.1", "\(orthanc.dicomPort)", files.path])
    }

    /// Sends one file over the REST API. Orthanc may refuse it.
    func upload(_ file: Data) async throws {
        let url = try #require(URL(string: orthanc.url + "/instances"))
        _ = try await LoopbackHTTP.request(
            "POST", url, credentials: .basic(user: orthanc.user, password: orthanc.password), body: file, contentType: "application/dicom")
    }

    func delete(_ path: String) async throws {
        let url = try #require(URL(string: orthanc.url + path))
        let answer = try await LoopbackHTTP.request(
            "DELETE", url, credentials: .basic(user: orthanc.user, password: orthanc.password), limit: .seconds(10))
        #expect(answer.status == 200)
    }

    private func run(_ program: String, _ arguments: [String]) async throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [program] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        let status = try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Int32, any Error>) in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do {
                try process.run()
            } catch {
                continuation.resume(throwing: error)
            }
        }
        #expect(status == 0, "\(program)")
    }
}

extension OrthancFixture.Slice {
    /// In dcmtk's dump format.
    fileprivate var dump: String {
        var lines = [
            "(0008,0008) CS [ORIGINAL\\PRIMARY\\AXIAL]",
            "(0008,0016) UI [1.2.840.10008.5.1.4.1.1.2]",
            "(0008,0018) UI [1.2.3.\(patient).\(study).\(series).\(instance)]",
            "(0008,0060) CS [\(modality)]",
            "(0010,0010) PN [Test^Patient]",
            "(0010,0020) LO [P\(patient)]",
            "(0020,000d) UI [1.2.3.\(patient).\(study)]",
            "(0020,000e) UI [1.2.3.\(patient).\(study).\(series)]",
            "(0020,0011) IS [\(series)]",
            "(0020,0013) IS [\(instance)]",
            "(0020,0032) DS [0\\0\\\(instance)]",
            "(0020,0037) DS [1\\0\\0\\0\\1\\0]",
            "(0028,0002) US 1",
            "(0028,0010) US 2",
            "(0028,0011) US 2",
            "(0028,0100) US 16",
            "(7fe0,0010) OW 1\\2\\3\\4",
        ]
        if isOwnResult {
            lines += ["(0405,0010) LO [DCM-PROCESSOR]", "(0405,1005) LO [dcm-processor]"]
        }
        return lines.sorted().joined(separator: "\n") + "\n"
    }
}

/// Stands in for the broker.
final class RecordedEvents: EventPublishing {
    struct Refusal: Error {}

    private struct State {
        var events: [EventMessage] = []
        var refusals = 0
    }

    private let state = Mutex(State())

    func publish(_ event: EventMessage) async throws {
        let isRefused = state.withLock { state in
            if state.refusals > 0 {
                state.refusals -= 1
                return true
            }
            state.events.append(event)
            return false
        }
        if isRefused { throw Refusal() }
    }

    func refuse(_ count: Int) {
        state.withLock { $0.refusals = count }
    }

    var all: [EventMessage] { state.withLock { $0.events } }
}

extension SourceFollower {
    /// Rounds until `condition` holds; a failed expectation when that takes longer than `limit`.
    mutating func follow(
        within limit: Duration = .seconds(60), sourceLocation: SourceLocation = #_sourceLocation, until condition: () async throws -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            let pause = try await round()
            if try await condition() { return }
            try await Task.sleep(for: pause)
        }
        Issue.record("the condition did not come true within \(limit)", sourceLocation: sourceLocation)
    }

    /// Rounds for some time in which nothing should happen.
    mutating func follow(for duration: Duration) async throws {
        let deadline = ContinuousClock.now + duration
        while ContinuousClock.now < deadline {
            try await Task.sleep(for: try await round())
        }
    }
}
