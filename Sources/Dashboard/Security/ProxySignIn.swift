import Foundation
package import JobStore

/// A reverse proxy that says who people are and where they come from.
package struct ProxySignIn: Sendable {
    /// Holds the user's name, for example `X-Remote-User`. nil: the proxy signs nobody in and only says where requests come from.
    package var header: String?
    /// Holds roles or groups, separated by commas.
    package var rolesHeader: String?
    /// Which group has which role; without any, the header names roles.
    package var roles: [String: AccountRole]
    /// From where the headers are believed.
    package var addresses: [AddressRange]

    package init(header: String?, rolesHeader: String? = nil, roles: [String: AccountRole] = [:], addresses: [AddressRange]) {
        self.header = header
        self.rolesHeader = rolesHeader
        self.roles = roles
        self.addresses = addresses
    }

    func trusts(_ address: String) -> Bool { addresses.contains { $0.contains(address) } }

    /// The highest role that `groups` give.
    func role(of groups: String?) -> AccountRole? {
        (groups ?? "").split(separator: ",").compactMap { group in
            let name = group.trimmingCharacters(in: .whitespaces)
            return roles.isEmpty ? AccountRole(rawValue: name.lowercased()) : roles[name]
        }.max()
    }

    /// The address that the nearest proxy which is not ours, or the client itself, had.
    func client(of peer: String, forwardedFor: String?) -> String {
        guard trusts(peer), let forwardedFor else { return peer }
        let hops = forwardedFor.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
        return hops.last { !trusts($0) && AddressRange($0) != nil } ?? peer
    }
}

/// `10.0.0.7`, `10.0.0.0/8`, `::1`, `fd00::/8`.
package struct AddressRange: Sendable, Hashable {
    private let bytes: [UInt8]
    private let bits: Int

    /// - Returns: nil for what is no address.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let bytes = Self.bytes(String(parts[0])) else { return nil }
        let longest = bytes.count * 8
        guard let bits = parts.count == 2 ? Int(parts[1]) : longest, (0...longest).contains(bits) else { return nil }
        self.bytes = bytes
        self.bits = bits
    }

    package func contains(_ address: String) -> Bool {
        guard let other = Self.bytes(address), other.count == bytes.count else { return false }
        return (0..<bits).allSatisfy { bit in
            let mask = UInt8(0x80) >> UInt8(bit % 8)
            return bytes[bit / 8] & mask == other[bit / 8] & mask
        }
    }

    static func bytes(_ text: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        let bytes = withUnsafeBytes(of: six) { Array($0) }
        // A socket that takes both kinds shows the old ones as ::ffff:10.0.0.7.
        if bytes.prefix(10).allSatisfy({ $0 == 0 }), bytes[10] == 0xff, bytes[11] == 0xff { return Array(bytes[12...]) }
        return bytes
    }
}
