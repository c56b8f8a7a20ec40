/// Where a broker is and who we are there: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS.
///
/// User, password and virtual host are percent-decoded; without a path, or with an empty one, the virtual host is `/`. Parameters after `?`: `heartbeat` (seconds), and for TLS
/// `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer` is the default, `verify_none` only for tests).
package struct AMQPEndpoint: Sendable, Hashable {
    /// How the broker proves who it is, and how we do. PEM files; TLS 1.2 or later.
    package struct TLS: Sendable, Hashable {
        /// PEM bundle; nil means the system's.
        package var certificateAuthorityFile: String?
        /// Our certificate, with its chain; nil for none. Goes with `keyFile`.
        package var certificateFile: String?
        /// The key of our certificate, not encrypted.
        package var keyFile: String?
        /// Whether the broker's certificate and its host name are verified.
        package var verifyPeer: Bool = true
    }

    /// A name or an address, an IPv6 one without its brackets.
    package let host: String
    /// 1 to 65535; by default 5672, with TLS 5671.
    package let port: Int
    /// The virtual host, decoded; `/` by default.
    package let virtualHost: String
    /// The user, decoded; `guest` by default.
    package let user: String
    let password: String
    /// Nil for `amqp`.
    package let tls: TLS?
    /// In whole seconds, 0 for none; nil takes the configuration's.
    package let heartbeat: Duration?

    /// - Throws: ``AMQPError/Code/invalidEndpoint`` that names the faulty part, never the password.
    package init(uri: String) throws(AMQPError) {
        guard let schemeEnd = uri.firstRange(of: "://") else {
            throw Self.invalid("it has no scheme; write amqp://user:password@host:5672/vhost")
        }
        let scheme = uri[..<schemeEnd.lowerBound].lowercased()
        guard scheme == "amqp" || scheme == "amqps" else {
            throw Self.invalid("the scheme is neither amqp nor amqps")
        }
        var rest = uri[schemeEnd.upperBound...]
        guard !rest.contains("#") else { throw Self.invalid("it has a fragment; write # as %23") }

        var query: Substring = ""
        if let mark = rest.firstIndex(of: "?") {
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        var path: Substring?
        if let slash = rest.firstIndex(of: "/") {
            path = rest[rest.index(after: slash)...]
            rest = rest[..<slash]
        }
        var user = "guest"
        var password = "guest"
        if let at = rest.lastIndex(of: "@") {
            let credentials = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            user = try Self.decode(credentials[0], "the user")
            password = try credentials.count > 1 ? Self.decode(credentials[1], "the password") : ""
            rest = rest[rest.index(after: at)...]
        }

        let defaultPort = scheme == "amqps" ? 5671 : 5672
        (host, port) = try Self.parseAuthority(rest, defaultPort: defaultPort)
        if let path, path.contains("/") {
            throw Self.invalid("the virtual host \"\(path)\" holds a slash; write it as %2F")
        }
        if let path, !path.isEmpty {
            virtualHost = try Self.decode(path, "the virtual host")
        } else {
            virtualHost = "/"
        }
        self.user = user
        self.password = password
        (tls, heartbeat) = try Self.parseQuery(query, isTLS: scheme == "amqps")
    }

    private static func parseAuthority(_ text: Substring, defaultPort: Int) throws(AMQPError) -> (String, Int) {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let end = text.firstIndex(of: "]") else { throw invalid("the IPv6 address has no closing bracket") }
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if rest.first == ":" {
                port = rest.dropFirst()
            } else if !rest.isEmpty {
                throw invalid("\"\(rest)\" follows the IPv6 address")
            }
        } else if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
        }
        guard let port else { return (try nonEmpty(host), defaultPort) }
        guard let number = Int(port), (1...65535).contains(number) else {
            throw invalid("the port \"\(port)\" is not a number from 1 to 65535")
        }
        return (try nonEmpty(host), number)
    }

    private static func nonEmpty(_ host: Substring) throws(AMQPError) -> String {
        let host = try decode(host, "the host")
        guard !host.isEmpty else { throw invalid("it names no host") }
        return host
    }

    private static func parseQuery(_ query: Substring, isTLS: Bool) throws(AMQPError) -> (TLS?, Duration?) {
        var tls = TLS()
        var heartbeat: Duration?
        for pair in query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            let value = parts.count > 1 ? try decode(parts[1], name) : ""
            switch name {
            case "heartbeat":
                guard let seconds = Int(value), (0...3600).contains(seconds) else {
                    throw invalid("heartbeat is \"\(value)\", not whole seconds from 0 to 3600")
                }
                heartbeat = .seconds(seconds)
            case "cacertfile": tls.certificateAuthorityFile = value
            case "certfile": tls.certificateFile = value
            case "keyfile": tls.keyFile = value
            case "verify":
                switch value {
                case "verify_peer": tls.verifyPeer = true
                case "verify_none": tls.verifyPeer = false
                default: throw invalid("verify is \"\(value)\", neither verify_peer nor verify_none")
                }
            default:
                throw invalid("the parameter \"\(name)\" is not one of heartbeat, cacertfile, certfile, keyfile, verify")
            }
        }
        guard (tls.certificateFile == nil) == (tls.keyFile == nil) else {
            throw invalid("certfile and keyfile go together, one is missing")
        }
        guard isTLS || tls == TLS() else { throw invalid("TLS parameters need the scheme amqps") }
        return (isTLS ? tls : nil, heartbeat)
    }

    private static func decode(_ text: Substring, _ part: String) throws(AMQPError) -> String {
        var bytes: [UInt8] = []
        var input = text.utf8.makeIterator()
        while let byte = input.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = input.next().flatMap(hexadecimal), let low = input.next().flatMap(hexadecimal) else {
                throw invalid("\(part) has a % that two hexadecimal digits do not follow; write % itself as %25")
            }
            bytes.append(high << 4 | low)
        }
        guard !bytes.contains(0), let decoded = String(validating: bytes, as: UTF8.self) else {
            throw invalid("\(part) is not valid text after percent decoding")
        }
        return decoded
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.map(UInt8.init)
    }

    private static func invalid(_ why: String) -> AMQPError {
        AMQPError(.invalidEndpoint, "The AMQP URI cannot be used: \(why).")
    }
}

extension AMQPEndpoint: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// `host:port`, for log lines.
    package var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// The URI without the password, for log lines.
    package var description: String { "\(tls == nil ? "amqp" : "amqps")://\(user)@\(address)/\(virtualHost == "/" ? "" : virtualHost)" }
    /// The same: the password shows nowhere.
    package var debugDescription: String { description }
    // Without this, dump() and string interpolation of a containing type would show the password.
    package var customMirror: Mirror { Mirror(self, children: ["endpoint": description]) }
}
