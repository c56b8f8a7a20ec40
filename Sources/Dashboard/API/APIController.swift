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
    let bulk: BulkRunner
    let overview: Recent<Overview>
    let explanations: Explanations
    let ended: EndedBars
    let reads: SharedReads

    var routes: [APIRoute] { runRoutes + jobRoutes + pipelineRoutes }

    private var runRoutes: [APIRoute] {
        [
            .get(
                "/runs", "listRuns", "runs", "Runs, newest first", parameters: RunParameters.filter + [.limit, .cursor],
                answer: Schema.ref("RunPage"), handler: runs),
            .get(
                "/runs/{id}", "getRun", "runs", "A run with its jobs and every decision", parameters: [.path("A run's id.")],
                answer: Schema.ref("RunDetail"), failures: [.notFound], handler: run),
            change("/runs/{id}/retry", "retryRun", "runs", "Retries what failed, died, was cancelled or skipped", .retryRun),
            change("/runs/{id}/cancel", "cancelRun", "runs", "Cancels what has not ended", .cancelRun),
            change("/runs/{id}/reprocess", "reprocessRun", "runs", "Plans the run's event again, as a new run", .reprocessRun),
        ]
    }

    private var jobRoutes: [APIRoute] {
        [
            .get(
                "/jobs/{id}", "getJob", "jobs", "A job with its attempts", parameters: [.path("A job's id: `<run>.<position>`.")],
                answer: Schema.ref("JobDetail"), failures: [.notFound], handler: job),
            .get(
                "/jobs/{id}/log", "readLog", "jobs", "What a job printed, from an offset on",
                details: "Ask again from `next` while `eof` is false. An answer holds some 100 kB at most.",
                parameters: [
                    .path("A job's id."),
                    .query("offset", .integer(0...Int64.max), "Bytes from the beginning.", standard: 0),
                    .query("attempt", .integer(0...1_000_000), "Which attempt; without it the latest."),
                    .query("token", .integer(0...1_000_000_000), "Which start of the attempt; without it the latest."),
                ], answer: Schema.ref("Log"), failures: [.notFound], handler: log),
            change(
                "/jobs/{id}/retry", "retryJob", "jobs", "Retries the job and what was skipped because of it", .retryJob,
                details: """
                    With `params`, the whole of them, the job runs with these from now on instead of those that it has; `plannedParams` of \
                    the job keeps what was planned. Jobs that have ended well are not repeated. With `attempt` it is refused when the job is at \
                    another one by then.
                    """, body: "RetryOrder"),
            change("/jobs/{id}/cancel", "cancelJob", "jobs", "Cancels the job; what it runs is ended", .cancelJob),
            change(
                "/jobs/{id}/discard", "discardJob", "jobs", "Takes a dead job off the list of the dead; it stays what it is", .discardJob,
                body: "DiscardOrder"),
            change("/jobs/{id}/rerun", "rerunJob", "jobs", "The job and everything after it once more, also what succeeded", .rerunJob),
            change(
                "/jobs/{id}/priority", "setPriority", "jobs", "Gives a job that has not started another priority", .setPriority,
                parameters: [
                    .query("priority", .text(longest: 40), "urgent, high, default, medium, low, or 4 to 0.", example: "urgent")
                ], body: "PriorityOrder"),
        ]
    }

    private var pipelineRoutes: [APIRoute] {
        [
            .get(
                "/workers", "listWorkers", "pipeline", "Workers, those heard of last first", answer: Schema.ref("Workers"), handler: workers
            ),
            change("/workers/{id}/drain", "drainWorker", "pipeline", "The worker ends what it runs and takes nothing new", .drainWorker),
            change("/workers/{id}/resume", "resumeWorker", "pipeline", "The worker takes jobs again", .resumeWorker),
            .get("/queues", "listQueues", "pipeline", "Channels: what waits, who serves it", answer: Schema.ref("Queues"), handler: queues),
            change("/channels/{id}/pause", "pauseChannel", "pipeline", "Nothing new of the channel starts", .pauseChannel),
            change("/channels/{id}/resume", "resumeChannel", "pipeline", "The channel's jobs start again", .resumeChannel),
            .get(
                "/services", "listServices", "pipeline", "Services as the router last read them", answer: Schema.ref("Services"),
                handler: services),
            change(
                "/services/{id}/pause", "pauseService", "pipeline", "Nothing new of the service starts, in whatever channel", .pauseService),
            change("/services/{id}/resume", "resumeService", "pipeline", "The service's jobs start again", .resumeService),
            .get(
                "/dead", "listDead", "pipeline", "Dead jobs and messages that could not be read",
                details: "The filter is about the jobs: messages that nobody could read have nothing of it.",
                parameters: JobParameters.dead + [
                    .limit, .cursor, .query("messageCursor", .text(longest: 512), "The `nextMessage` of the page before."),
                    .query("decided", .flag, "`true`: the messages that somebody requeued or discarded, instead of all others."),
                ], answer: Schema.ref("DeadLetters"), handler: dead),
            .get(
                "/events", "listEvents", "pipeline", "What ingest saw, newest first, and the account of each server",
                parameters: [
                    .query("filtered", .flag, "Only events that a filter stopped, or only the others."),
                    .query("reason", .text(longest: 100), "Only events that this filter stopped: its code.", example: "modality"),
                    .limit, .cursor,
                ], answer: Schema.ref("Events"), handler: events),
            .get(
                "/stream", "follow", "pipeline", "Facts as server-sent events, without a gap",
                details: """
                    `event: fact` with `id` = the fact's number; after an interruption send it as Last-Event-ID. `event: reset`: facts were \
                    missed, load anew. `event: bulk` (without id): how far the bulk operations are.
                    """,
                parameters: [
                    .query("run", .text(longest: 100), "Only facts of this run."),
                    .query("after", .text(longest: 40), "As Last-Event-ID: the number of the last fact that is known."),
                    APIParameter(
                        name: "Last-Event-ID", place: .header, kind: .text(longest: 40), description: "The last `id` that came."),
                ], answer: Schema.text, type: "text/event-stream"
            ) { .response(try await FactStream(feed: feed, bulk: bulk).respond($0, $1)) },
        ]
    }

    private func change(
        _ path: String, _ name: String, _ group: String, _ summary: String, _ action: CommandMessage.Action, details: String? = nil,
        parameters: [APIParameter] = [], body: String? = nil
    ) -> APIRoute {
        .post(
            path, name, group, summary, details: details, parameters: [.path("Which one.")] + parameters, body: body, isBodyRequired: false,
            answer: Schema.ref("CommandReceipt"), failures: [.notFound, .conflict]
        ) { try await command(action, $0, $1) }
    }

    @Sendable private func runs(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let asked = RunParameters.filter.values(of: request)
        let cursor = Cursor("runs", filter: RunParameters.filter.fingerprint(of: asked))
        let page = try await ledger.runs(
            RunParameters.filter(asked), limit: ListQuery.limit(request), cursor: cursor.key(request.query("cursor")))
        return .json(["runs": .array(page.items.map { JSONValue($0) }), "next": JSONValue(cursor.text(page.next))])
    }

    @Sendable private func run(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        guard let detail = try await ledger.run(id) else { throw Problem.notFound("There is no run '\(id)'.") }
        return .json(JSONValue(detail, explanations: try await explanations.explain(detail, of: ledger.run(of: detail)).byPosition))
    }

    @Sendable private func job(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        guard let detail = try await ledger.job(id) else { throw Problem.notFound("There is no job '\(id)'.") }
        return .json(JSONValue(detail, explanation: try await explanations.explain(detail, of: ledger.run(ofJob: id)).0))
    }

    @Sendable private func log(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let id = try context.parameters.require("id")
        guard let attempts = try await ledger.attempts(ofJob: id) else { throw Problem.notFound("There is no job '\(id)'.") }
        guard let offset = Int64(request.query("offset") ?? "0") else { throw Problem.badRequest("offset is a whole number of bytes.") }
        guard let attempt = try ListQuery.attempt(request, among: attempts) else {
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

    @Sendable private func workers(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let now = Date()
        return .json(["workers": .array(try await ledger.workers().map { JSONValue($0, at: now) })])
    }

    @Sendable private func queues(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let now = Date()
        let overview = try await overview.get()
        return .json([
            "queues": .array(overview.channels.map { JSONValue($0, unservedSince: overview.unservedSince($0), at: now) }),
            "broker": JSONValue(overview.pipeline),
        ])
    }

    @Sendable private func services(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let lastDay = try await reads.ended(.day, ended, at: Date()).value
        return .json(["services": .array(try await ledger.services().map { JSONValue($0, lastDay: lastDay.states(of: $0.name)) })])
    }

    @Sendable private func dead(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let limit = try ListQuery.limit(request)
        let asked = JobParameters.dead.values(of: request)
        let decided = request.query("decided") == "true"
        let jobCursor = Cursor("dead.jobs", filter: JobParameters.dead.fingerprint(of: asked))
        let messageCursor = Cursor("dead.messages", filter: "\(decided)")
        let jobs = try await ledger.brokenJobs(
            JobParameters.deadFilter(asked), limit: limit, cursor: jobCursor.key(request.query("cursor")))
        let messages = try await ledger.deadMessages(
            limit: limit, cursor: messageCursor.key(request.query("messageCursor"), parameter: "messageCursor"), decided: decided)
        return .json([
            "jobs": .array(jobs.items.map { JSONValue($0) }), "next": JSONValue(jobCursor.text(jobs.next)),
            "messages": .array(messages.items.map { JSONValue($0) }), "nextMessage": JSONValue(messageCursor.text(messages.next)),
        ])
    }

    @Sendable private func events(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let cursor = Cursor("events", filter: "\(request.query("filtered") ?? "") \(request.query("reason") ?? "")")
        let page = try await ledger.events(
            ListQuery.eventFilter(request), limit: ListQuery.limit(request), cursor: cursor.key(request.query("cursor")))
        let overview = try await overview.get()
        return .json([
            "events": .array(page.items.map { JSONValue($0) }), "next": JSONValue(cursor.text(page.next)),
            "sources": .array(overview.sources.map { JSONValue($0) }),
            "accounts": .array(overview.accounts.map { JSONValue($0) }),
            "pending": .array(overview.pending.map { JSONValue($0) }),
        ])
    }

    @Sendable private func command(
        _ action: CommandMessage.Action, _ request: Request, _ context: DashboardContext
    ) async throws -> APIAnswer {
        let identity = try context.requireIdentity()
        let priority = action == .setPriority ? try await Self.priority(request) : nil
        let order =
            action == .retryJob || action == .discardJob
            ? try JobOrder(try await APIBody.read(request), takesParams: action == .retryJob) : nil
        let id = try await commands.send(
            action, target: context.parameters.require("id"), priority: priority, params: order?.params,
            attempt: order?.attempt, by: identity)
        return .json(["command": .string(id)])
    }
}

extension APIController {
    /// `?priority=high`, or `{"priority": "high"}` in the body. Levels go by number too.
    private static func priority(_ request: Request) async throws -> String? {
        if let text = request.query("priority") { return text }
        guard let body = try await APIBody.read(request) else { return nil }
        guard let value = body["priority"], let text = value.string ?? value.integer.map(String.init) else {
            throw Problem.parameter("priority", nil, allowed: "urgent, high, default, medium, low, or 4 to 0")
        }
        return text
    }
}

/// What lists are asked with.
enum ListQuery {
    static func limit(_ request: Request, most: Int = 500) throws -> Int {
        guard let text = request.query("limit") else { return 50 }
        guard let limit = Int(text), (1...most).contains(limit) else { throw Problem.badRequest("limit is a number from 1 to \(most).") }
        return limit
    }

    /// A page is drawn whole, row by row: programs that want more ask the API.
    static func pageLimit(_ request: Request) throws -> Int { try limit(request, most: 200) }

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
