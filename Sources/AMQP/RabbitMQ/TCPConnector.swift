import Glibc

/// Connects to the first address of a name that answers, IPv6 and IPv4 in the resolver's order.
///
/// The library's own connect gives the first silent address all the time there is, and says nothing but "a socket error occurred".
struct TCPConnector {
    typealias Instant = ContinuousClock.Instant

    let deadline: Instant
    /// Ends the wait for an address from another thread.
    let breaker: StuckCallBreaker

    struct Address {
        var storage: sockaddr_storage
        var length: socklen_t
        var text: String
    }

    /// - Returns: a socket as the library wants it: non-blocking, closed on exec, without Nagle's delay.
    func connect(to endpoint: AMQPEndpoint) throws(AMQPError) -> Int32 {
        try connect(to: endpoint, by: resolve(endpoint))
    }

    func connect(to endpoint: AMQPEndpoint, by addresses: [Address]) throws(AMQPError) -> Int32 {
        var failures: [String] = []
        for (index, address) in addresses.enumerated() {
            // An address that says nothing leaves time for those that follow.
            let share = (deadline - .now) / (addresses.count - index)
            switch connect(address, within: share) {
            case .success(let descriptor): return descriptor
            case .failure(let problem): failures.append(addresses.count > 1 ? "\(address.text) \(problem.text)" : problem.text)
            }
        }
        throw AMQPError(.connectionFailed, "Connecting to \(endpoint.address) failed: \(failures.joined(separator: ", ")).")
    }

    private struct Problem: Error {
        var text: String

        init(_ text: String) { self.text = text }
        init(errno code: Int32) { text = String(cString: strerror(code)) }
    }

    private func connect(_ address: Address, within limit: Duration) -> Result<Int32, Problem> {
        guard limit > .zero else { return .failure(Problem("No time was left to try it")) }
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(Int32(address.storage.ss_family), kind, Int32(IPPROTO_TCP))
        guard descriptor >= 0 else { return .failure(Problem(errno: errno)) }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        if let problem = finish(descriptor, address, within: limit) {
            close(descriptor)
            return .failure(problem)
        }
        return .success(descriptor)
    }

    private func finish(_ descriptor: Int32, _ address: Address, within limit: Duration) -> Problem? {
        var storage = address.storage
        let status = withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, address.length) }
        }
        if status == 0 { return nil }
        guard errno == EINPROGRESS else { return Problem(errno: errno) }
        let end = Instant.now + limit
        breaker.enter(descriptor: descriptor)
        defer { breaker.leave() }
        while true {
            var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            let left = max(.zero, end - .now) / .milliseconds(1)
            let ready = poll(&entry, 1, Int32(clamping: Int(left.rounded(.up))))
            if ready < 0, errno == EINTR { continue }
            guard ready != 0 else { return Problem("No answer in time") }
            guard !breaker.isStopped else { return Problem("The client is stopping") }
            var code: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return Problem(errno: errno) }
            return code == 0 ? nil : Problem(errno: code)
        }
    }

    func resolve(_ endpoint: AMQPEndpoint) throws(AMQPError) -> [Address] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_protocol = Int32(IPPROTO_TCP)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(endpoint.host, String(endpoint.port), &hints, &list)
        guard status == 0, let list else {
            throw AMQPError(
                .connectionFailed,
                "The name of \(endpoint.address) has no address: \(String(cString: gai_strerror(status))). Is it spelled right, is DNS up?",
            )
        }
        defer { freeaddrinfo(list) }
        var addresses: [Address] = []
        for entry in sequence(first: list, next: { $0.pointee.ai_next }) {
            guard let source = entry.pointee.ai_addr else { continue }
            var address = Address(storage: sockaddr_storage(), length: entry.pointee.ai_addrlen, text: "")
            memcpy(&address.storage, source, Int(entry.pointee.ai_addrlen))
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(source, entry.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 {
                address.text = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
            }
            addresses.append(address)
        }
        return addresses
    }
}
