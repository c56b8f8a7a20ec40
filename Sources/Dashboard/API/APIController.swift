import Foundation
import Hummingbird
import JobStore
import Jobs
import Pipeline

/// `/api/v1`: the same data as the pages, for programs.
struct APIController: Sendable {
    let ledger: LedgerReader
    let configuration: DashboardConfiguration
    let commands: Commands
    let feed: FactFeed
    let overview: Recent<Overview>
    let explanations: Explanations

    func addRoutes(to router: Router<DashboardContext>) {
        let api = router.group("/api/v1")
        api.get("/runs", use: runs)
        api.get("/runs/:id", use: run)
        api.get("/jobs/:id", use: job)
        api.get("/jobs/:id/log", use: log)
        api.get("/workers", use: workers)
        api.get("/queues", use: queues)
        api.get("/services", use: services)
        api.get("/dead", use: dead)
        api.get("/events", use: events)
        api.get("/stream", use: FactStream(feed: feed).respond)
        api.post("/runs/:id/retry") { try await command(.retryRun, $0, $1) }
        api.post("/runs/:id/cancel") { try await command(.cancelRun, $0, $1) }
        api.post("/runs/:id/reprocess") { try await command(.reprocessRun, $0, $1) }
        api.post("/jobs/:id/retry") { try await command(.retryJob, $0, $1) }
        api.post("/jobs/:id/cancel") { try await command(.cancelJob, $0, $1) }
        api.post("/jobs/:id/rerun") { try await command(.rerunJob, $0, $1) }
        api.post("/jobs/:id/priority") { try await command(.setPriority, $0, $1) }
        api.post("/workers/:id/drain") { try await command(.drainWorker, $0, $1) }
        api.post("/workers/:id/resume") { try await command(.resumeWorker, $0, $1) }
        api.post("/channels/:id/pause") { try await command(.pauseChannel, $0, $1) }
        api.post("/channels/:id/resume") { try await command(.resumeChannel, $0, $1) }
    }

    @Sendable private func runs(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let filter = LedgerRunFilter(
            states: try ListQuery.runStates(request), event: request.query("event"), text: request.query("q"))
        let page = try await ledger.runs(filter, limit: ListQuery.limit(request), cursor: request.query("cursor"))
        return .json(["runs": .array(page.items.map { JSONValue($0) }), "next": JSONValue(page.next)])
    }

    @Sendable private func run(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let detail = try await ledger.run(id) else { throw Problem.notFound("There is no run '\(id)'.") }
        return .json(JSONValue(detail, explanations: try await explanations.explain(detail)))
    }

    @Sendable private func job(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let detail = try await ledger.job(id) else { throw Problem.notFound("There is no job '\(id)'.") }
        return .json(JSONValue(detail, explanation: try await explanations.explain(detail, of: ledger.run(ofJob: id))))
    }

    @Sendable private func log(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let attempts = try await ledger.attempts(ofJob: id) else { throw Problem.notFound("There is no job '\(id)'.") }
        guard let offset = Int64(request.query("offset") ?? "0") else { throw Problem.badRequest("offset is a whole number of bytes.") }
        let attempt = try ListQuery.attempt(request, among: attempts)
        guard let attempt else {
            return .json(["offset": 0, "next": 0, "eof": false, "text": "", "parts": [], "attempt": .null, "token": .null])
        }
        let log = try JobLog.read(attempt, offset: offset, in: configuration.logs)
        return .json([
            "offset": .integer(log.offset), "next": .integer(log.next), "eof": .bool(log.isAtEnd), "text": .string(log.text),
            "parts": .array(
                log.parts.map { ["stream": .string($0.stream.rawValue), "at": JSONValue($0.at), "text": .string($0.text)] }),
            "attempt": JSONValue(attempt.attempt), "token": JSONValue(attempt.token),
        ])
    }

    @Sendable private func workers(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        return .json(["workers": .array(try await ledger.workers().map { JSONValue($0, at: now) })])
    }

    @Sendable private func queues(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let overview = try await overview.get()
        return .json([
            "queues": .array(overview.channels.map { JSONValue($0, unservedSince: overview.unservedSince($0), at: now) }),
            "broker": JSONValue(overview.pipeline),
        ])
    }

    @Sendable private func services(_ request: Request, _ context: DashboardContext) async throws -> Response {
        .json(["services": .array(try await ledger.services(at: Date()).map { JSONValue($0) })])
    }

    @Sendable private func dead(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let limit = try ListQuery.limit(request)
        let jobs = try await ledger.deadJobs(limit: limit, cursor: request.query("cursor"))
        let messages = try await ledger.deadMessages(limit: limit, cursor: request.query("messageCursor"))
        return .json([
            "jobs": .array(jobs.items.map { JSONValue($0) }), "next": JSONValue(jobs.next),
            "messages": .array(messages.items.map { JSONValue($0) }), "nextMessage": JSONValue(messages.next),
        ])
    }

    @Sendable private func events(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let page = try await ledger.events(
            ListQuery.eventFilter(request), limit: ListQuery.limit(request), cursor: request.query("cursor"))
        let overview = try await overview.get()
        return .json([
            "events": .array(page.items.map { JSONValue($0) }), "next": JSONValue(page.next),
            "sources": .array(overview.sources.map { JSONValue($0) }),
            "accounts": .array(overview.accounts.map { JSONValue($0) }),
            "pending": .array(overview.pending.map { JSONValue($0) }),
        ])
    }

    @Sendable private func command(
        _ action: CommandMessage.Action, _ request: Request, _ context: DashboardContext
    ) async throws -> Response {
        guard let identity = context.identity else { throw Problem.forbidden("Nobody is signed in.") }
        let priority = action == .setPriority ? try await Self.priority(request) : nil
        let id = try await commands.send(action, target: context.parameters.require("id"), priority: priority, by: identity)
        return .json(["command": .string(id)], status: .accepted)
    }
}

extension APIController {
    /// `?priority=high`, or `{"priority": "high"}` in the body. Levels go by number too.
    private static func priority(_ request: Request) async throws -> String? {
        if let text = request.query("priority") { return text }
        let body = try await request.body.collect(upTo: 16 * 1024)
        guard body.readableBytes > 0 else { return nil }
        let value = try? JSONValue(json: Data(body.readableBytesView))["priority"]
        return value?.string ?? value?.integer.map(String.init)
    }
}

/// What lists are asked with.
enum ListQuery {
    static func limit(_ request: Request, standard: Int = 50) throws -> Int {
        guard let text = request.query("limit") else { return standard }
        guard let limit = Int(text), (1...500).contains(limit) else { throw Problem.badRequest("limit is a number from 1 to 500.") }
        return limit
    }

    /// One state or several with commas.
    static func runStates(_ request: Request) throws -> [RunState] {
        try (request.query("state") ?? "").split(separator: ",").map { text in
            guard let state = RunState(rawValue: String(text)) else {
                let known = RunState.allCases.map(\.rawValue).joined(separator: ", ")
                throw Problem.badRequest("A run's state is one of \(known).")
            }
            return state
        }
    }

    static func eventFilter(_ request: Request) throws -> LedgerEventFilter {
        if let reason = request.query("reason") { return .reason(reason) }
        return switch request.query("filtered") {
        case nil: .all
        case "true": .filtered
        case "false": .accepted
        default: throw Problem.badRequest("filtered is true or false.")
        }
    }

    /// The attempt that `?attempt=` names, its last start when it started more than once; without it, the latest.
    static func attempt(_ request: Request, among attempts: [LedgerAttempt]) throws -> LedgerAttempt? {
        var wanted = attempts
        if let text = request.query("attempt") {
            guard let number = Int(text) else { throw Problem.badRequest("attempt is a number.") }
            wanted = wanted.filter { $0.attempt == number }
            if wanted.isEmpty { throw Problem.notFound("The job has no attempt \(number).") }
        }
        if let text = request.query("token") {
            guard let token = Int(text) else { throw Problem.badRequest("token is a number.") }
            wanted = wanted.filter { $0.token == token }
            if wanted.isEmpty { throw Problem.notFound("The job has no start \(token).") }
        }
        return wanted.last
    }
}
