import CCurl
import Foundation
import Synchronization

/// HTTP over libcurl: one thread, one multi handle, connections kept alive between requests.
package final class CurlSession: Sendable {
    private let mailbox = CurlMailbox()
    private let nextID = Atomic<UInt64>(0)

    /// - Parameter parallelism: transfers at once; more requests wait in order.
    package init(parallelism: Int) {
        precondition(parallelism > 0, "a session without transfers could do nothing")
        _ = Self.library
        let thread = Thread { [mailbox] in
            CurlLoop(mailbox: mailbox, parallelism: parallelism).run()
        }
        thread.name = "curl"
        thread.start()
    }

    deinit {
        mailbox.post(.stop)
    }

    /// Once per process, before the first handle.
    private static let library: Void = {
        curl_global_init(Int(CURL_GLOBAL_DEFAULT))
        return
    }()

    /// - Throws: ``CurlFailure``, or `CancellationError` as soon as the task is cancelled; the sink is no longer used then.
    package func perform(_ request: CurlRequest) async throws -> CurlResponse {
        let id = nextID.wrappingAdd(1, ordering: .relaxed).newValue
        defer {
            if Task.isCancelled { mailbox.post(.forget(id)) }
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                mailbox.post(.start(id, request, continuation))
            }
        } onCancel: {
            mailbox.post(.cancel(id))
        }
    }
}
