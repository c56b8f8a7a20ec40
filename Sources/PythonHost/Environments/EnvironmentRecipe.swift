import Foundation
import Glibc

/// What a service's folder asks of its environment.
struct EnvironmentRecipe: Sendable {
    /// The folder's name in MODULES.
    var service: String
    var folder: URL
    /// nil when there is none, or none that asks for anything.
    var requirements: URL?
    var script: URL?
    var seesSystemPackages: Bool
    /// The name of the content: 32 hexadecimal digits. The same for the same text, flags and interpreter.
    var key: String

    /// Reads the service's files. Blocking.
    ///
    /// What requirements.txt includes (`-r`, `-c`) is part of the content; packages that it names by a path are not.
    /// - Returns: the recipe, nil when the service asks for nothing; and the files that say so, present or not.
    static func read(_ service: String, _ configuration: EnvironmentsConfiguration) -> (recipe: EnvironmentRecipe?, files: [String]) {
        let folder = configuration.modules.appending(path: service, directoryHint: .isDirectory)
        let requirements = folder.appending(path: "requirements.txt")
        let script = folder.appending(path: "script.sh")
        var files: [String] = []
        var content = ContentName()
        content.add("dcm-environment-1")
        content.add(interpreter(configuration.python))

        var isAsking = false
        var wantsSystemPackages = false
        var waiting = [requirements]
        while !waiting.isEmpty {
            let file = waiting.removeFirst()
            guard !files.contains(file.path) else { continue }
            files.append(file.path)
            let text = text(of: file)
            content.add(text)
            for line in (text ?? "").split(whereSeparator: \.isNewline).map({ $0.trimmingCharacters(in: .whitespaces) }) {
                if line.hasPrefix("#") {
                    wantsSystemPackages = wantsSystemPackages || line.dropFirst().trimmingCharacters(in: .whitespaces) == systemPackagesMark
                } else if !line.isEmpty {
                    isAsking = true
                    if let other = included(by: line) {
                        waiting.append(URL(filePath: other, relativeTo: file.deletingLastPathComponent()).standardizedFileURL)
                    }
                }
            }
        }
        files.append(script.path)
        let scriptText = text(of: script)
        content.add(scriptText)

        guard isAsking || scriptText != nil else { return (nil, files) }
        // A script alone prepares the machine, and maybe adds a package: what the service imports otherwise is the interpreter's.
        let seesSystemPackages = configuration.seesSystemPackages || wantsSystemPackages || !isAsking
        content.add(seesSystemPackages ? "system" : "own")
        let recipe = EnvironmentRecipe(
            service: service,
            folder: folder,
            requirements: isAsking ? requirements : nil,
            script: scriptText == nil ? nil : script,
            seesSystemPackages: seesSystemPackages,
            key: content.hexadecimal
        )
        return (recipe, files)
    }

    /// The comment in requirements.txt by which a service asks to see the interpreter's own packages.
    static let systemPackagesMark = "dcm: system-site-packages"

    private static func text(of file: URL) -> String? {
        (try? Data(contentsOf: file)).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The file named by a line like `-r more.txt`.
    private static func included(by line: String) -> String? {
        for option in ["-r", "-c", "--requirement", "--constraint"] where line.hasPrefix(option) {
            let rest = line.dropFirst(option.count).drop { $0 == "=" || $0.isWhitespace }
            let path = rest.prefix { !$0.isWhitespace }
            return path.isEmpty || path.contains("://") || path.hasPrefix("-") ? nil : String(path)
        }
        return nil
    }

    /// Changes when the interpreter is another one: its file's name says the version (`python3.11`), its size the build.
    private static func interpreter(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        let name = String(cString: resolved)
        return "\(name) \(FileStamp(name)?.size ?? 0)"
    }
}

/// By these a file is taken for unchanged.
struct FileStamp: Sendable, Equatable {
    var device: UInt64
    var inode: UInt64
    var size: Int
    var modified: Int64
    var changed: Int64

    /// nil when there is no such file.
    init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int(status.st_size)
        modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        changed = Int64(status.st_ctim.tv_sec) * 1_000_000_000 + Int64(status.st_ctim.tv_nsec)
    }
}

/// A name of 128 bits for texts (FNV-1a). Not for texts by which somebody could gain from two that have the same name.
struct ContentName {
    private var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d

    mutating func add(_ text: String?) {
        // Lengths keep what stands before from flowing into what comes after.
        mix(text.map { "\($0.utf8.count):" } ?? "none:")
        if let text { mix(text) }
    }

    var hexadecimal: String {
        let text = String(hash, radix: 16)
        return String(repeating: "0", count: 32 - text.count) + text
    }

    private mutating func mix(_ text: String) {
        for byte in text.utf8 {
            hash ^= UInt128(byte)
            hash &*= 0x0000_0000_0100_0000_0000_0000_0000_013b
        }
    }
}
