import Foundation
import Stack
import Testing

@Suite("Where services come from", .timeLimit(.minutes(2))) struct PackageSourceTests {
    private static let library = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("python")
    private let fetcher = PackageFetcher(python: "/usr/bin/python3", library: library)

    @Test("Git addresses, with branch and folder")
    func git() throws {
        #expect(try PackageSource.parse("https://h/a.git") == .git(url: "https://h/a.git", branch: nil, subfolder: nil))
        #expect(try PackageSource.parse("git@h:a/b.git#v1:services/x") == .git(url: "git@h:a/b.git", branch: "v1", subfolder: "services/x"))
        #expect(try PackageSource.parse("https://h/a.git#:x") == .git(url: "https://h/a.git", branch: nil, subfolder: "x"))
        #expect(try PackageSource.parse("https://u:secret@h/a.git#b").text == "https://h/a.git#b")
        for bad in ["https://h/a.git#-x", "https://h/a.git#b:../x", "https://h/a.zip", "/nowhere/at/all", "ext::sh"] {
            #expect(throws: StackError.self, "\(bad)") { try PackageSource.parse(bad) }
        }
    }

    @Test("A folder in upstream's shape, with modules/, in two trees, or somewhere below")
    func shapes() async throws {
        try await withSite { site in
            let package = try site.package("one")
            let root = package.registry.deletingLastPathComponent()
            #expect(try ServicePackage.find("any", in: root) == package)
            let packages = root.deletingLastPathComponent()
            #expect(try ServicePackage.find("one", in: packages).registry.path == package.registry.path)
            _ = try site.package("two")
            #expect(throws: StackError.self) { try ServicePackage.find("three", in: packages) }
            let module = try #require(package.module)
            try FileManager.default.moveItem(at: module, to: root.appendingPathComponent("modules"))
            #expect(try ServicePackage.find("one", in: root).module?.lastPathComponent == "modules")
            try await site.install("tree")
            let tree = try ServicePackage.find("tree", in: site.folder)
            #expect(tree.registry.path.hasSuffix("registry/tree"))
            #expect(tree.module?.path.hasSuffix("modules/tree") == true)
        }
    }

    @Test("Archives are unpacked for the time of an installation", arguments: ["service.zip", "service.tar.gz", "service.tgz"])
    func archives(_ name: String) async throws {
        try await withSite { site in
            let root = try site.package("one").registry.deletingLastPathComponent()
            let archive = site.folder.appendingPathComponent(name)
            let format = name.hasSuffix("zip") ? "zip" : "gztar"
            let script = """
                import os, shutil, sys
                os.rename(shutil.make_archive(sys.argv[1] + ".new", *sys.argv[2:]), sys.argv[1])
                """
            try await run("/usr/bin/python3", ["-c", script, archive.path, format, root.path], in: site.folder)
            let source = try PackageSource.parse(archive.path)
            _ = try await fetcher.with(source, name: "one") {
                try await ServiceInstaller(site.trees).install("one", $0, source: source.text)
            }
            #expect(site.visible == ["one", "settings.json", "one"])
            let small = PackageFetcher(python: "/usr/bin/python3", library: Self.library, limit: 10)
            let message = try await refusal { try await small.with(source, name: "one") { _ in } }
            #expect(message?.contains("larger than 10 bytes") == true)
        }
    }

    @Test("A repository is cloned, and nothing of it is run", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/git")))
    func repository() async throws {
        try await withSite { site in
            _ = try site.package("one", in: "repo")
            let repository = site.folder.appendingPathComponent("packages/repo-1")
            let git = ["-c", "user.name=t", "-c", "user.email=t@t", "-C", repository.path]
            for command in [["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x"]] {
                try await run("/usr/bin/git", git + command, in: site.folder)
            }
            let bare = site.folder.appendingPathComponent("one.git")
            try await run("/usr/bin/git", ["clone", "-q", "--bare", repository.path, bare.path], in: site.folder)
            let source = try PackageSource.parse("file://\(bare.path)#main")
            _ = try await fetcher.with(source, name: "one") {
                try await ServiceInstaller(site.trees).install("one", $0, source: source.text)
            }
            #expect(site.visible == ["one", "settings.json", "one"])
            // Somebody else's repository that takes a folder of this machine for its own.
            let module = repository.appendingPathComponent("module")
            try FileManager.default.removeItem(at: module)
            try FileManager.default.createSymbolicLink(at: module, withDestinationURL: site.trees.registry)
            for command in [["add", "-A"], ["commit", "-q", "-m", "y"], ["push", "-q", bare.path, "main:evil"]] {
                try await run("/usr/bin/git", git + command, in: site.folder)
            }
            let evil = try PackageSource.parse("file://\(bare.path)#evil")
            let refused = try await refusal { try await fetcher.with(evil, name: "one") { _ in } }
            #expect(refused?.contains("link out of it") == true)
            let missing = try PackageSource.parse("file://\(bare.path)#nothere")
            let message = try await refusal { try await fetcher.with(missing, name: "one") { _ in } }
            #expect(message?.contains("nothere") == true)
        }
    }

    private func run(_ program: String, _ arguments: [String], in folder: URL) async throws {
        let command = Command(
            name: "helper", executable: program, arguments: arguments, environment: Command.plainEnvironment,
            logFile: folder.appendingPathComponent("helper.log"))
        let process = try ManagedProcess(command)
        let exit = try await eventually("\(program) has ended") { process.exit }
        try #require(exit == .status(0), "\((try? String(contentsOf: command.logFile, encoding: .utf8)) ?? "")")
    }
}
