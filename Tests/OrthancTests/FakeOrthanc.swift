import Foundation
import Synchronization

/// A small HTTP/1.1 server that answers what a test tells it to: keep-alive, one thread a connection.
final class FakeOrthanc: Sendable {
    struct Request: Sendable {
        var path: String
        var headers: [String: String]
        /// Counts connections, from 1.
        var connection: Int
    }

    enum Answer: Sendable {
        case ok(Data)
        case status(Int)
        /// Status 200 and the announced length, then only so many bytes and a closed connection.
        case truncated(Data, keeping: Int)
        /// Closes the connection without a byte.
        case hangUp
        /// Never answers.
        case silence
        /// Answers well and drops the connection, as Orthanc does with one that was idle for a second.
        case last(Data)

        static func json(_ text: String) -> Answer { .ok(Data(text.utf8)) }
    }

    private struct State {
        var connections = 0
        var requests: [Request] = []
        var isStopped = false
    }

    let port: UInt16
    private let listener: Int32
    private let state = Mutex(State())
    private let answer: @Sendable (Request) -> Answer

    /// - Parameter port: 0 for any free one.
    init(port: UInt16 = 0, answer: @escaping @Sendable (Request) -> Answer) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var isReused: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_port = port.bigEndian
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(listener, generic, length) == 0 && getsockname(listener, generic, &length) == 0
            }
        }
        guard listener >= 0, bound, listen(listener, 64) == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
        self.answer = answer
        self.listener = listener
        self.port = UInt16(bigEndian: address.sin_port)
        Thread { [self] in accept() }.start()
    }

    var url: String { "http://127.0.0.1:\(port)" }
    var requests: [Request] { state.withLock { $0.requests } }
    var paths: [String] { requests.map(\.path) }

    func stop() {
        state.withLock { $0.isStopped = true }
        shutdown(listener, Int32(SHUT_RDWR))
    }

    private func accept() {
        while true {
            let connection = Foundation.accept(listener, nil, nil)
            guard connection >= 0, !state.withLock({ $0.isStopped }) else {
                if connection >= 0 { close(connection) }
                close(listener)
                return
            }
            let number = state.withLock { state in
                state.connections += 1
                return state.connections
            }
            Thread { [self] in serve(connection, number) }.start()
        }
    }

    private func serve(_ connection: Int32, _ number: Int) {
        defer { close(connection) }
        while let request = readRequest(connection, number) {
            state.withLock { $0.requests.append(request) }
            switch answer(request) {
            case .ok(let body): send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n", body)
            case .status(let code): send(connection, "HTTP/1.1 \(code) Status\r\nContent-Length: 6\r\n\r\n", Data("SECRET".utf8))
            case .truncated(let body, let count):
                send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n", body.prefix(count))
                return
            case .last(let body):
                send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n", body)
                return
            case .hangUp: return
            case .silence:
                var byte: UInt8 = 0
                // Until the client gives up.
                _ = recv(connection, &byte, 1, 0)
                return
            }
        }
    }

    private func readRequest(_ connection: Int32, _ number: Int) -> Request? {
        var text = ""
        var byte: UInt8 = 0
        while !text.hasSuffix("\r\n\r\n") {
            guard recv(connection, &byte, 1, 0) == 1 else { return nil }
            text.unicodeScalars.append(Unicode.Scalar(byte))
        }
        let lines = text.components(separatedBy: "\r\n")
        let headers = lines.dropFirst().compactMap { line in
            line.firstIndex(of: ":").map { (line[..<$0].lowercased(), line[$0...].dropFirst().trimmingCharacters(in: .whitespaces)) }
        }
        return Request(
            path: String(lines[0].split(separator: " ")[1]),
            headers: Dictionary(headers) { first, _ in first },
            connection: number
        )
    }

    private func send(_ connection: Int32, _ head: String, _ body: Data) {
        var bytes = Data(head.utf8)
        bytes.append(body)
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { Foundation.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard sent > 0 else { return }
            rest = rest.dropFirst(sent)
        }
    }
}
