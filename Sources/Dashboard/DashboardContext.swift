import Foundation
import Hummingbird
import NIOCore

struct DashboardContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The client's address, without port; behind a trusted proxy, the one that the proxy names.
    var client: String
    var identity: Identity?
    var session: Session?
    /// For answers that take hours: whether who asked still may.
    var mayStill: @Sendable () async -> Bool = { true }
    /// The fields of a submitted form.
    var form: [String: String] = [:]

    init(source: Source) {
        coreContext = .init(source: source)
        client = source.channel.remoteAddress?.ipAddress ?? "unknown"
    }

    /// Whoever is signed in.
    ///
    /// - Throws: 403 when nobody is.
    func requireIdentity() throws(Problem) -> Identity {
        guard let identity else { throw .forbidden("Nobody is signed in.") }
        return identity
    }

    /// Whether there is something at the address.
    var isRouted: Bool { endpointPath != nil && endpointPath != "NotFound" }
}

extension Request {
    /// Pages and the API answer errors in different ways.
    var wantsJSON: Bool { uri.path.hasPrefix("/api/") }

    func query(_ name: String) -> String? {
        guard let query = uri.query else { return nil }
        return FormDecoding.fields(query)[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    /// All values of a field that may stand there several times, as check boxes do.
    func queries(_ name: String) -> [String] { FormDecoding.pairs(uri.query ?? "").filter { $0.name == name }.map(\.value) }
}

/// `application/x-www-form-urlencoded`, for query strings and forms.
enum FormDecoding {
    /// The first value of each name counts.
    static func fields(_ text: String) -> [String: String] {
        Dictionary(pairs(text).map { ($0.name, $0.value) }) { first, _ in first }
    }

    /// In the order of the text, repetitions included.
    static func pairs(_ text: String) -> [(name: String, value: String)] {
        text.split(separator: "&").compactMap { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decode(parts[0]), let value = decode(parts.count > 1 ? parts[1] : "") else { return nil }
            return (name, value)
        }
    }

    private static func decode(_ text: Substring) -> String? {
        text.replacing("+", with: " ").removingPercentEncoding
    }
}
