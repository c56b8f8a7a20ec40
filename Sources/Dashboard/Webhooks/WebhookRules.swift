import Foundation
import JobStore

/// What a webhook may be called and where it may be.
package enum WebhookRules {
    static let longestName = 60
    static let longestURL = 2000
    package static let most = 50
    /// Failed tries in a row that mean that somebody should look.
    package static let manyFailures = 5

    /// - Returns: what is wrong with `name`, as a sentence; nil when nothing is.
    static func problem(name: String) -> String? {
        let isPlain = name.unicodeScalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
            default: true
            }
        }
        guard !name.isEmpty, name.unicodeScalars.count <= longestName, isPlain else {
            return "A webhook's name has 1 to \(longestName) characters, no control characters among them."
        }
        return nil
    }

    /// Whoever connects looks at the address once more, when the host's name has been looked up: see `AddressRefusal`.
    static func problem(url: String) -> String? {
        guard url.utf8.count <= longestURL, url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), let parts = URLComponents(string: url),
            let scheme = parts.scheme?.lowercased(), let host = parts.host, !host.isEmpty
        else { return "The address is a URL of at most \(longestURL) characters, such as https://ris.example.org/hooks/dcm." }
        guard scheme == "https" || scheme == "http" else { return "The address begins with https:// or http://." }
        guard parts.user == nil, parts.password == nil else {
            return "The address holds no user and no password: receivers check the signature instead."
        }
        guard parts.fragment == nil else { return "The address has no part after '#': that is never sent." }
        guard parts.port.map({ (1...65535).contains($0) }) ?? true else { return "The address has a port from 1 to 65535." }
        let name = host.trimmingCharacters(in: ["[", "]"])
        if linkLocal.contains(where: { $0.contains(name) }) {
            return "The address is link-local, where clouds keep the metadata of machines: no webhook is sent there."
        }
        return nil
    }

    private static let linkLocal = ["169.254.0.0/16", "fe80::/10"].compactMap { AddressRange($0) }
}
