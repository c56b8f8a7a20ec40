import HTTPTypes
import Hummingbird
import JobStore
import Jobs
import NIOCore

/// An answer that says why there is none: RFC 9457 problem details for the API, a page for people.
struct Problem: Error {
    var status: HTTPResponse.Status
    var title: String
    var detail: String
    var headers: HTTPFields = [:]
    /// What programs tell it by: `urn:dcm-processor:problem:<kind>`.
    var kind: String
    /// More about it, for programs.
    var members: [String: JSONValue] = [:]

    static func notFound(_ what: String) -> Problem {
        Problem(status: .notFound, title: "Not found", detail: what)
    }

    static func badRequest(_ what: String) -> Problem {
        Problem(status: .badRequest, title: "Not understood", detail: what)
    }

    static func conflict(_ what: String) -> Problem {
        Problem(status: .conflict, title: "Not possible now", detail: what)
    }

    static func forbidden(_ what: String) -> Problem {
        Problem(status: .forbidden, title: "Refused", detail: what)
    }

    static func unavailable(_ what: String) -> Problem {
        Problem(status: .serviceUnavailable, title: "Not available", detail: what, headers: [.retryAfter: "5"])
    }

    static func tooLarge(_ limit: Int) -> Problem {
        Problem(status: .contentTooLarge, title: "Too large", detail: "The body is larger than the \(limit) bytes that are allowed.")
    }

    /// - Parameter allowed: what the address takes.
    static func methodNotAllowed(_ method: HTTPRequest.Method, allowed: [HTTPRequest.Method]) -> Problem {
        let names = (allowed.contains(.get) ? allowed + [.head] : allowed).map(\.rawValue).sorted().joined(separator: ", ")
        var problem = Problem(
            status: .methodNotAllowed, title: "Method not allowed", detail: "\(method.rawValue) does nothing here: use \(names).",
            headers: [.allow: names])
        problem.members["allowed"] = .string(names)
        return problem
    }

    /// - Returns: nil for an error that nobody foresaw.
    init?(_ error: any Error, path: String) {
        switch error {
        case let problem as Problem: self = problem
        case let error as LedgerReaderError:
            self =
                error.code == .damaged
                ? Problem(status: .internalServerError, title: "Damaged ledger", detail: error.message) : .unavailable(error.message)
        case let error as MonitorStoreError where error.code == .unusable: self = .unavailable(error.message)
        case is NIOTooManyBytesError:
            self = Problem(status: .contentTooLarge, title: "Too large", detail: "The body is larger than what is allowed here.")
        case let error as HTTPError where error.status == .notFound:
            self = .notFound("There is nothing at this address.")
        case let error as any HTTPResponseError:
            self.init(status: error.status, title: error.status.reasonPhrase, detail: "\(error)")
        default:
            return nil
        }
    }

    init(status: HTTPResponse.Status, title: String, detail: String, headers: HTTPFields = [:]) {
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers
        kind = String(status.reasonPhrase.lowercased().map { $0.isLetter ? $0 : "-" })
    }

    func json(instance: String) -> Response {
        var body: [String: JSONValue] = [
            "type": .string("urn:dcm-processor:problem:\(kind)"), "title": .string(title), "status": .integer(Int64(status.code)),
            "detail": .string(detail), "instance": .string(instance),
        ]
        if let seconds = headers[.retryAfter].flatMap(Int64.init) { body["retryAfter"] = .integer(seconds) }
        body.merge(members) { _, new in new }
        var headers = headers
        headers[.contentType] = "application/problem+json"
        return Response(
            status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: JSONValue.object(body).encoded())))
    }
}

extension Response {
    static func json(_ body: JSONValue, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: body.encoded())))
    }

    static func text(_ body: String, type: String = "text/plain; charset=utf-8", status: HTTPResponse.Status = .ok) -> Response {
        Response(status: status, headers: [.contentType: type], body: ResponseBody(byteBuffer: ByteBuffer(string: body)))
    }
}
