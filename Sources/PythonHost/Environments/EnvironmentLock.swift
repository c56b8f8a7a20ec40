import Foundation
import Glibc

/// An exclusive lock on a file that ends with its holder, however that one ends. What the holder starts does not inherit it.
final class EnvironmentLock {
    struct Unusable: Error {
        var reason: String
    }

    private let descriptor: Int32

    private init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// - Returns: nil when somebody else holds it.
    static func take(_ file: URL) throws(Unusable) -> EnvironmentLock? {
        let descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o660)
        guard descriptor >= 0 else { throw Unusable(reason: "\(file.path): \(String(cString: strerror(errno)))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            if code == EWOULDBLOCK || code == EINTR { return nil }
            throw Unusable(reason: "\(file.path) cannot be locked: \(String(cString: strerror(code)))")
        }
        return EnvironmentLock(descriptor: descriptor)
    }
}
