import Foundation
import Glibc

/// One kept-alive connection to a server on this machine. Blocks its thread; costs the measured machine next to nothing.
final class HTTPConnection {
    struct Answer {
        var status: Int
        var body: [UInt8]
        /// From the request's first byte to the answer's last one.
        var seconds: Double
    }

    private let descriptor: Int32
    private var buffer = [UInt8](repeating: 0, count: 65536)
    private var pending: [UInt8] = []

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw BenchmarkError("No socket: \(String(cString: strerror(errno)))") }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else {
            close(descriptor)
            throw BenchmarkError("Nothing listens on port \(port): \(String(cString: strerror(errno)))")
        }
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    func get(_ path: String) throws -> Answer {
        let began = ContinuousClock.now
        try send(path, accept: "*/*")
        let head = try line(endingWith: [13, 10, 13, 10])
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n")
        guard let status = lines.first?.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw BenchmarkError("\(path): no answer in HTTP.")
        }
        let length = lines.first { $0.lowercased().hasPrefix("content-length:") }.flatMap { Int($0.dropFirst(15).trimmingPrefix(" ")) }
        var body: [UInt8] = []
        if let length {
            body = try take(length)
        } else if lines.contains(where: { $0.lowercased().hasPrefix("transfer-encoding: chunked") }) {
            while true {
                let size = Int(String(decoding: try line(endingWith: [13, 10]).dropLast(2), as: UTF8.self), radix: 16) ?? 0
                let chunk = try take(size + 2)
                if size == 0 { break }
                body += chunk.dropLast(2)
            }
        }
        return Answer(status: status, body: body, seconds: (ContinuousClock.now - began).inSeconds)
    }

    /// Asks for a stream of server-sent events; read it with ``lines(_:)``.
    func follow(_ path: String) throws { try send(path, accept: "text/event-stream") }

    /// Hands over line after line until it says false, or the server ends.
    func lines(_ body: (Substring) -> Bool) throws {
        while true {
            let line = try line(endingWith: [10])
            guard body(String(decoding: line, as: UTF8.self)[...]) else { return }
        }
    }

    /// Ends what another thread reads here.
    func end() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    private func send(_ path: String, accept: String) throws {
        let request = Array("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: \(accept)\r\n\r\n".utf8)
        guard Glibc.send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            throw BenchmarkError("\(path): the request could not be sent.")
        }
    }

    private func fill() throws {
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { throw BenchmarkError("The server ended the connection, or says nothing for a minute.") }
        pending += buffer[..<count]
    }

    private func line(endingWith end: [UInt8]) throws -> [UInt8] {
        var searched = 0
        while true {
            if pending.count >= end.count {
                var index = max(0, searched - end.count + 1)
                while index + end.count <= pending.count {
                    if pending[index] == end[0], pending[index..<(index + end.count)].elementsEqual(end) {
                        return try take(index + end.count)
                    }
                    index += 1
                }
            }
            searched = pending.count
            try fill()
        }
    }

    private func take(_ count: Int) throws -> [UInt8] {
        while pending.count < count { try fill() }
        let taken = Array(pending[..<count])
        pending.removeFirst(count)
        return taken
    }
}
