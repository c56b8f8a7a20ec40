package import Foundation

/// Brings what `-p` names to a folder on this machine.
package struct PackageFetcher: Sendable {
    /// The interpreter, and the folder of the package `dcm_processor`, which unpacks archives.
    private let python: String
    private let library: URL?
    /// Bytes that an archive may hold.
    private let limit: Int64

    package init(python: String, library: URL?, limit: Int64 = 1 << 30) {
        self.python = python
        self.library = library
        self.limit = limit
    }

    /// Lends the package's folders for the time of `body`; what had to be fetched for it is removed after it.
    package func with<Value>(
        _ source: PackageSource, name: String, _ body: (ServicePackage) async throws -> Value
    ) async throws -> Value {
        if case .folder(let folder) = source { return try await body(ServicePackage.find(name, in: folder)) }
        let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-package-\(Secret.generate(length: 12))")
        try FileSystem.makeFolder(scratch, mode: 0o700)
        defer { FileSystem.remove(scratch) }
        var place = scratch.appendingPathComponent("content")
        switch source {
        case .folder: break
        case .archive(let file): try await unpack(file, into: place, scratch)
        case .git(let url, let branch, let subfolder):
            try await clone(url, branch, into: place, scratch)
            if let subfolder { place.appendPathComponent(subfolder) }
            guard FileSystem.exists(place) else { throw StackError(.notFound, "\(source.text) has no such folder.") }
        }
        let package = try ServicePackage.find(name, in: place)
        // What was sent by somebody else could name a folder of this machine as its own, and have that copied to where jobs read.
        let content = scratch.resolvingSymlinksInPath().path + "/content/"
        for part in [package.registry, package.module].compactMap(\.self) where !part.resolvingSymlinksInPath().path.hasPrefix(content) {
            throw StackError(.refused, "\(part.lastPathComponent)/ of \(source.text) is a link out of it. A service brings its own files.")
        }
        return try await body(package)
    }

    private func unpack(_ file: URL, into folder: URL, _ scratch: URL) async throws {
        guard let library, FileSystem.exists(library.appendingPathComponent("dcm_processor/archives.py")) else {
            throw StackError(
                .notFound, "The Python package dcm_processor, which unpacks archives, is not found: PYTHONHOST_PATH names its folder.")
        }
        try await run(
            "unpack", python, ["-m", "dcm_processor.archives", file.path, folder.path, "\(limit)"],
            environment: ["PYTHONPATH": library.path], scratch)
    }

    private func clone(_ url: String, _ branch: String?, into folder: URL, _ scratch: URL) async throws {
        let git: String
        do {
            git = try FileSystem.program("git")
        } catch {
            throw StackError(.notFound, "A git URL needs the program git, which is not installed (Debian: apt-get install git).")
        }
        // No helper program that the address could name, no question on the terminal, nothing that the repository could have run.
        var environment = ProcessInfo.processInfo.environment.filter { name, _ in
            ["HOME", "SSH_AUTH_SOCK", "https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "GIT_SSL_CAINFO"].contains(name)
        }
        environment["GIT_TERMINAL_PROMPT"] = "0"
        environment["GIT_ALLOW_PROTOCOL"] = "https:http:ssh:git:file"
        environment["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
        let arguments = ["-c", "core.hooksPath=/dev/null", "clone", "--quiet", "--depth", "1"] + (branch.map { ["--branch", $0] } ?? [])
        try await run("git", git, arguments + ["--", url, folder.path], environment: environment, scratch)
    }

    private func run(
        _ name: String, _ program: String, _ arguments: [String], environment: [String: String], _ scratch: URL
    ) async throws {
        let command = Command(
            name: name, executable: program, arguments: arguments,
            environment: Command.plainEnvironment.merging(environment) { $1 }, logFile: scratch.appendingPathComponent("\(name).log"))
        let process = try ManagedProcess(command)
        let exit: ProcessExit
        do {
            let late = StackError(.timedOut, "\(name) was not ready after 10 minutes.")
            exit = try await poll(for: .seconds(600), every: .milliseconds(20), orThrow: late) { process.exit }
        } catch {
            _ = await process.kill()
            throw error
        }
        guard exit == .status(0) else {
            let output = (try? String(contentsOf: command.logFile, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
            throw StackError(.refused, output.isEmpty ? "\(name) ended with \(exit)." : output)
        }
    }
}
