import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs
import NIOCore

/// One operation of the API: what is served and what the OpenAPI document says of it, in one place, so that neither can go without the other.
struct APIRoute: Sendable {
    typealias Handler = @Sendable (Request, DashboardContext) async throws -> APIAnswer

    var method: HTTPRequest.Method
    /// Below `/api/v1`, for example `/runs/{id}`.
    var path: String
    /// The document's operationId.
    var name: String
    var summary: String
    var details: String?
    var group: String
    var parameters: [APIParameter]
    /// The name of the schema of a JSON body.
    var body: String?
    var isBodyRequired: Bool
    var status: HTTPResponse.Status
    /// What a good answer holds.
    var answer: JSONValue
    var answerType: String
    /// What can go wrong beside the general errors.
    var failures: [HTTPResponse.Status]
    /// Who may use it.
    var role: AccountRole
    var handler: Handler

    static func get(
        _ path: String, _ name: String, _ group: String, _ summary: String, details: String? = nil, parameters: [APIParameter] = [],
        answer: JSONValue, type: String = "application/json", failures: [HTTPResponse.Status] = [], role: AccountRole = .viewer,
        handler: @escaping Handler
    ) -> APIRoute {
        APIRoute(
            method: .get, path: path, name: name, summary: summary, details: details, group: group, parameters: parameters, body: nil,
            isBodyRequired: false, status: .ok, answer: answer, answerType: type, failures: failures, role: role,
            handler: handler)
    }

    static func post(
        _ path: String, _ name: String, _ group: String, _ summary: String, details: String? = nil, parameters: [APIParameter] = [],
        body: String? = nil, isBodyRequired: Bool = true, status: HTTPResponse.Status = .accepted, answer: JSONValue,
        failures: [HTTPResponse.Status] = [], role: AccountRole = .operator, handler: @escaping Handler
    ) -> APIRoute {
        APIRoute(
            method: .post, path: path, name: name, summary: summary, details: details, group: group, parameters: parameters, body: body,
            isBodyRequired: isBodyRequired, status: status, answer: answer, answerType: "application/json", failures: failures,
            role: role, handler: handler)
    }

    /// What a handler gives. JSON gets its bytes, its entity tag and its headers in one place.
    func respond(_ request: Request, _ context: DashboardContext) async throws -> Response {
        for parameter in parameters where parameter.place == .query {
            if let text = request.query(parameter.name) { try parameter.check(text) }
        }
        switch try await handler(request, context) {
        case .response(let response): return response
        case .json(let value):
            let bytes = value.encoded()
            guard method == .get else {
                return Response(
                    status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
            }
            // A reader's own copy may be kept, never be shown without asking: the answer may have changed since.
            let tag = EntityTag.make(bytes)
            let headers: HTTPFields = [.contentType: "application/json", .cacheControl: "private, no-cache", .eTag: tag]
            if EntityTag.matches(request.headers[.ifNoneMatch], tag) { return Response(status: .notModified, headers: headers) }
            return Response(status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
        }
    }
}

enum APIAnswer: Sendable {
    case json(JSONValue)
    /// For what is no JSON.
    case response(Response)
}

/// Names the content of an answer, so that a reader who has it already gets 304 instead.
enum EntityTag {
    static func make(_ bytes: Data) -> String {
        let hash = bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return "W/\"\(String(hash, radix: 36))-\(String(bytes.count, radix: 36))\""
    }

    /// - Parameter field: If-None-Match: `*`, or tags with commas. Weak and strong ones are the same for a read.
    static func matches(_ field: String?, _ tag: String) -> Bool {
        guard let field else { return false }
        return field.split(separator: ",").contains { part in
            let given = part.trimmingCharacters(in: .whitespaces)
            return given == "*" || opaque(given) == opaque(tag)
        }
    }

    private static func opaque(_ tag: String) -> Substring { tag.hasPrefix("W/") ? tag.dropFirst(2) : tag[...] }
}

/// Everything under `/api/v1`.
struct APIRoutes: Sendable {
    static let root = "/api/v1"

    let routes: [APIRoute]

    init(_ routes: [APIRoute]) {
        // The document describes itself too.
        var itself = APIRoute.get("/openapi.json", "getDocument", "meta", "This document", answer: ["type": "object"]) { _, _ in
            .json(.null)
        }
        let document = OpenAPIDocument(routes + [itself]).encoded
        itself.handler = { _, _ in .json(document) }
        self.routes = routes + [itself]
    }

    func add(to router: Router<DashboardContext>) {
        for route in routes {
            let path = route.path.replacing("{", with: ":").replacing("}", with: "")
            router.on(RouterPath(Self.root + path), method: route.method) { try await route.respond($0, $1) }
        }
    }

    /// Which methods an address takes; empty when there is nothing.
    func methods(at path: String) -> [HTTPRequest.Method] {
        let parts = path.split(separator: "/")
        var methods: [HTTPRequest.Method] = []
        for route in routes where !methods.contains(route.method) {
            let own = (Self.root + route.path).split(separator: "/")
            if own.count == parts.count, zip(own, parts).allSatisfy({ $0.hasPrefix("{") || $0 == $1 }) { methods.append(route.method) }
        }
        return methods
    }
}

/// JSON that a request brings.
enum APIBody {
    static let longest = 64 * 1024

    /// - Returns: nil when there is none.
    static func read(_ request: Request) async throws -> JSONValue? {
        if let length = request.headers[.contentLength].flatMap(Int.init), length > longest { throw Problem.tooLarge(longest) }
        let body: ByteBuffer
        do {
            body = try await request.body.collect(upTo: longest)
        } catch is NIOTooManyBytesError {
            throw Problem.tooLarge(longest)
        }
        guard body.readableBytes > 0 else { return nil }
        let type = request.headers[.contentType]?.split(separator: ";").first.map { $0.trimmingCharacters(in: .whitespaces).lowercased() }
        if let type, type != "application/json", !type.hasSuffix("+json") {
            throw Problem(
                status: .unsupportedMediaType, title: "Not JSON", detail: "The body is '\(type.prefix(60))': send application/json.")
        }
        do {
            return try JSONValue(json: Data(body.readableBytesView))
        } catch {
            throw Problem.badRequest("The body is not JSON.")
        }
    }
}
