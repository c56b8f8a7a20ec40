import Foundation

/// Where a browser finds the pages of the Orthanc servers, so that runs and results lead to their images.
package struct OrthancPages: Sendable, Hashable {
    /// By the server's name, without a slash at the end.
    private var addresses: [String: String]

    /// The server of `ORTHANC_REST_URL`, when it is the only one.
    package static let onlyServer = "orthanc"

    package init() { addresses = [:] }

    /// - Parameter text: one http or https address, of the server `orthanc`, or `name=address` with commas between.
    /// - Returns: nil when it is neither; an address holds no user and no password, as it stands on pages.
    package init?(_ text: String) {
        addresses = [:]
        for part in text.split(separator: ",") {
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let isNamed = sides.count == 2 && !sides[0].contains("/")
            let name = isNamed ? sides[0].trimmingCharacters(in: .whitespaces) : Self.onlyServer
            let address = (isNamed ? String(sides[1]) : String(part)).trimmingCharacters(in: .whitespaces)
            guard let url = URL(string: address), ["http", "https"].contains(url.scheme), url.host?.isEmpty == false, url.user == nil,
                url.password == nil, url.query == nil, url.fragment == nil, !name.isEmpty, addresses[name] == nil
            else { return nil }
            addresses[name] = String(address.reversed().drop { $0 == "/" }.reversed())
        }
        if addresses.isEmpty { return nil }
    }

    /// - Parameters:
    ///   - level: `patient`, `study`, `series` or `instance`.
    ///   - id: Orthanc's.
    /// - Returns: nil when nobody said where this server's pages are, or when `id` is none of Orthanc's.
    func url(_ level: String, _ id: String, server: String) -> String? {
        guard let address = addresses[server], ["patient", "study", "series", "instance"].contains(level), Self.isOrthancID(id) else {
            return nil
        }
        return "\(address)/app/explorer.html#\(level)?uuid=\(id)"
    }

    /// Five groups of eight hexadecimal digits.
    static func isOrthancID(_ text: String) -> Bool {
        let groups = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        return groups.count == 5
            && groups.allSatisfy { group in
                group.count == 8 && group.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
            }
    }
}
