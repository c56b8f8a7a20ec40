import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Jobs

/// Shows what identifies a patient, of one run, to somebody who may see it and is on record for it.
struct RevealController: Sendable {
    let ledger: LedgerReader
    let access: Access

    func addRoutes(to router: Router<DashboardContext>) {
        router.post("/runs/:id/reveal", use: reveal)
        router.post("/runs/:id/hide", use: hide)
    }

    var routes: [APIRoute] {
        [
            .post(
                "/runs/{id}/reveal", "revealRun", "runs", "What identifies the patient, in this answer alone; recorded in the audit",
                parameters: [
                    .path("A run's id."),
                    .query("reason", .text(longest: 200), "Goes into the audit: names no patient. A body may give it too."),
                ], body: "RevealOrder", isBodyRequired: false, status: .ok, answer: Schema.ref("Revealed"), failures: [.notFound],
                role: .operator, handler: answer)
        ]
    }

    /// The pages of the run and of its jobs, in this browser, for a quarter of an hour.
    @Sendable private func reveal(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let run = try context.parameters.require("id")
        guard try await ledger.runState(run) != nil else { throw Problem.notFound("There is no run '\(run)'.") }
        guard let key = Reveals.Key(run, context) else { throw Problem.forbidden("This browser has no session.") }
        try await record(run, reason: context.form["reason"], context)
        access.reveals.reveal(key, at: Date())
        return .redirect(to: "\(Self.page(context.form["back"], of: run))?done=reveal")
    }

    @Sendable private func hide(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let run = try context.parameters.require("id")
        if let key = Reveals.Key(run, context) { access.reveals.hide(key) }
        if let identity = context.identity { try await access.store.record(identity.entry("hide", .init("run", run))) }
        return .redirect(to: Self.page(context.form["back"], of: run))
    }

    /// In this one answer; what is asked next is masked as before.
    @Sendable private func answer(_ request: Request, _ context: DashboardContext) async throws -> APIAnswer {
        let run = try context.parameters.require("id")
        guard let detail = try await ledger.run(run) else { throw Problem.notFound("There is no run '\(run)'.") }
        let given = try await APIBody.read(request)?["reason"]
        if let given, given.string == nil, given != .null {
            throw Problem.parameter("reason", given.text, allowed: "text of at most 200 characters")
        }
        try await record(run, reason: given?.string ?? request.query("reason"), context)
        var jobs: [JSONValue] = []
        for job in detail.jobs {
            guard let job = try await ledger.job(job.id) else { continue }
            jobs.append([
                "id": .string(job.job.id), "name": .string(job.job.name), "params": job.params, "plannedParams": job.definition.params,
                "addedParams": job.addedParams ?? .null, "result": job.result ?? .null,
            ])
        }
        return .json(["id": .string(run), "headers": detail.headers, "addedParams": detail.addedParams, "jobs": .array(jobs)])
    }

    /// Nothing is revealed that could not be recorded.
    private func record(_ run: String, reason: String?, _ context: DashboardContext) async throws {
        let identity = try context.requireIdentity()
        let reason = (reason ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        guard reason.count <= 200 else { throw Problem.badRequest("A reason has at most 200 characters.") }
        try await access.store.record(
            identity.entry("reveal", .init("run", run), detail: reason.isEmpty ? [:] : ["reason": .string(reason)]))
    }

    /// The run's page or that of one of its jobs.
    private static func page(_ back: String?, of run: String) -> String {
        guard let back, let job = JobID(rawValue: back), job.run.rawValue == run else { return "/runs/\(run)" }
        return "/jobs/\(job)"
    }
}

/// What a page says about what it hides.
struct Concealment {
    var run: String
    /// The job whose page it is.
    var back: String?
    /// The values as they are; else masked.
    var isRevealed: Bool
    /// When the masks come back.
    var until: String?
    /// Seconds until then.
    var left: Int?
    var mayReveal: Bool

    init(_ run: String, job: String? = nil, _ access: Access, _ context: DashboardContext, at now: Date) {
        // Asked anew for each page: who has lost the role, or signed in as somebody else, sees nothing.
        let isAllowed = context.identity?.may(.operator) == true
        let end = isAllowed ? Reveals.Key(run, context).flatMap { access.reveals.end($0, at: now) } : nil
        self.run = run
        back = job
        isRevealed = end != nil
        until = end.map { Markup.time($0) }
        left = end.map { max(1, Int($0.timeIntervalSince(now).rounded(.up))) }
        mayReveal = end == nil && isAllowed
    }

    func shown(_ value: JSONValue) -> JSONValue { isRevealed ? value : HeaderMask.masked(value) }
    func shownByJob(_ value: JSONValue) -> JSONValue { isRevealed ? value : HeaderMask.maskedByJob(value) }
}

extension Response {
    /// A page that stays open shows nothing for longer than it was revealed for, with and without script.
    mutating func hideAgain(_ concealment: Concealment, at path: String) {
        guard let left = concealment.left, let refresh = HTTPField.Name("Refresh") else { return }
        headers[refresh] = "\(left + 1); url=\(path)"
    }
}
