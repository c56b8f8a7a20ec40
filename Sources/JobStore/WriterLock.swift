import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// An advisory lock that the kernel gives back when its process ends, however it ends.
struct WriterLock: ~Copyable, Sendable {
    private let descriptor: Int32

    init(file: URL) throws {
        let descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw LedgerError.unusable(file, errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            close(descriptor)
            guard reason == EWOULDBLOCK else { throw LedgerError.unusable(file, reason) }
            throw LedgerError(
                code: .locked,
                message:
                    "Another router holds \(file.path): the ledger has one writer. Stop that router, or give this one a STATE of its own.")
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
