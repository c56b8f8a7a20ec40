package import Foundation

/// Where an Orthanc server answers, and as whom we ask.
package struct OrthancEndpoint: Sendable, Hashable {
    /// The server's name in the configuration; goes into events, logs and errors.
    package var name: String
    /// `http` or `https`; a path prefix is kept. Credentials inside the URL have been taken out of it.
    package let url: URL
    package var user: String?
    package var password: String?

    /// - Parameters:
    ///   - user: nil or empty: the URL's own user, or no authentication.
    /// - Throws: ``OrthancError`` with `.invalidEndpoint` unless `url` is an absolute http or https URL.
    package init(name: String = "orthanc", url text: String, user: String? = nil, password: String? = nil) throws {
        guard var parts = URLComponents(string: text), let scheme = parts.scheme?.lowercased(), ["http", "https"].contains(scheme),
            let host = parts.host, !host.isEmpty
        else {
            throw OrthancError(
                .invalidEndpoint, server: name, message: "the URL must look like http://orthanc:8042",
                cure: "Set ORTHANC_REST_URL to Orthanc's address, for example http://orthanc:8042."
            )
        }
        let (urlUser, urlPassword) = (parts.user, parts.password)
        parts.user = nil
        parts.password = nil
        parts.query = nil
        parts.fragment = nil
        while parts.path.hasSuffix("/") {
            parts.path.removeLast()
        }
        guard let url = parts.url else {
            preconditionFailure("components of a valid URL make a URL")
        }
        self.name = name
        self.url = url
        self.user = user.flatMap { $0.isEmpty ? nil : $0 } ?? urlUser
        self.password = password.flatMap { $0.isEmpty ? nil : $0 } ?? urlPassword
    }
}

extension OrthancEndpoint: CustomStringConvertible {
    package var description: String { "\(name) at \(url.absoluteString)" }
}
