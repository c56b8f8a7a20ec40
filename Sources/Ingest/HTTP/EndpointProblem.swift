import HTTPTypes
import Hummingbird
import Jobs
import NIOCore
import Orthanc

/// An answer that says why there is none: RFC 9457 problem details. Its texts repeat nothing of the request.
struct EndpointProblem: Error {
    var status: HTTPResponse.Status
    var detail: String
    /// For programs.
    var code: String?
    var headers: HTTPFields = [:]

    static func badRequest(_ detail: String) -> EndpointProblem { EndpointProblem(status: .badRequest, detail: detail) }

    static func notFound(_ detail: String, code: String? = nil) -> EndpointProblem {
        EndpointProblem(status: .notFound, detail: detail, code: code)
    }

    static func forbidden(_ detail: String) -> EndpointProblem { EndpointProblem(status: .forbidden, detail: detail) }

    /// - Parameter seconds: after which it is worth to ask again.
    static func unavailable(_ detail: String, code: String? = nil, retryAfter seconds: Int = 5) -> EndpointProblem {
        EndpointProblem(status: .serviceUnavailable, detail: detail, code: code, headers: [.retryAfter: "\(seconds)"])
    }

    static func tooLarge(_ limit: Int) -> EndpointProblem {
        EndpointProblem(status: .contentTooLarge, detail: "The request is longer than \(limit) bytes; the resource's id is enough.")
    }

    /// - Returns: nil for an error that nobody foresaw.
    init?(_ error: any Error) {
        switch error {
        case let problem as EndpointProblem: self = problem
        case let error as OrthancError: self = .unavailable("Orthanc does not answer as it should: \(error)")
        case is CancellationError: self = .unavailable("Ingest is stopping.", code: "stopping")
        case let error as any HTTPResponseError where error.status == .notFound: self = .notFound("There is nothing at this address.")
        case let error as any HTTPResponseError: self.init(status: error.status, detail: error.status.reasonPhrase)
        default: return nil
        }
    }

    init(status: HTTPResponse.Status, detail: String, code: String? = nil, headers: HTTPFields = [:]) {
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers
    }

    var response: Response {
        var body: [String: JSONValue] = [
            "type": "about:blank", "title": .string(status.reasonPhrase), "status": .integer(Int64(status.code)), "detail": .string(detail),
        ]
        if let code { body["code"] = .string(code) }
        var response = Response.json(.object(body), status: status)
        response.headers.append(contentsOf: headers)
        response.headers[.contentType] = "application/problem+json"
        return response
    }
}

extension Response {
    static func json(_ body: JSONValue, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body.encoded())))
    }
}
