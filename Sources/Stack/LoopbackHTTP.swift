package import Foundation

/// One HTTP request to a server on this machine: what a launcher needs to see whether something is ready.
///
/// No proxy of the environment is ever asked, which general HTTP clients do even for 127.0.0.1.
package enum LoopbackHTTP {
    package enum Credentials: Sendable {
        case none
        case basic(user: String, password: String)
        case bearer(String)

        fileprivate var header: String {
            switch self {
            case .none: ""
            case .basic(let user, let password): "Authorization: Basic \(Data("\(user):\(password)".utf8).base64EncodedString())\r\n"
            case .bearer(let token): "Authorization: Bearer \(token)\r\n"
            }
        }
    }

    package struct Answer: Sendable {
        package let status: Int
        package let body: Data
    }

    /// - Throws: ``StackError`` `.unreachable` when nobody answers in `limit` seconds, `.refused` for an answer that is not HTTP.
    package static func request(
        _ method: String,
        _ url: URL,
        credentials: Credentials = .none,
        body: Data? = nil,
        contentType: String = "application/json",
        limit: Duration = .seconds(5),
    ) async throws -> Answer {
        let host = url.host ?? "127.0.0.1"
        guard let port = UInt16(exactly: url.port ?? 80) else { throw StackError(.badSetting, "\(url) has no usable port.") }
        var path = url.path(percentEncoded: true)
        if path.isEmpty { path = "/" }
        if let query = url.query(percentEncoded: true) { path += "?\(query)" }
        // HTTP/1.0: the body then ends with the connection, with no chunks to put together.
        var head = "\(method) \(path) HTTP/1.0\r\nHost: \(host):\(port)\r\nAccept: application/json\r\n\(credentials.header)"
        if let body { head += "Content-Type: \(contentType)\r\nContent-Length: \(body.count)\r\n" }
        let message = Array((head + "Connection: close\r\n\r\n").utf8) + Array(body ?? Data())
        let answer = try await LoopbackSocket.withConnection(host: host, port: port, limit: limit) { connection in
            try connection.write(message)
            var bytes: [UInt8] = []
            while true {
                let more = try connection.read()
                if more.isEmpty { return bytes }
                bytes += more
            }
        }
        return try parse(answer, from: url)
    }

    static func parse(_ bytes: [UInt8], from url: URL) throws -> Answer {
        let data = Data(bytes)
        let failure = StackError(.refused, "\(url) did not answer in HTTP.")
        guard let end = data.range(of: Data("\r\n\r\n".utf8)) else { throw failure }
        let lines = String(decoding: data[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/"), let status = Int(words[1]) else { throw failure }
        let chunked = lines.contains { $0.lowercased().hasPrefix("transfer-encoding:") && $0.lowercased().contains("chunked") }
        let body = Data(data[end.upperBound...])
        return Answer(status: status, body: chunked ? unchunk(body) : body)
    }

    /// Some servers send chunks even to HTTP/1.0.
    private static func unchunk(_ body: Data) -> Data {
        var rest = body[...]
        var whole = Data()
        while let line = rest.range(of: Data("\r\n".utf8)),
            let size = Int(String(decoding: rest[..<line.lowerBound], as: UTF8.self).prefix { $0.isHexDigit }, radix: 16), size > 0
        {
            whole += rest[line.upperBound...].prefix(size)
            rest = rest[line.upperBound...].dropFirst(size + 2)
        }
        return whole
    }
}
