import CCurl
import Foundation

/// What libcurl's thread does: one multi handle, at most `parallelism` transfers in it, the others wait in order.
///
/// Everything here is used by that one thread; only the mailbox is shared.
final class CurlLoop {
    private let mailbox: CurlMailbox
    private let parallelism: Int
    private let multi: UnsafeMutableRawPointer
    private var active: [UnsafeMutableRawPointer: CurlTransfer] = [:]
    private var waiting: [CurlTransfer] = []
    /// Easy handles that a next transfer may use again.
    private var idle: [UnsafeMutableRawPointer] = []
    /// Cancelled before they arrived here.
    private var cancelledEarly: Set<UInt64> = []

    init(mailbox: CurlMailbox, parallelism: Int) {
        self.mailbox = mailbox
        self.parallelism = parallelism
        guard let multi = curl_multi_init() else { fatalError("curl_multi_init failed: out of memory") }
        self.multi = multi
        dcm_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, parallelism)
    }

    deinit {
        for easy in idle {
            curl_easy_cleanup(easy)
        }
        curl_multi_cleanup(multi)
    }

    func run() {
        while carryOutCommands() {
            startWaiting()
            var running: Int32 = 0
            curl_multi_perform(multi, &running)
            if finishDone() { continue }
            sleepUntilSomethingHappens()
        }
    }

    /// - Returns: false once the session is gone.
    private func carryOutCommands() -> Bool {
        for command in mailbox.takeAll() {
            switch command {
            case .start(let id, let request, let continuation):
                if cancelledEarly.remove(id) != nil {
                    continuation.resume(throwing: CancellationError())
                } else {
                    waiting.append(CurlTransfer(id: id, request: request, continuation: continuation, easy: takeHandle()))
                }
            case .cancel(let id):
                cancel(id)
            case .forget(let id):
                cancelledEarly.remove(id)
            case .stop:
                // `perform` keeps the session alive, so nothing can be under way.
                return false
            }
        }
        return true
    }

    private func takeHandle() -> UnsafeMutableRawPointer {
        if let easy = idle.popLast() { return easy }
        guard let easy = curl_easy_init() else { fatalError("curl_easy_init failed: out of memory") }
        return easy
    }

    private func startWaiting() {
        let count = min(waiting.count, parallelism - active.count)
        guard count > 0 else { return }
        for transfer in waiting.prefix(count) {
            active[transfer.easy] = transfer
            curl_multi_add_handle(multi, transfer.easy)
        }
        waiting.removeFirst(count)
    }

    private func cancel(_ id: UInt64) {
        if let index = waiting.firstIndex(where: { $0.id == id }) {
            let transfer = waiting.remove(at: index)
            idle.append(transfer.easy)
            transfer.cancel()
        } else if let transfer = active.values.first(where: { $0.id == id }) {
            release(transfer)
            transfer.cancel()
        } else {
            cancelledEarly.insert(id)
        }
    }

    /// - Returns: whether any transfer ended.
    private func finishDone() -> Bool {
        var any = false
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            // Copied first: the message dies with curl_multi_remove_handle.
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
            let code = message.pointee.data.result
            guard let transfer = active[easy] else { continue }
            any = true
            release(transfer, code)
        }
        return any
    }

    private func release(_ transfer: CurlTransfer, _ code: CURLcode? = nil) {
        curl_multi_remove_handle(multi, transfer.easy)
        active[transfer.easy] = nil
        if let code {
            transfer.finish(code)
        }
        idle.append(transfer.easy)
    }

    private func sleepUntilSomethingHappens() {
        var wakeup = curl_waitfd(fd: mailbox.descriptor, events: Int16(CURL_WAIT_POLLIN), revents: 0)
        curl_multi_poll(multi, &wakeup, 1, 60_000, nil)
    }
}
