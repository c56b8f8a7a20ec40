/// Why a request to Orthanc did not give what it should. Its texts hold addresses, Orthanc ids and numbers: no DICOM text, no credentials.
package struct OrthancError: Error, Sendable, Hashable {
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String {
            case unreachable, unauthorized, notFound, badResponse, serverFailure, timedOut, interrupted, tls, unwritable
            case invalidEndpoint, invalidIdentifier
        }

        private let value: Value

        /// No connection: name unknown, port closed, host down.
        package static let unreachable = Code(value: .unreachable)
        /// 401 or 403.
        package static let unauthorized = Code(value: .unauthorized)
        /// 404: the resource is not, or no longer, there.
        package static let notFound = Code(value: .notFound)
        /// An answer that is not Orthanc's: another status, not JSON, fields missing, too large.
        package static let badResponse = Code(value: .badResponse)
        /// Orthanc answered 5xx.
        package static let serverFailure = Code(value: .serverFailure)
        /// Nothing arrived within the time limits.
        package static let timedOut = Code(value: .timedOut)
        /// The connection broke during the request.
        package static let interrupted = Code(value: .interrupted)
        package static let tls = Code(value: .tls)
        /// The local file that should take the body could not be written.
        package static let unwritable = Code(value: .unwritable)
        package static let invalidEndpoint = Code(value: .invalidEndpoint)
        /// A text that should be an Orthanc id is none.
        package static let invalidIdentifier = Code(value: .invalidIdentifier)

        package var description: String { value.rawValue }
    }

    package var code: Code
    package var server: String
    /// `/studies/<id>`, without the server's address; nil when the error is not about one resource.
    package var path: String?
    /// HTTP status, when there was an answer.
    package var status: Int?
    /// What happened, a clause without a full stop.
    package var message: String
    /// What a person can do about it, a sentence.
    package var cure: String
    /// `errno` of `.unwritable`.
    package var systemError: Int32?

    package init(
        _ code: Code, server: String, path: String? = nil, status: Int? = nil, message: String, cure: String? = nil,
        systemError: Int32? = nil
    ) {
        self.code = code
        self.server = server
        self.path = path
        self.status = status
        self.message = message
        self.cure = cure ?? code.cure
        self.systemError = systemError
    }

    /// Whether the same request may succeed later without anyone changing a setting.
    package var isRetriable: Bool {
        [.unreachable, .serverFailure, .timedOut, .interrupted].contains(code)
    }
}

extension OrthancError: CustomStringConvertible {
    package var description: String {
        let place = path.map { " \($0)" } ?? ""
        let answer = status.map { " (HTTP \($0))" } ?? ""
        return "Orthanc \(server)\(place): \(message)\(answer). \(cure)"
    }
}

extension OrthancError.Code {
    fileprivate var cure: String {
        switch self {
        case .unreachable: "Is Orthanc running, and is ORTHANC_REST_URL its address as seen from this machine?"
        case .unauthorized:
            "Set ORTHANC_REST_USERNAME and ORTHANC_REST_PASSWORD to a user of Orthanc's RegisteredUsers who may read everything."
        case .notFound: "It was deleted or recycled in Orthanc, or never was there."
        case .badResponse: "Does ORTHANC_REST_URL point at Orthanc itself, and not at a proxy or at its web interface?"
        case .serverFailure: "Orthanc's own log says why."
        case .timedOut: "Is Orthanc overloaded, or the network slow?"
        case .interrupted: "Orthanc or something between closed the connection; the request is repeated."
        case .tls: "Is the server's certificate valid for the host name in ORTHANC_REST_URL, and its authority known to this machine?"
        case .unwritable: "Check that the folder exists, is writable and that its disk has room."
        default: "Check the settings."
        }
    }
}
