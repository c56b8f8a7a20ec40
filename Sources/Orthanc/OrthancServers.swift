import Foundation
import Jobs

/// The Orthanc servers of the configuration, by name. Ingest follows each of them, and the worker exports from the one that an event names.
///
/// | variable | type, default | meaning |
/// |---|---|---|
/// | `ORTHANC_URLS` | `name=url` with commas between, or JSON `{"name": "url"}`; none | several servers; wins over the next |
/// | `ORTHANC_REST_URL` | URL; `http://orthanc:8042` | one server, whose name is `orthanc` |
/// | `ORTHANC_REST_USERNAME`, `ORTHANC_REST_PASSWORD` | text; none | for the servers whose URL holds no user |
package struct OrthancServers: Sendable, Hashable {
    /// A variable that cannot be used. Its value is not repeated: it may hold a password.
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package var variable: String
        package var allowed: String

        package var description: String { "\(variable) is not usable: it takes \(allowed)." }
    }

    /// At least one; no two with one name or one address.
    package let endpoints: [OrthancEndpoint]

    package subscript(name: String) -> OrthancEndpoint? { endpoints.first { $0.name == name } }

    /// - Parameter setting: the value of a variable; nil when it is not set or empty.
    /// - Throws: ``Invalid``.
    package init(setting: (String) -> String?) throws {
        let user = setting("ORTHANC_REST_USERNAME")
        let password = setting("ORTHANC_REST_PASSWORD")
        guard let list = setting("ORTHANC_URLS") else {
            do {
                let url = setting("ORTHANC_REST_URL") ?? "http://orthanc:8042"
                endpoints = [try OrthancEndpoint(url: url, user: user, password: password)]
            } catch {
                throw Invalid(variable: "ORTHANC_REST_URL", allowed: "an address such as http://orthanc:8042")
            }
            return
        }
        var endpoints: [OrthancEndpoint] = []
        for (position, entry) in try Self.entries(list).enumerated() {
            func invalid(_ allowed: String) -> Invalid {
                Invalid(variable: "ORTHANC_URLS", allowed: "\(allowed) (entry \(position + 1))")
            }
            guard Self.isName(entry.name) else {
                throw invalid("names of 1 to 32 lower-case letters, digits, dots, hyphens or underscores")
            }
            guard let url = try? OrthancEndpoint(name: entry.name, url: entry.url) else {
                throw invalid("addresses such as http://user:password@orthanc:8042, with @ : / , in a password written as %40 %3A %2F %2C")
            }
            let endpoint = url.user == nil ? try OrthancEndpoint(name: entry.name, url: entry.url, user: user, password: password) : url
            guard !endpoints.contains(where: { $0.name == endpoint.name }) else { throw invalid("each name once") }
            // Followed under two names, each image would be processed twice.
            guard !endpoints.contains(where: { $0.url == endpoint.url }) else { throw invalid("each address once") }
            endpoints.append(endpoint)
        }
        self.endpoints = endpoints
    }

    private static func entries(_ text: String) throws -> [(name: String, url: String)] {
        let usage = Invalid(
            variable: "ORTHANC_URLS",
            allowed: "name=address with commas between, for example ct=http://orthanc-ct:8042,mr=http://orthanc-mr:8042")
        let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
        if trimmed.hasPrefix("{") {
            let names = (try? JSONDecoder().decode([String: String].self, from: Data(trimmed.utf8))) ?? [:]
            guard !names.isEmpty else { throw usage }
            return names.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        }
        let items = trimmed.split(separator: ",").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }
        guard !items.isEmpty else { throw usage }
        return try items.map { item in
            guard let sign = item.firstIndex(of: "="), item[..<sign].allSatisfy({ $0 != ":" && $0 != "/" }) else { throw usage }
            return (String(item[..<sign]), String(item[item.index(after: sign)...]))
        }
    }

    /// Goes into messages, logs, metrics and file names.
    private static func isName(_ text: String) -> Bool {
        (1...32).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || [0x2d, 0x2e, 0x5f].contains($0)
            }
    }
}
