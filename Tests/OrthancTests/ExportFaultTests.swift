import Foundation
import Jobs
import Logging
import Synchronization
import Testing

@testable import Orthanc

/// A server and a network that do what they sometimes do.
@Suite(.timeLimit(.minutes(1)))
struct ExportFaultTests {
    @Test("Each request may fail once: with an error, without an answer, with a broken connection")
    func everythingFailsOnce() async throws {
        let fixture = try ExportFixture([id(10): files(100..<110), id(11): files(200..<205)])
        let seen = Mutex<[String: Int]>([:])
        fixture.intercept { path in
            let (time, number) = seen.withLock { seen in
                seen[path, default: 0] += 1
                return (seen[path, default: 0], seen.count)
            }
            // What is asked only after a failure does not fail too.
            guard time == 1, path.hasSuffix("/file") || path.hasSuffix("/md5") || !path.hasPrefix("/instances") else { return nil }
            return [.status(500), .hangUp, .truncated(file(1), keeping: 100), nil][number % 4]
        }
        let summary = try await fixture.run([10, 11])
        #expect(summary.files == 15)
        for number in 100..<110 { #expect(fixture.contents("\(id(10))/\(id(number)).dcm") == file(number)) }
        #expect(seen.withLock { $0.values.max() ?? 0 } > 1)
    }

    @Test("A server that drops each connection after its answer is only slower")
    func droppedConnections() async throws {
        let fixture = try ExportFixture([id(10): files(100..<140)])
        fixture.intercept { path in
            guard path.hasSuffix("/file"), let number = Int(path.split(separator: "/")[1].prefix(8), radix: 16) else { return nil }
            return .last(file(number))
        }
        #expect(try await fixture.run([10]).files == 40)
        #expect(fixture.contents("\(id(10))/\(id(123)).dcm") == file(123))
    }

    @Test("A server that falls silent in the middle is asked again")
    func silence() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        let isFirst = Atomic(true)
        fixture.intercept { path in
            path == "/instances/\(id(101))/file" && isFirst.exchange(false, ordering: .relaxed) ? .silence : nil
        }
        let impatient = InstanceExport(
            client: try client(fixture.server.url) { $0.stallTimeout = .seconds(1) }, logger: Logger(label: "test"))
        let summary = try await impatient.run(
            level: .study, resourceID: FakeStudy.study, series: [id(10)], into: "run", of: fixture.root)
        #expect(summary.files == 3)
    }

    @Test("An Orthanc that restarts in the middle is waited for")
    func restart() async throws {
        let fixture = try ExportFixture([id(10): files(100..<160)])
        let (server, study) = (fixture.server, fixture.study)
        let second = Mutex<FakeOrthanc?>(nil)
        let isDown = Atomic(false)
        fixture.intercept { path in
            // The tenth file: the server closes its port, and what is connected breaks.
            guard server.paths.filter({ $0.hasSuffix("/file") }).count >= 10, second.withLock({ $0 == nil }) else { return nil }
            if isDown.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged {
                server.stop()
                Thread {
                    // Until the port is free; the export meets a closed one meanwhile.
                    while true {
                        if let again = try? study.serve(port: server.port) { return second.withLock { $0 = again } }
                        usleep(300_000)
                    }
                }.start()
            }
            return .hangUp
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 60)
        let restarted = try #require(second.withLock { $0 })
        #expect(!restarted.paths.isEmpty)
        restarted.stop()
    }

    @Test("A server that stays away is unreachable once the patience is over")
    func absence() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)]) { $0.patience = .milliseconds(100) }
        fixture.server.stop()
        let error = try #require(await orthancError { _ = try await fixture.run([10]) })
        #expect(error.isRetriable)
    }

    @Test("An instance that is sent again while the export runs is exported as it is in the end")
    func resend() async throws {
        let fixture = try ExportFixture([id(10): files(100..<110)])
        let study = fixture.study
        let (early, late) = (file(7, size: 70_000), file(8, size: 60_000))
        fixture.intercept { path in
            // One before it is fetched, so that its listed size is wrong; one after it was fetched.
            if path == "/instances/\(id(105))/attachments/dicom/md5" { study.content.withLock { $0.series[id(10)]?[id(105)] = early } }
            if path == "/instances/\(id(109))/file" { study.content.withLock { $0.series[id(10)]?[id(100)] = late } }
            return nil
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 10 && summary.bytes == 8 * 50_000 + 130_000)
        #expect(fixture.contents("\(id(10))/\(id(105)).dcm") == early)
        #expect(fixture.contents("\(id(10))/\(id(100)).dcm") == late)
    }

    @Test("Large files go straight to the disk and are checked there", arguments: [false, true])
    func large(isDamagedFirst: Bool) async throws {
        let large = file(3, size: 5_000_001)
        let fixture = try ExportFixture([id(10): [id(100): large, id(101): file(101)]])
        let isFirst = Atomic(isDamagedFirst)
        fixture.intercept { path in
            path == "/instances/\(id(100))/file" && isFirst.exchange(false, ordering: .relaxed) ? .ok(file(4, size: 5_000_001)) : nil
        }
        let summary = try await fixture.run([10])
        #expect(summary.files == 2 && fixture.contents("\(id(10))/\(id(100)).dcm") == large)
        #expect(fixture.names().count == 2)
    }

    @Test("2,000 instances in one series")
    func twoThousand() async throws {
        let instances = Dictionary(uniqueKeysWithValues: (1...2000).map { (id($0), file($0, size: 500 + $0 % 100)) })
        let fixture = try ExportFixture([id(9000): instances])
        let summary = try await fixture.run([9000], level: .series)
        #expect(summary.files == 2000 && summary.unverified == 0)
        #expect(fixture.names().count == 2000)
        for (instance, file) in instances.prefix(100) { #expect(fixture.contents("\(instance).dcm") == file) }
        // The series and its instances, two for each instance, the series again.
        #expect(fixture.server.paths.count == 2 + 4000 + 1)
    }

    @Test func aPatientHasAFolderForEachSeries() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103), id(11): files(200..<201)])
        #expect(try await fixture.run([10, 11], level: .patient).files == 4)
        #expect(fixture.contents("\(id(11))/\(id(200)).dcm") == file(200))
    }

    @Test("Without checksums no earlier file is trusted")
    func unverifiedFilesAreFetchedAgain() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        fixture.study.content.withLock { $0.storesChecksums = false }
        _ = try await fixture.run([10])
        try Data(count: 50_000).write(to: fixture.folder.appending(path: "\(id(10))/\(id(101)).dcm"))
        #expect(try await fixture.run([10]).resumed == 0)
        #expect(fixture.contents("\(id(10))/\(id(101)).dcm") == file(101))
    }
}

@Suite(.timeLimit(.minutes(1)))
struct ExportDiskTests {
    @Test("A disk without enough room is found before anything is made")
    func tooSmall() async throws {
        let fixture = try ExportFixture([id(10): files(100..<102)]) { configuration in
            configuration.reserve = 1_000_000
            configuration.space = { _ in (available: 1_100_000, unit: 4096) }
        }
        let error = await #expect(throws: ExportError.self) { try await fixture.run([10]) }
        guard case .diskFull(let needed, let reserve, let available, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        // In whole blocks of the disk.
        #expect(needed == 2 * 53_248 && reserve == 1_000_000 && available == 1_100_000)
        #expect(!fixture.server.paths.contains { $0.hasSuffix("/file") })
        #expect(!FileManager.default.fileExists(atPath: fixture.folder.path))
        let text = "\(try #require(error))"
        #expect(text.contains("EXPORT_RESERVE"))
    }

    @Test("What is there already needs no room")
    func room() async throws {
        let space = Mutex<Int64>(1_000_000)
        let fixture = try ExportFixture([id(10): files(100..<102)]) { configuration in
            configuration.reserve = 500_000
            configuration.space = { _ in (available: space.withLock { $0 }, unit: 4096) }
        }
        _ = try await fixture.run([10])
        space.withLock { $0 = 0 }
        #expect(try await fixture.run([10]).resumed == 2)
    }

    @Test("A disk that fills up in the middle is left without half a study", .enabled(if: TinyDisk.isPossible, "needs the right to mount"))
    func fillsUp() async throws {
        let fixture = try ExportFixture([id(10): files(100..<150)]) { configuration in
            configuration.reserve = 0
            configuration.space = { _ in (available: 1 << 40, unit: 4096) }
        }
        let disk = try TinyDisk(kilobytes: 1000)
        let (export, mount) = (fixture.export, disk.folder)
        let error = await #expect(throws: ExportError.self) {
            try await export.run(level: .study, resourceID: FakeStudy.study, series: [id(10)], into: "a/run", of: mount)
        }
        guard case .diskFull(let needed, _, _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(needed > 1_000_000)
        #expect(FileManager.default.subpaths(atPath: mount.path) == ["a"])
    }
}

/// A file system in memory.
private final class TinyDisk {
    let folder: URL

    static let isPossible = (try? TinyDisk(kilobytes: 64)) != nil

    init(kilobytes: Int) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "disk-\(UUID().uuidString)", directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        guard mount("tmpfs", folder.path, "tmpfs", 0, "size=\(kilobytes)k") == 0 else {
            let number = errno
            try? FileManager.default.removeItem(at: folder)
            throw POSIXError(POSIXErrorCode(rawValue: number) ?? .EPERM)
        }
    }

    deinit {
        umount2(folder.path, 2)  // MNT_DETACH
        try? FileManager.default.removeItem(at: folder)
    }
}

@Suite(.timeLimit(.minutes(1)))
struct ExportConfinementTests {
    @Test(arguments: ["", "/etc", "../other", "dicom/../../x", "dicom//x", "dicom/./x", "dicom/", "a\0b"])
    func aPathThatDoesNotStayBelowIsRefused(path: String) async throws {
        let fixture = try ExportFixture([id(10): files(100..<101)])
        let (export, root) = (fixture.export, fixture.root)
        let error = await #expect(throws: ExportError.self) {
            try await export.run(level: .study, resourceID: FakeStudy.study, series: [id(10)], into: path, of: root)
        }
        guard case .unconfined = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(!fixture.server.paths.contains { $0.hasSuffix("/file") })
    }

    @Test("No link leads an export out of DATA", arguments: ["dicom", "dicom/run", "dicom/run/\(id(10))"])
    func links(path: String) async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        let outside = fixture.root.appending(path: "outside", directoryHint: .isDirectory)
        let victim = outside.appending(path: "\(id(500)).dcm")
        let data = fixture.root.appending(path: "data", directoryHint: .isDirectory)
        let link = data.appending(path: path)
        let manager = FileManager.default
        try manager.createDirectory(at: outside.appending(path: "run/\(id(10))"), withIntermediateDirectories: true)
        try manager.createDirectory(at: link.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data("somebody's".utf8).write(to: victim)
        try manager.createSymbolicLink(at: link, withDestinationURL: outside)
        let export = fixture.export
        let error = await #expect(throws: ExportError.self) {
            try await export.run(level: .study, resourceID: FakeStudy.study, series: [id(10)], into: "dicom/run", of: data)
        }
        guard case .unconfined(let place, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(place == link.path)
        let left = try #require(manager.subpaths(atPath: outside.path))
        #expect(Set(left) == ["run", "run/\(id(10))", victim.lastPathComponent])
    }

    @Test("A link in an image's place is replaced, not followed")
    func linkedImage() async throws {
        let fixture = try ExportFixture([id(10): files(100..<103)])
        _ = try await fixture.run([10])
        let outside = fixture.root.appending(path: "outside.dcm")
        try file(101).write(to: outside)
        let image = fixture.folder.appending(path: "\(id(10))/\(id(101)).dcm")
        try FileManager.default.removeItem(at: image)
        try FileManager.default.createSymbolicLink(at: image, withDestinationURL: outside)
        fixture.study.content.withLock { $0.series[id(10)]?[id(101)] = file(55) }
        _ = try await fixture.run([10])
        #expect(FileManager.default.contents(atPath: outside.path) == file(101))
        #expect(FileManager.default.contents(atPath: image.path) == file(55))
        #expect((try? FileManager.default.destinationOfSymbolicLink(atPath: image.path)) == nil)
    }
}
