import Foundation

/// Addresses that a request may not reach: those that only make sense on the machine's own link, where clouds keep their metadata and
/// credentials. What counts is the address that a connection is made to, after all names are looked up.
package struct AddressRefusal: Sendable {
    package static let linkLocal = AddressRefusal()

    /// - Parameter bytes: a `sockaddr_in` or `sockaddr_in6`. Anything else is refused.
    func refuses(socketAddress bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { raw in
            guard raw.count >= MemoryLayout<sockaddr>.size else { return true }
            switch Int32(raw.loadUnaligned(as: sockaddr.self).sa_family) {
            case AF_INET:
                guard raw.count >= MemoryLayout<sockaddr_in>.size else { return true }
                return withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in.self).sin_addr) { refuses(address: Array($0)) }
            case AF_INET6:
                guard raw.count >= MemoryLayout<sockaddr_in6>.size else { return true }
                return withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { refuses(address: Array($0)) }
            default: return true
            }
        }
    }

    /// - Parameter bytes: 4 or 16 of them, in network order.
    package func refuses(address bytes: [UInt8]) -> Bool {
        switch bytes.count {
        case 4:
            // Link-local; "this host on this network"; multicast and broadcast.
            return (bytes[0] == 169 && bytes[1] == 254) || bytes[0] == 0 || bytes[0] >= 224
        case 16:
            // An IPv4 address in an IPv6 one: mapped (::ffff/96), translated (64:ff9b::/96), 6to4 (2002::/16).
            if bytes.starts(with: [UInt8](repeating: 0, count: 10) + [0xff, 0xff]) || bytes.starts(with: Self.translated) {
                return refuses(address: Array(bytes[12...]))
            }
            if bytes.starts(with: [0x20, 0x02]) { return refuses(address: Array(bytes[2..<6])) }
            return (bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80) || bytes[0] == 0xff || bytes == Self.cloudMetadata
        default: return true
        }
    }

    private static let translated: [UInt8] = [0x00, 0x64, 0xff, 0x9b] + [UInt8](repeating: 0, count: 8)
    /// fd00:ec2::254, which Amazon uses beside 169.254.169.254.
    private static let cloudMetadata: [UInt8] = [0xfd, 0x00, 0x0e, 0xc2] + [UInt8](repeating: 0, count: 10) + [0x02, 0x54]
}
