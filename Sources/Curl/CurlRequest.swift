import CCurl
package import Foundation

/// One GET, or a POST when there is a body.
package struct CurlRequest: Sendable {
    /// Where the body goes when the answer's status is 200-299. Any other body is dropped: it may quote DICOM text.
    package enum Sink: Sendable {
        /// At most so many bytes; more ends the transfer with `.tooLarge`. `expecting`: for how many there is room from the start.
        case memory(limit: Int, expecting: Int)
        /// An open file descriptor that stays the caller's and must stay open until `perform` has returned.
        case file(descriptor: Int32)
        /// Nowhere, whatever the status. As soon as that is known the transfer ends well: when the body is at its end, is longer than so
        /// many bytes, breaks off or stalls.
        case nothing(limit: Int)
    }

    /// What a POST sends.
    package struct Body: Sendable {
        package var bytes: Data
        /// `application/json`, ...
        package var type: String

        package init(_ bytes: Data, type: String) {
            self.bytes = bytes
            self.type = type
        }
    }

    package var url: String
    package var user: String?
    package var password: String?
    package var body: Body?
    /// Beside those that HTTP needs. Neither a name nor a value may hold a line break.
    package var headers: [String: String]
    package var sink: Sink
    package var connectTimeout: Duration
    /// The transfer ends as timed out when nothing at all arrives for so long.
    package var stallTimeout: Duration
    /// For everything, from the name look-up to the end of the body; nil is without end.
    package var timeout: Duration?
    /// Addresses that no connection is made to, whatever name they hide behind. No proxy is used then.
    package var refusal: AddressRefusal?
    /// Called on libcurl's thread with what arrived since the last call, some times a megabyte.
    package var onBytes: (@Sendable (Int) -> Void)?

    package init(
        url: String, user: String? = nil, password: String? = nil, body: Body? = nil, headers: [String: String] = [:], sink: Sink,
        connectTimeout: Duration, stallTimeout: Duration, timeout: Duration? = nil, refusal: AddressRefusal? = nil,
        onBytes: (@Sendable (Int) -> Void)? = nil
    ) {
        self.url = url
        self.user = user
        self.password = password
        self.body = body
        self.headers = headers
        self.sink = sink
        self.connectTimeout = connectTimeout
        self.stallTimeout = stallTimeout
        self.timeout = timeout
        self.refusal = refusal
        self.onBytes = onBytes
    }
}

package struct CurlResponse: Sendable {
    package var status: Int
    /// Empty unless the sink was `.memory` and the status 200-299.
    package var body: Data
    /// Bytes that went into the sink.
    package var received: Int64
    /// How long the answer asks to wait before the next request, in seconds; 0 when it says nothing of that.
    package var retryAfter: Int
}

/// Why there is no response.
package struct CurlFailure: Error {
    package enum Kind: Sendable {
        case unreachable
        case timedOut
        /// Every address of the host is one that the request refuses.
        case refusedAddress
        case tls
        case tooLarge(limit: Int)
        /// Writing into the sink failed.
        case sink(errno: Int32)
        case interrupted
        case other
    }

    package var kind: Kind
    /// libcurl's sentence: hosts and ports, never credentials or bodies.
    package var text: String

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
