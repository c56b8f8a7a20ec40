import Glibc
import Synchronization

/// TCP ports that nobody listens on.
///
/// They come from below the range that Linux gives to outgoing connections (32768 and up), so that a port kept in a
/// file is not lost to some client's connection between two starts.
package enum FreePorts {
    private static let range: ClosedRange<UInt16> = 20_000...31_999
    /// Ports already promised by this process: nobody may have bound them yet.
    private static let promised = Mutex<Set<UInt16>>([])

    /// - Throws: ``StackError`` when there is no free port in 2,000 attempts.
    package static func next() throws -> UInt16 {
        for _ in 0..<2_000 {
            let candidate = UInt16.random(in: range)
            guard promised.withLock({ $0.insert(candidate).inserted }) else { continue }
            if isFree(candidate) { return candidate }
        }
        throw StackError(.portTaken, "No free TCP port between \(range.lowerBound) and \(range.upperBound) was found in 2,000 attempts.")
    }

    /// Whether a server could listen on the port now, on all interfaces.
    ///
    /// SO_REUSEADDR as servers set it: connections in TIME_WAIT do not count, a listener does.
    package static func isFree(_ port: UInt16) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var reuse: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = INADDR_ANY
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
