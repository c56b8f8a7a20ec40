import HTTPTypes
import JobStore
import Jobs

/// `/api/v1/openapi.json`: OpenAPI 3.1, made from the table that the server itself routes by.
struct OpenAPIDocument: Sendable {
    private let routes: [APIRoute]

    init(_ routes: [APIRoute]) {
        self.routes = routes
    }

    var encoded: JSONValue {
        var paths: [String: [String: JSONValue]] = [:]
        for route in routes { paths[APIRoutes.root + route.path, default: [:]][route.method.rawValue.lowercased()] = operation(route) }
        return [
            "openapi": "3.1.0",
            "info": [
                "title": "DCM Processor",
                "version": "1",
                "description": .string(Self.description),
                "license": ["name": "MIT", "identifier": "MIT"],
            ],
            "servers": [["url": "/", "description": "The monitor that serves this document."]],
            "security": [["token": []], ["session": []], [:]],
            "tags": .array(Self.groups.map { ["name": .string($0), "description": .string($1)] }),
            "paths": .object(paths.mapValues(JSONValue.object)),
            "components": [
                "schemas": .object(APISchemas.all),
                "responses": ["Problem": Self.problem],
                "securitySchemes": [
                    "token": [
                        "type": "http", "scheme": "bearer", "description": "An API token, or MONITOR_TOKEN.",
                    ],
                    "session": [
                        "type": "apiKey", "in": "cookie", "name": "dcm_session",
                        "description": """
                        A browser that has signed in; the cookie's name ends with the port. Changes need its X-CSRF-Token too. \
                        Without MONITOR_TOKEN a monitor on a loopback address asks nobody to sign in.
                        """,
                    ],
                ],
            ],
        ]
    }

    private func operation(_ route: APIRoute) -> JSONValue {
        var good: [String: JSONValue] = [
            "description": .string(Self.words(route)),
            "content": [route.answerType: ["schema": route.answer]],
        ]
        var answers: [String: JSONValue] = [:]
        if route.method == .get, route.answerType == "application/json" {
            good["headers"] = ["ETag": ["schema": Schema.text, "description": "Names this content, for If-None-Match."]]
            answers["304"] = ["description": "Unchanged since the ETag that If-None-Match names."]
        }
        answers[String(route.status.code)] = .object(good)
        for status in Self.general + route.failures + (route.body == nil ? [] : [.contentTooLarge, .unsupportedMediaType]) {
            answers[String(status.code)] = ["$ref": "#/components/responses/Problem"]
        }
        var operation: [String: JSONValue] = [
            "operationId": .string(route.name),
            "summary": .string(route.summary),
            "tags": [.string(route.group)],
            "x-role": .string(route.role.rawValue),
            "parameters": .array(route.parameters.map(\.document)),
            "responses": .object(answers),
        ]
        if let details = route.details { operation["description"] = .string(details) }
        if let body = route.body {
            operation["requestBody"] = [
                "required": .bool(route.isBodyRequired), "content": ["application/json": ["schema": Schema.ref(body)]],
            ]
        }
        return .object(operation)
    }

    private static func words(_ route: APIRoute) -> String {
        switch route.status {
        case .accepted: "It is on its way: a command to the router, a message to its webhook."
        case .created: "Added."
        default: route.method == .get ? "Found." : "Done."
        }
    }

    /// What every operation can answer.
    private static let general: [HTTPResponse.Status] = [
        .badRequest, .unauthorized, .forbidden, .tooManyRequests, .internalServerError, .serviceUnavailable,
    ]

    private static let problem: JSONValue = [
        "description": "Why there is no answer (RFC 9457).",
        "content": ["application/problem+json": ["schema": Schema.ref("Problem")]],
    ]

    private static let description = """
        What the pages of the monitor show, for programs, and the commands behind their buttons. Every key of an answer is always there; what \
        is unknown is null. Times are ISO 8601 in UTC. Lists come newest first in pages: ask the next one with `cursor` = the `next` of \
        the page before, until it is null. Commands answer 202 when the broker has them: the router carries them out, once. \
        New keys may appear in any answer.
        """

    private static let groups = [
        ("runs", "What became of an event."),
        ("jobs", "One service's work inside a run."),
        ("pipeline", "Workers, queues, services, events, dead letters."),
        ("bulk", "The same command for everything that matches a filter, after a preview of exactly that."),
        ("webhooks", "Other programs that are told when a run has ended or a job is dead."),
        ("meta", "About this API."),
    ]
}
