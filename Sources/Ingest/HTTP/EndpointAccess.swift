import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// What the endpoint knows of a request beside the request.
struct EndpointContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The client's address, without port.
    let client: String

    init(source: Source) {
        coreContext = .init(source: source)
        client = source.channel.remoteAddress?.ipAddress ?? "unknown"
    }

    var isLocal: Bool { client.hasPrefix("127.") || client == "::1" || client.hasPrefix("::ffff:127.") }
}

/// Decides who may ring and who may submit.
struct EndpointAccess: RouterMiddleware {
    typealias Context = EndpointContext
    let token: String?

    /// What everyone may see: nothing of the pipeline is in it.
    private static let open = ["/healthz", "/readyz"]
    /// They only hint at what Orthanc has. All else has it dealt with again, or lists it.
    private static let hints = ["/wake", "/stable-series", "/stable-study", "/stable-patient"]

    func handle(
        _ request: Request, context: EndpointContext, next: @concurrent (Request, EndpointContext) async throws -> Response
    ) async throws -> Response {
        // The router takes `//submit` and `/submit/` for `/submit`.
        let path = "/" + request.uri.path.split(separator: "/").joined(separator: "/")
        // Hooks and commands send no origin; a page in somebody's browser cannot help it.
        guard request.headers[.origin] == nil else {
            throw EndpointProblem.forbidden("This endpoint is for programs, not for pages in a browser.")
        }
        if Self.open.contains(path) { return try await next(request, context) }
        if let token {
            guard Self.isAuthorized(request.headers, token) else {
                throw EndpointProblem(
                    status: .unauthorized,
                    detail: "Send INGEST_TOKEN as 'Authorization: Bearer <token>' or as 'X-DCM-Token: <token>'.",
                    headers: [.wwwAuthenticate: "Bearer realm=\"dcm-ingest\""])
            }
        } else if !Self.hints.contains(path), !(context.isLocal && Self.isAddressedHere(request)) {
            throw EndpointProblem.forbidden("Without a token only programs on ingest's own machine may do this: set INGEST_TOKEN.")
        }
        return try await next(request, context)
    }

    private static func isAuthorized(_ headers: HTTPFields, _ token: String) -> Bool {
        var given = headers[values: .dcmToken]
        for field in headers[values: .authorization] {
            let words = field.split(separator: " ", maxSplits: 1)
            if words.count == 2, words[0].lowercased() == "bearer" { given.append(String(words[1])) }
        }
        return given.contains { matches($0, token) }
    }

    /// Compares without telling by its duration where the difference is.
    static func matches(_ given: String, _ expected: String) -> Bool {
        let given = Array(given.utf8)
        let expected = Array(expected.utf8)
        guard !expected.isEmpty else { return false }
        var difference = given.count ^ expected.count
        for index in given.indices { difference |= Int(given[index] ^ expected[index % expected.count]) }
        return difference == 0
    }

    /// A page of another site that has its name resolve to 127.0.0.1 would carry that name as its host.
    private static func isAddressedHere(_ request: Request) -> Bool {
        let authority = (request.head.authority ?? "").lowercased()
        let name = authority.hasPrefix("[") ? authority.prefix { $0 != "]" }.dropFirst() : authority.prefix { $0 != ":" }
        return ["localhost", "127.0.0.1", "::1"].contains(name)
    }
}

extension HTTPField.Name {
    static let dcmToken = HTTPField.Name("X-DCM-Token")!
}

/// Turns what handlers throw into answers, and tells the log of those that somebody has to mend.
struct EndpointErrors: RouterMiddleware {
    typealias Context = EndpointContext
    let logger: Logger
    let reminder: Reminder

    func handle(
        _ request: Request, context: EndpointContext, next: @concurrent (Request, EndpointContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch {
            guard let problem = EndpointProblem(error) else {
                // Its description may hold a piece of the request.
                logger.error("a request failed", metadata: ["error.type": "\(type(of: error))"])
                return EndpointProblem(status: .internalServerError, detail: "Ingest made a mistake; its log tells more.").response
            }
            // A hook ignores answers: only here can anybody see that it is refused.
            if [400, 401, 403, 413].contains(problem.status.code), reminder.isDue("\(context.client) \(problem.status.code)") {
                logger.warning(
                    "a request was refused",
                    metadata: ["client": "\(context.client)", "status": "\(problem.status.code)", "reason": "\(problem.detail)"])
            }
            return problem.response
        }
    }
}
