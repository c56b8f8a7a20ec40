import Foundation
import Glibc
import Jobs
import Synchronization

/// One running Python host: its process, its socket, and what it prints.
///
/// A thread of its own reads the socket, because reads block and hosts are few; what arrives goes to `onReply` on that thread, in
/// order, and the end to `onEnd` exactly once, after the process has been reaped. A second thread waits for the process's own end: what
/// the host has started may hold its end of the socket open long after it. Writes go through a serial queue: a host that is busy with an
/// import does not hold up its caller.
final class HostProcess: Sendable {
    /// How the process ended.
    struct End: Sendable {
        /// The exit status, nil when a signal ended it.
        var code: Int32?
        var signal: Int32?
        /// What ``end(because:)`` was given first.
        var reason: String?
        /// What the host was saying when it was ended for talking nonsense.
        var protocolError: String?

        var text: String {
            if let protocolError { return "it broke the protocol (\(protocolError))" }
            if let signal { return "it was ended by signal \(signal)" }
            return "it exited with status \(code ?? -1)"
        }
    }

    let pid: pid_t
    private let socket: Int32
    private let output: Int32
    private let writes = DispatchQueue(label: "dcm.python-host.write")
    private let state = Mutex(State())

    private struct State {
        /// Set before the process is reaped: afterwards its number may be somebody else's.
        var isReaped = false
        var reason: String?
    }

    /// - Throws: ``PythonHostError`` `.cannotStart`.
    init(
        _ command: HostCommand,
        onReply: @escaping @Sendable (HostReply) -> Void,
        onEnd: @escaping @Sendable (End) -> Void
    ) throws {
        var ends: [Int32] = [-1, -1]
        // SOCK_CLOEXEC: another process that is started at the same time must not keep our end open.
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw PythonHostError(.cannotStart, "Python could not be started: no socket: \(String(cString: strerror(errno))).")
        }
        let output: Int32
        do {
            output = try Self.unlinkedFile()
            self.pid = try command.spawn(socket: ends[1], output: output)
        } catch {
            close(ends[0])
            close(ends[1])
            throw error
        }
        close(ends[1])
        self.socket = ends[0]
        self.output = output
        Thread.detachNewThread { [self] in
            let protocolError = read(onReply)
            onEnd(reap(protocolError))
        }
        Thread.detachNewThread { [self] in
            var info = siginfo_t()
            // Fails when the thread above was faster, and reading is over anyway.
            while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
            stopReading()
        }
    }

    deinit {
        close(socket)
        close(output)
    }

    var hasEnded: Bool { state.withLock { $0.isReaped } }

    /// Queues a message. A host that is gone does not take it; its end is reported anyway.
    func send(_ request: HostRequest) {
        writes.async { [self] in
            do {
                let frame = try Frames.encode(request)
                frame.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
                    var sent = 0
                    while sent < bytes.count {
                        let count = Glibc.send(socket, bytes.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
                        if count < 0, errno == EINTR { continue }
                        if count < 0 { return }
                        sent += count
                    }
                }
            } catch {
                end(because: "a message to it could not be written as JSON: \(error)")
            }
        }
    }

    /// Ends the host and its group at once. Jobs that it has forked follow it (PR_SET_PDEATHSIG).
    func end(because reason: String) {
        state.withLock { state in
            state.reason = state.reason ?? reason
            if !state.isReaped { kill(-pid, SIGKILL) }
        }
        stopReading()
    }

    /// Lets the host go: it ends its jobs and exits when it sees that nobody listens.
    func hangUp() {
        shutdown(socket, Int32(SHUT_WR))
    }

    /// What has arrived is still read, then reads and writes end, whoever else holds the other end.
    private func stopReading() {
        shutdown(socket, Int32(SHUT_RDWR))
    }

    /// The last bytes of what the host printed.
    func recentOutput(limit: Int = 16 * 1024) -> String {
        var status = stat()
        guard fstat(output, &status) == 0, status.st_size > 0 else { return "" }
        let count = min(limit, Int(status.st_size))
        var bytes = [UInt8](repeating: 0, count: count)
        let got = pread(output, &bytes, count, status.st_size - off_t(count))
        return String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
    }

    /// Reads frames until the host closes its end.
    /// - Returns: what was wrong when it stopped because of nonsense.
    private func read(_ onReply: (HostReply) -> Void) -> String? {
        while let header = read(count: 4) {
            let length = Frames.length(header)
            guard length <= Frames.limit else { return "a frame of \(length) bytes" }
            guard let body = read(count: length) else { return nil }
            do {
                onReply(try JSONCoding.decode(HostReply.self, from: body))
            } catch {
                return "a frame of \(length) bytes that is no message"
            }
        }
        return nil
    }

    private func read(count: Int) -> Data? {
        var data = Data(count: count)
        let isComplete = data.withUnsafeMutableBytes { buffer in
            var filled = 0
            while filled < buffer.count {
                let got = recv(socket, buffer.baseAddress! + filled, buffer.count - filled, 0)
                if got < 0, errno == EINTR { continue }
                if got <= 0 { return false }
                filled += got
            }
            return true
        }
        return isComplete ? data : nil
    }

    private func reap(_ protocolError: String?) -> End {
        // It has closed its end, so it is of no more use even if it still runs.
        state.withLock { _ in _ = kill(-pid, SIGKILL) }
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        var status: Int32 = 0
        let reason = state.withLock { state in
            state.isReaped = true
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            return state.reason
        }
        let signal = status & 0x7f
        return End(
            code: signal == 0 ? (status >> 8) & 0xff : nil,
            signal: signal == 0 ? nil : signal,
            reason: reason,
            protocolError: protocolError
        )
    }

    private static func unlinkedFile() throws -> Int32 {
        let path = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-python-\(UUID().uuidString)").path
        let file = open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            let reason = String(cString: strerror(errno))
            throw PythonHostError(.cannotStart, "Python could not be started: no temporary file \(path): \(reason).")
        }
        unlink(path)
        return file
    }
}
