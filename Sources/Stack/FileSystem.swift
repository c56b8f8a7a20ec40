package import Foundation

/// Folders and small files, with errors that say where and why.
package enum FileSystem {
    package static func makeFolder(_ folder: URL, mode: Int = 0o750) throws {
        do {
            try FileManager.default.createDirectory(
                at: folder,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: mode],
            )
        } catch {
            throw StackError(.fileSystem, "The folder \(folder.path) could not be made: \(reason(error)). Is it writable for you?")
        }
    }

    /// Writes beside the file and renames: a reader sees the old or the new content, never a part.
    package static func write(_ data: Data, to file: URL, mode: Int = 0o640) throws {
        let temporary = file.deletingLastPathComponent()
            .appendingPathComponent(".\(file.lastPathComponent).\(Secret.generate(length: 8))")
        do {
            guard
                FileManager.default.createFile(atPath: temporary.path, contents: data, attributes: [.posixPermissions: mode])
            else { throw CocoaError(.fileWriteUnknown) }
            guard rename(temporary.path, file.path) == 0 else {
                throw CocoaError(.fileWriteUnknown, userInfo: [NSLocalizedDescriptionKey: String(cString: strerror(errno))])
            }
        } catch {
            try? FileManager.default.removeItem(at: temporary)
            throw StackError(.fileSystem, "\(file.path) could not be written: \(reason(error)). Is the folder writable, the disk full?")
        }
    }

    package static func write(_ text: String, to file: URL, mode: Int = 0o640) throws {
        try write(Data(text.utf8), to: file, mode: mode)
    }

    package static func remove(_ file: URL) {
        try? FileManager.default.removeItem(at: file)
    }

    package static func exists(_ file: URL) -> Bool {
        FileManager.default.fileExists(atPath: file.path)
    }

    /// The first of these programs that is there, else the first `name` in PATH.
    package static func program(_ name: String, candidates: [String] = []) throws -> String {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        let all = candidates + (path.split(separator: ":").map(String.init) + ["/usr/sbin", "/usr/local/sbin"]).map { "\($0)/\(name)" }
        if let found = all.first(where: { FileManager.default.isExecutableFile(atPath: $0) }) { return found }
        throw StackError(.notFound, "The program \(name) is not installed (looked for \(all.joined(separator: ", "))).")
    }

    private static func reason(_ error: any Error) -> String {
        let cocoa = error as NSError
        let cause = cocoa.userInfo[NSUnderlyingErrorKey] as? NSError
        return cause?.localizedDescription ?? cocoa.localizedDescription
    }
}
