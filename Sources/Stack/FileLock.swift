package import Foundation
import Glibc

/// An exclusive lock on a file that ends with its last holder, however that one ends.
package final class FileLock: Sendable {
    let descriptor: Int32

    private init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// - Returns: nil when somebody else holds it.
    package static func tryLock(_ file: URL) throws -> FileLock? {
        try FileSystem.makeFolder(file.deletingLastPathComponent())
        let descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else {
            throw StackError(.fileSystem, "\(file.path) could not be opened: \(String(cString: strerror(errno))).")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            return nil
        }
        return FileLock(descriptor: descriptor)
    }

    /// Waits for it. Somebody who only looks whether it is taken holds it for a moment.
    package static func lock(_ file: URL, within limit: Duration, orThrow failure: StackError) async throws -> FileLock {
        try await poll(for: limit, orThrow: failure) { try tryLock(file) }
    }

    package static func isHeld(_ file: URL) throws -> Bool {
        guard FileSystem.exists(file) else { return false }
        return try tryLock(file) == nil
    }

    /// The children's ``Lifeline`` shares the lock: after our death it stays taken until they are gone too.
    package func shareWithLifeline() {
        Lifeline.shared.keepOpen(descriptor)
    }
}
