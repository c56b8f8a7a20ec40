package import Foundation
import Glibc

/// A secret that programs read from a file: random bytes that nobody types.
package enum SecretFile {
    /// Makes the file when there is none, readable for its owner alone. Of several that do so at a time, one wins.
    ///
    /// - Throws: ``StackError`` when the file cannot be made.
    package static func generate(_ file: URL, bytes: Int = 32) throws {
        guard !FileSystem.exists(file) else { return }
        let folder = file.deletingLastPathComponent()
        if !FileSystem.exists(folder) { try FileSystem.makeFolder(folder, mode: 0o700) }
        var generator = SystemRandomNumberGenerator()
        let content = Data((0..<bytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
        let temporary = folder.appendingPathComponent(".\(file.lastPathComponent).\(Secret.generate(length: 8))")
        defer { FileSystem.remove(temporary) }
        try FileSystem.write(content, to: temporary, mode: 0o600)
        // Not a rename: that would put a second key in the place of one that is in use already.
        guard link(temporary.path, file.path) == 0 || errno == EEXIST else {
            throw StackError(.fileSystem, "\(file.path) could not be made: \(String(cString: strerror(errno))). Is the folder writable?")
        }
    }
}
