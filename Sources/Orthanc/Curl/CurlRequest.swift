import CCurl
import Foundation

/// One GET.
struct CurlRequest: Sendable {
    /// Where the body goes when the answer's status is 200-299. Any other body is dropped: it may quote DICOM text.
    enum Sink: Sendable {
        /// At most so many bytes; more ends the transfer with `.tooLarge`. `expecting`: for how many there is room from the start.
        case memory(limit: Int, expecting: Int)
        /// An open file descriptor that stays the caller's and must stay open until `perform` has returned.
        case file(descriptor: Int32)
    }

    var url: String
    var user: String?
    var password: String?
    var sink: Sink
    var connectTimeout: Duration
    /// The transfer ends as timed out when nothing at all arrives for so long.
    var stallTimeout: Duration
    /// Called on libcurl's thread with what arrived since the last call, some times a megabyte.
    var onBytes: (@Sendable (Int) -> Void)?
}

struct CurlResponse: Sendable {
    var status: Int
    /// Empty unless the sink was `.memory` and the status 200-299.
    var body: Data
    /// Bytes that went into the sink.
    var received: Int64
}

/// Why there is no response.
struct CurlFailure: Error {
    enum Kind: Sendable {
        case unreachable
        case timedOut
        case tls
        case tooLarge(limit: Int)
        /// Writing into the sink failed.
        case sink(errno: Int32)
        case interrupted
        case other
    }

    var kind: Kind
    /// libcurl's sentence: hosts and ports, never credentials or bodies.
    var text: String

    static func kind(of code: CURLcode) -> Kind {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT: .unreachable
        case CURLE_OPERATION_TIMEDOUT: .timedOut
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM: .tls
        case CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_PARTIAL_FILE: .interrupted
        default: .other
        }
    }
}
