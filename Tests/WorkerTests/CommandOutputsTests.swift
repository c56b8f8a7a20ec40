import Foundation
import Jobs
import Testing

@testable import Worker

@Suite struct CommandOutputsTests {
    @Test("What a command leaves appears whole under DATA, in the place of what an earlier attempt left")
    func moves() throws {
        let place = try Place()
        try place.write("mask.nii.gz", "12345")
        try place.write("report/page.pdf", "1")
        let outputs = CommandOutputs(data: place.data)
        let kept = try #require(try outputs.keep(from: place.workdir, as: "outputs/run/seg"))
        #expect(
            kept
                == .init(
                    path: "outputs/run/seg", files: ["outputs/run/seg/mask.nii.gz", "outputs/run/seg/report/page.pdf"], count: 2, bytes: 6))
        #expect(place.text("outputs/run/seg/mask.nii.gz") == "12345")

        try place.again()
        try place.write("other.txt", "new")
        _ = try outputs.keep(from: place.workdir, as: "outputs/run/seg")
        #expect(place.text("outputs/run/seg/other.txt") == "new")
        #expect(place.text("outputs/run/seg/mask.nii.gz") == nil)

        // One that leaves nothing has no outputs, and not those of an earlier one either.
        try place.again()
        #expect(try outputs.keep(from: place.workdir, as: "outputs/run/seg") == nil)
        #expect(place.text("outputs/run/seg/other.txt") == nil)
    }

    @Test("Whose lease ran out while its files were looked through leaves those of its successor alone")
    func leaseOver() throws {
        let place = try Place()
        let outputs = CommandOutputs(data: place.data)
        try place.write("a", "mine")
        #expect {
            try outputs.keep(from: place.workdir, as: "outputs/run/seg") { false }
        } throws: { error in
            (error as? CommandOutputs.Refusal)?.isLeaseOver == true
        }
        #expect(place.text("outputs/run/seg/a") == nil)
        // It was the router that was away, and nobody else had the job.
        _ = try outputs.keep(from: place.workdir, as: "outputs/run/seg") { true }
        #expect(place.text("outputs/run/seg/a") == "mine")
    }

    @Test("A link in the place of the folder, or a DATA that cannot be written, is a refusal, and the earlier outputs stay")
    func refusals() throws {
        let place = try Place()
        let outputs = CommandOutputs(data: place.data)
        try place.write("a", "1")
        _ = try outputs.keep(from: place.workdir, as: "outputs/run/seg")
        try place.again(hasFolder: false)
        try FileManager.default.createSymbolicLink(atPath: place.workdir.path + "/outputs", withDestinationPath: "/etc")
        #expect(throws: CommandOutputs.Refusal.self) { try outputs.keep(from: place.workdir, as: "outputs/run/seg") }
        #expect(place.text("outputs/run/seg/a") == "1")

        try place.again()
        try place.write("b", "2")
        // A file where a folder should be.
        #expect(throws: CommandOutputs.Refusal.self) { try outputs.keep(from: place.workdir, as: "outputs/run/seg/a/deeper") }
        #expect(place.text("outputs/run/seg/a") == "1")
    }

    @Test(
        "Job names become names of folders, each one its own",
        arguments: [
            ("dcm2nii", "dcm2nii"), ("a b", "ab~3"), ("../../etc", "etc~3"), (".hidden", "hidden~3"), ("größe", "gre~3"), ("a~3", "a3~3"),
        ])
    func names(job: String, folder: String) {
        #expect(CommandOutputs.name(job, index: 3) == folder)
        #expect(CommandOutputs.name(String(repeating: "x", count: 128), index: 1).utf8.count <= 100)
    }

    @Test("The result says where, what and how much; files are artifacts")
    func result() {
        let now = Date()
        let exit = JobExit(outcome: .succeeded, kind: .completed, result: ["volume": 3], startedAt: now, finishedAt: now)
        let kept = exit.keeping(.init(path: "outputs/r/j", files: ["outputs/r/j/a/x.nii.gz", "outputs/r/j/y.bin"], count: 7, bytes: 9))
        #expect(kept.result == ["stdout": ["volume": 3], "outputs": ["path": "outputs/r/j", "files": 7, "bytes": 9]])
        #expect(kept.artifacts.map(\.name) == ["a/x.nii.gz", "y.bin"])
        #expect(kept.artifacts.map(\.kind) == ["nifti", "file"])
        #expect(kept.artifacts.map(\.path) == ["outputs/r/j/a/x.nii.gz", "outputs/r/j/y.bin"])
    }
}

/// DATA and a scratch folder, removed with the test.
private final class Place {
    let root = FileManager.default.temporaryDirectory.appending(path: "dcm-outputs-\(UUID().uuidString)")
    var data: URL { root.appending(path: "data") }
    var workdir: URL { data.appending(path: ".work/attempt") }

    init() throws { try again() }

    deinit { try? FileManager.default.removeItem(at: root) }

    /// A new scratch folder.
    func again(hasFolder: Bool = true) throws {
        try? FileManager.default.removeItem(at: workdir)
        try FileManager.default.createDirectory(
            at: hasFolder ? workdir.appending(path: "outputs") : workdir, withIntermediateDirectories: true)
    }

    func write(_ name: String, _ text: String) throws {
        let file = workdir.appending(path: "outputs/\(name)")
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    func text(_ path: String) -> String? { try? String(contentsOf: data.appending(path: path), encoding: .utf8) }
}
