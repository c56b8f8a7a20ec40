import CCurl
import Foundation
import Synchronization

/// What other threads ask of libcurl's thread, in order; an eventfd wakes it.
final class CurlMailbox: Sendable {
    enum Command: Sendable {
        case start(UInt64, CurlRequest, CheckedContinuation<CurlResponse, any Error>)
        /// May overtake its `start`.
        case cancel(UInt64)
        /// No `start` or `cancel` of this id will follow.
        case forget(UInt64)
        case stop
    }

    let descriptor: Int32
    private let commands = Mutex<[Command]>([])

    init() {
        descriptor = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        precondition(descriptor >= 0, "eventfd failed: \(String(cString: strerror(errno)))")
    }

    deinit {
        close(descriptor)
    }

    func post(_ command: Command) {
        commands.withLock { $0.append(command) }
        eventfd_write(descriptor, 1)
    }

    func takeAll() -> [Command] {
        var count: eventfd_t = 0
        eventfd_read(descriptor, &count)
        return commands.withLock { pending in
            defer { pending.removeAll(keepingCapacity: true) }
            return pending
        }
    }
}
