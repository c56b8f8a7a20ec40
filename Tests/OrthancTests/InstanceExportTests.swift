import Foundation
import Jobs
import Logging
import Synchronization
import Testing

@testable import Orthanc

/// Orthanc ids made of a number.
func id(_ number: Int) -> String {
    let digits = String(format: "%08x", number)
    return Array(repeating: digits, count: 5).joined(separator: "-")
}

/// One study in memory.
final class FakeStudy: Sendable {
    struct Content {
        /// Series -> instances -> file.
        var series: [String: [String: Data]] { didSet { revision += 1 } }
        /// Stands for the time of the last update.
        var revision = 0
        var storesChecksums = true
        /// Asked before each answer.
        var intercept: (@Sendable (String) -> FakeOrthanc.Answer?)?
    }

    static let study = id(1)
    let content: Mutex<Content>

    init(_ series: [String: [String: Data]]) {
        content = Mutex(Content(series: series))
    }

    func serve(port: UInt16 = 0) throws -> FakeOrthanc {
        try FakeOrthanc(port: port) { request in self.answer(request.path) }
    }

    private func answer(_ path: String) -> FakeOrthanc.Answer {
        let intercept = content.withLock { $0.intercept }
        if let answer = intercept?(path) { return answer }
        let (content, revision) = content.withLock { (($0.series, $0.storesChecksums), $0.revision) }
        let parts = path.split(separator: "/").map(String.init)
        func series(_ id: String, _ instances: [String: Data]) -> String {
            #"{"ID":"\#(id)","IsStable":true,"LastUpdate":"\#(revision)","MainDicomTags":{},"ParentStudy":"\#(Self.study)","#
                + #""Instances":\#(list(instances.keys))}"#
        }
        func instance(_ id: String, _ file: Data, of series: String) -> String {
            #"{"ID":"\#(id)","FileSize":\#(file.count),"FileUuid":"\#(ContentDigest.hexadecimal(.md5, of: file))","ParentSeries":"\#(series)"}"#
        }
        switch (parts.first, parts.count) {
        case ("studies", 3), ("patients", 3):
            guard content.0.isEmpty == false, parts[1] == (parts[0] == "studies" ? Self.study : id(0)) else { return .status(404) }
            return .json("[\(content.0.map(series).joined(separator: ","))]")
        case ("series", 2):
            guard let instances = content.0[parts[1]] else { return .status(404) }
            return .json(series(parts[1], instances))
        case ("series", 3):
            guard let instances = content.0[parts[1]] else { return .status(404) }
            return .json("[\(instances.map { instance($0, $1, of: parts[1]) }.joined(separator: ","))]")
        case ("instances", _):
            guard let (owner, instances) = content.0.first(where: { $1[parts[1]] != nil }), let file = instances[parts[1]] else {
                return .status(404)
            }
            if parts.count == 2 { return .json(instance(parts[1], file, of: owner)) }
            if parts.last == "file" { return .ok(file) }
            return content.1 ? .ok(Data(ContentDigest.hexadecimal(.md5, of: file).utf8)) : .status(404)
        default:
            return .status(404)
        }
    }

    private func list(_ ids: some Sequence<String>) -> String {
        "[" + ids.sorted().map { "\"\($0)\"" }.joined(separator: ",") + "]"
    }
}

func file(_ seed: Int, size: Int = 50_000) -> Data {
    Data((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) })
}

func files(_ range: Range<Int>) -> [String: Data] {
    Dictionary(uniqueKeysWithValues: range.map { (id($0), file($0)) })
}

final class ExportFixture {
    let study: FakeStudy
    let server: FakeOrthanc
    let root: URL
    let folder: URL
    let export: InstanceExport

    init(_ series: [String: [String: Data]], _ change: (inout InstanceExport.Configuration) -> Void = { _ in }) throws {
        study = FakeStudy(series)
        server = try study.serve()
        root = FileManager.default.temporaryDirectory.appending(path: "export-\(UUID().uuidString)", directoryHint: .isDirectory)
        folder = root.appending(path: "run", directoryHint: .isDirectory)
        var configuration = InstanceExport.Configuration()
        configuration.retryDelay = .milliseconds(5)
        change(&configuration)
        export = InstanceExport(client: try client(server.url), configuration: configuration, logger: Logger(label: "test"))
    }

    deinit {
        server.stop()
        try? FileManager.default.removeItem(at: root)
    }

    func run(
        _ series: [Int], level: ResourceLevel = .study, onProgress: @escaping @Sendable (ExportProgress) -> Void = { _ in }
    ) async throws
        -> ExportSummary
    {
        let resource =
            switch level {
            case .series: id(series[0])
            case .study: FakeStudy.study
            case .patient: id(0)
            }
        return try await export.run(
            level: level, resourceID: resource, series: series.map(id), into: "run", of: root, onProgress: onProgress)
    }

    /// Relative paths of all files, hidden ones included.
    func names() -> Set<String> {
        Set(FileManager.default.subpaths(atPath: folder.path)?.filter { $0.contains(".") } ?? [])
    }

    func contents(_ path: String) -> Data? {
        FileManager.default.contents(atPath: folder.appending(path: path).path)
    }

    func intercept(_ body: @escaping @Sendable (String) -> FakeOrthanc.Answer?) {
        study.content.withLock { $0.intercept = body }
    }
}

@Suite(.timeLimit(.minutes(1)))
struct InstanceExportTests {
    @Test func aStudyHasAFolderForEachSeries() async throws {
        let fixture = try ExportFixture([id(10): files(100..<120), id(11): files(200..<203), id(12): files(300..<301)])
        let seen = Mutex<[ExportProgress]>([])
        let summary = try await fixture.run([10, 11]) { progress in seen.withLock { $0.append(progress) } }
        let expected = (100..<120).map { "\(id(10))/\(id($0)).dcm" } + (200..<203).map { "\(id(11))/\(id($0)).dcm" }
        #expect(fixture.names() == Set(expected))
        #expect(fixture.contents("\(id(10))/\(id(107)).dcm") == file(107))
        #expect(summary.files == 23 && summary.bytes == 23 * 50_000)
        #expect(summary.resumed == 0 && summary.unverified == 0 && summary.late == 0 && summary.vanished == 0)
        let last = try #require(seen.withLock { $0.last })
        #expect(last.files == 23 && last.totalFiles == 23 && last.bytes == 23 * 50_000 && last.totalBytes == 23 * 50_000)
        #expect(last.fetchedBytes == last.bytes && last.bytesPerSecond > 0 && summary.fetchedBytes == last.bytes)
        #expect(Set(fixture.server.requests.map(\.connection)).count <= 8)
        // Of Orthanc nothing has changed: one look at the series is enough.
        #expect(fixture.server.paths.filter { $0.hasSuffix("/instances") }.count == 2)
    }

    @Test func aSeriesIsFlat() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        _ = try await fixture.run([10], level: .series)
        #expect(fixture.names() == Set((100..<103).map { "\(id($0)).dcm" }))
    }

    @Test func aSecondRunFetchesOnlyWhatIsMissingOrChanged() async throws {
        let fixture = try ExportFixture([id(10): files(100..<106)])
        _ = try await fixture.run([10])
        let folder = fixture.folder.appending(path: id(10))
        try FileManager.default.removeItem(at: folder.appending(path: "\(id(100)).dcm"))
        try file(999).write(to: folder.appending(path: "\(id(101)).dcm"))
        try Data("left over".utf8).write(to: folder.appending(path: ".\(id(102)).abc.part"))
        try Data("deleted in Orthanc".utf8).write(to: folder.appending(path: "\(id(500)).dcm"))
        let before = fixture.server.paths.count
        let summary = try await fixture.run([10])
        let fetched = fixture.server.paths.dropFirst(before).filter { $0.hasSuffix("/file") }
        #expect(Set(fetched) == ["/instances/\(id(100))/file", "/instances/\(id(101))/file"])
        #expect(summary.resumed == 4 && summary.files == 6)
        #expect(fixture.names() == Set((100..<106).map { "\(id(10))/\(id($0)).dcm" }))
        #expect(fixture.contents("\(id(10))/\(id(101)).dcm") == file(101))
    }

    @Test func aDamagedFileIsFetchedAgain() async throws {
        let fixture = try ExportFixture([id(10): files(100..<104)])
        let isFirst = Mutex(true)
        fixture.intercept { path in
            guard path == "/instances/\(id(102))/file" else { return nil }
            return isFirst.withLock { first in
                defer { first = false }
                return first ? .ok(file(7)) : nil
            }
        }
        let seen = Mutex<ExportProgress?>(nil)
        _ = try await fixture.run([10]) { progress in seen.withLock { $0 = progress } }
        #expect(fixture.contents("\(id(10))/\(id(102)).dcm") == file(102))
        #expect(seen.withLock { $0?.bytes } == 200_000)
    }

    @Test func aFileThatStaysDamagedIsAnErrorAndLeavesNothing() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        fixture.intercept { $0.hasSuffix("/file") ? .ok(file(7)) : nil }
        let expected = ContentDigest.hexadecimal(.md5, of: file(100))
        let actual = ContentDigest.hexadecimal(.md5, of: file(7))
        await #expect(throws: ExportError.checksum(instance: id(100), expected: expected, actual: actual)) { try await fixture.run([10]) }
        #expect(fixture.server.paths.filter { $0.hasSuffix("/file") }.count == 3)
        #expect(fixture.names() == [])
    }

    @Test func aBrokenConnectionIsRepeated() async throws {
        let fixture = try ExportFixture([id(10): files(100..<102)])
        let breaks = Mutex(2)
        fixture.intercept { path in
            guard path == "/instances/\(id(101))/file" else { return nil }
            return breaks.withLock { left in
                left -= 1
                return left < 0 ? nil : .truncated(file(101), keeping: 20_000)
            }
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 2)
        #expect(fixture.contents("\(id(10))/\(id(101)).dcm") == file(101))
    }

    @Test func withoutChecksumsTheFilesAreCountedAsUnverified() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        fixture.study.content.withLock { $0.storesChecksums = false }
        #expect(try await fixture.run([10]).unverified == 3)
    }

    @Test func instancesThatArriveMeanwhileAreFetchedToo() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        let study = fixture.study
        fixture.intercept { path in
            if path == "/instances/\(id(100))/file" { study.content.withLock { $0.series[id(10)]?[id(103)] = file(103) } }
            return nil
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 4 && summary.late == 1)
        #expect(fixture.contents("\(id(10))/\(id(103)).dcm") == file(103))
    }

    @Test func anInstanceThatIsDeletedMeanwhileIsLeftOut() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        let study = fixture.study
        fixture.intercept { path in
            if path == "/instances/\(id(101))/attachments/dicom/md5" { study.content.withLock { $0.series[id(10)]?[id(101)] = nil } }
            return nil
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 2 && summary.vanished == 1)
        #expect(fixture.names() == ["\(id(10))/\(id(100)).dcm", "\(id(10))/\(id(102)).dcm"])
    }

    @Test func aListedInstanceWithoutAFileIsAFailureThatMayPass() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        fixture.intercept { $0 == "/instances/\(id(101))/file" ? .status(404) : nil }
        let error = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(error.isRetriable && error.path == "/instances/\(id(101))/file")
        fixture.intercept { _ in nil }
        #expect(try await fixture.run([10]).files == 3)
    }

    @Test func aFileOfAnotherLengthIsNeverAccepted() async throws {
        let fixture = try ExportFixture([id(10): files(100..<102)])
        fixture.study.content.withLock { $0.storesChecksums = false }
        fixture.intercept { $0 == "/instances/\(id(101))/file" ? .ok(file(101, size: 40_000)) : nil }
        let error = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(error.isRetriable && error.message.contains("40000 bytes instead of 50000"))
        #expect(!fixture.names().contains("\(id(10))/\(id(101)).dcm"))
    }

    @Test(arguments: ["", "no checksum", String(repeating: "g", count: 32)])
    func anAnswerThatIsNoChecksumIsNotTakenForNone(answer: String) async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        fixture.intercept { $0.hasSuffix("/md5") ? .ok(Data(answer.utf8)) : nil }
        let error = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(error.code == .badResponse)
    }

    @Test func imagesAreNotForEveryone() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        _ = try await fixture.run([10])
        let mode = { (path: String) in
            try FileManager.default.attributesOfItem(atPath: fixture.folder.appending(path: path).path)[.posixPermissions] as? Int
        }
        #expect(try mode("") == 0o750 && mode(id(10)) == 0o750)
        #expect(try mode("\(id(10))/\(id(100)).dcm") == 0o640)
    }

    @Test func aStudyThatDisappearsIsNotFound() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        let study = fixture.study
        fixture.intercept { path in
            if path.hasSuffix("/file") { study.content.withLock { $0.series = [:] } }
            return nil
        }
        let gone = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(gone.code == .notFound)
        let again = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(again.code == .notFound)
    }

    @Test func aSeriesOfAnotherStudyIsNeverFetched() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        let error = try #require(await orthancError { _ = try await fixture.run([10, 77]) })
        #expect(error.code == .notFound && error.path == "/series/\(id(77))")
        #expect(!fixture.server.paths.contains { $0.hasSuffix("/file") })
    }

    @Test func aDiskThatFillsUpIsToldAsSuch() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        let descriptor = open("/dev/full", O_WRONLY)
        defer { close(descriptor) }
        let client = try client(fixture.server.url)
        let error = try #require(
            await orthancError { _ = try await client.download(instance: try client.identifier(id(100)), to: descriptor) }
        )
        #expect(error.code == .unwritable && error.systemError == ENOSPC && !error.isRetriable)
    }

    @Test func aFolderThatCannotBeMadeIsUnwritable() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        try Data().write(to: fixture.root)
        let error = await #expect(throws: ExportError.self) { try await fixture.run([10]) }
        guard case .unwritable(let path, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(path.hasPrefix(fixture.root.path))
    }

    @Test func cancellationLeavesNoTemporaryFile() async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        fixture.intercept { $0.hasSuffix("/file") ? .silence : nil }
        let (export, root, server) = (fixture.export, fixture.root, fixture.server)
        let task = Task { try await export.run(level: .study, resourceID: FakeStudy.study, series: [id(10)], into: "run", of: root) }
        while !server.paths.contains(where: { $0.hasSuffix("/file") }) { await Task.yield() }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(fixture.names() == [])
    }
}
