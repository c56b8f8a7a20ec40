import Glibc

/// Listens, and its queue is full: the kernel drops every further SYN, as a firewall does.
final class FullListener: Sendable {
    let port: UInt16
    private let listener: Int32
    private let fillers: [Int32]

    init() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var fillers: [Int32] = []
        let filled = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                guard bind(listener, $0, length) == 0, listen(listener, 0) == 0, getsockname(listener, $0, &length) == 0 else {
                    return false
                }
                for _ in 0..<4 {
                    let filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                    _ = fcntl(filler, F_SETFL, O_NONBLOCK)
                    _ = connect(filler, $0, length)
                    fillers.append(filler)
                }
                return true
            }
        }
        guard filled else { throw Late(description: "No port to listen on") }
        (self.listener, self.fillers, port) = (listener, fillers, UInt16(bigEndian: address.sin_port))
    }

    deinit {
        for descriptor in fillers + [listener] { close(descriptor) }
    }
}
