import Foundation
import Glibc

/// A TCP connection for short questions to a server on this machine, each step with a time limit.
///
/// It blocks, so it is used inside ``LoopbackSocket/withConnection(host:port:limit:_:)`` only, which runs on a thread
/// of its own and not on one of the few that Swift's tasks share.
final class LoopbackSocket {
    private let descriptor: Int32
    private let address: String

    static func withConnection<Value: Sendable>(
        host: String = "127.0.0.1",
        port: UInt16,
        limit: Duration,
        _ body: @escaping @Sendable (LoopbackSocket) throws -> Value,
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(
                    with: Result {
                        let connection = try LoopbackSocket(host: host, port: port)
                        try connection.connect(host: host, port: port, limit: limit)
                        return try body(connection)
                    }
                )
            }
        }
    }

    private init(host: String, port: UInt16) throws {
        address = "\(host):\(port)"
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure(address, errno) }
    }

    private func connect(host: String, port: UInt16, limit: Duration) throws {
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = port.bigEndian
        guard inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host, &target.sin_addr) == 1 else {
            throw StackError(.badSetting, "\(host) is not an IPv4 address.")
        }
        // Linux applies SO_SNDTIMEO to connect as well.
        var time = timeval(tv_sec: Int(limit.components.seconds), tv_usec: Int(limit.components.attoseconds / 1_000_000_000_000))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafePointer(to: &target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, size) }
        }
        guard result == 0 else { throw Self.failure(address, errno) }
    }

    deinit { close(descriptor) }

    func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure(address, errno) }
            sent += count
        }
    }

    /// What is there next; empty when the server has closed the connection.
    func read(atMost limit: Int = 65_536) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: limit)
        while true {
            let count = recv(descriptor, &buffer, limit, 0)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(address, errno) }
            return Array(buffer.prefix(count))
        }
    }

    func read(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try read(atMost: count - bytes.count)
            guard !more.isEmpty else { throw StackError(.refused, "\(address) closed the connection in the middle of an answer.") }
            bytes += more
        }
        return bytes
    }

    private static func failure(_ address: String, _ error: Int32) -> StackError {
        let reason = error == EAGAIN || error == EINPROGRESS ? "no answer in time" : String(cString: strerror(error))
        return StackError(.unreachable, "\(address): \(reason).")
    }
}
