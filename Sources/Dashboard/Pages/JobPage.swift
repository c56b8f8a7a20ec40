import Foundation
import Hummingbird
import JobStore
import Jobs
import Pipeline

private struct JobPage {
    struct AttemptRow {
        var number: String
        var start: String
        var mark: String
        var kind: String
        var worker: String
        var claimed: String
        var took: String
        var cpu: String
        var memory: String
        var exit: String
        var message: FoldedText?
        /// How far it said it had got, when that was not the end.
        var reached: String?
        /// The end of its log as the worker reported it.
        var tail: String?
        var logURL: String
        var isShown: Bool
        /// What it ran with, when that was not what had been planned.
        var params: String?
        /// Which keys were others.
        var paramsWords: String
    }

    /// A retry with other params.
    struct ParamsForm {
        var text: String
        /// Why what was typed was refused.
        var error: String?
        var words: String
        /// Nothing can be typed over what is not shown.
        var isHidden: Bool
        var isChanged: Bool
    }

    /// What somebody typed, and why it was refused.
    struct Refused {
        var text: String
        var problem: Problem
    }

    struct Artifact {
        var name: String
        var path: String
        var kind: String
        var url: String
        var isImage: Bool
        var isMissing: Bool
    }

    struct Relative {
        var id: String
        var name: String
        var mark: String
        var isStage: Bool
    }

    /// A priority that the job may be given.
    struct Level {
        var name: String
        var isCurrent: Bool
    }

    struct Failure {
        var type: String
        var message: FoldedText
        var traceback: String?
    }

    struct Found {
        var text: String
        var words: String
        /// Already HTML.
        var lines: String
        var back: String
        /// Searches what lies before; nil when all of it was searched.
        var further: String?
    }

    struct Log {
        /// Already HTML.
        var html: String
        /// The raw text, for programs and for saving.
        var url: String
        /// Where the script gets what comes next.
        var tail: String
        var next: String
        /// The colours that the text ends in.
        var style: String
        var token: String
        var found: Found?
        var search: String
        var isLive: Bool
        var isCut: Bool
        var title: String
    }

    var id: String
    var name: String
    var service: String
    var stage: String
    var entry: String?
    var command: String?
    var needs: String?
    var mark: String
    var explanation: String
    var isRunning: Bool
    var run: RunRow
    var runID: String
    /// What the forms are about.
    var attempt: String
    var channel: String
    var priority: String
    var timeout: String
    var retry: String
    var queued: String?
    var started: String?
    var finished: String?
    var took: String?
    var worker: String?
    var progress: String?
    var progressText: String?
    var progressPercent: String?
    var paramsForm: ParamsForm?
    var canDiscard: Bool
    /// Already HTML.
    var discarded: String?
    var canRetry: Bool
    var retryWords: String
    var canCancel: Bool
    var canRerun: Bool
    var rerunWords: String
    var canSetPriority: Bool
    var priorities: [Level]
    var failure: Failure?
    var attempts: [AttemptRow]
    var log: Log?
    var pictures: [Artifact]
    var artifacts: [Artifact]
    var hasArtifacts: Bool
    /// Why artifacts are missing.
    var absence: String
    var results: Results?
    var parents: [Relative]
    var children: [Relative]
    var hasRelatives: Bool
    var params: String?
    /// What was planned, when the job has others now.
    var plannedParams: String?
    var addedParams: String?
    var result: String?
    var hasValues: Bool
    var concealment: Concealment
}

extension PageController {
    /// How much of a log the page shows at first, in bytes.
    private static let logTail: Int64 = 64 * 1024

    @Sendable func showJob(_ request: Request, _ context: DashboardContext) async throws -> Response {
        try await jobPage(request, context)
    }

    /// With `params` in the form, a retry with other ones; what is wrong with them is said where they were typed.
    @Sendable func retryJob(_ request: Request, _ context: DashboardContext) async throws -> Response {
        guard let text = context.form["params"] else { return try await act(.retryJob, "/jobs", request, context) }
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        do {
            _ = try await commands.send(
                .retryJob, target: id, params: try ParamsText.read(text), attempt: try JobOrder.attempt(context.form["attempt"]),
                by: identity)
            return .redirect(to: "/jobs/\(id)?done=\(CommandMessage.Action.retryJob.rawValue)")
        } catch let problem as Problem where [.badRequest, .conflict, .serviceUnavailable].contains(problem.status) {
            return try await jobPage(request, context, refused: JobPage.Refused(text: text, problem: problem))
        }
    }

    private func jobPage(_ request: Request, _ context: DashboardContext, refused: JobPage.Refused? = nil) async throws -> Response {
        let id = try context.parameters.require("id")
        let (ledger, explanations) = (ledger, explanations)
        var reads = try await pageReads()
        let read = try await reads.get("job \(id)", of: JobID(rawValue: id)?.run.rawValue) {
            guard let detail = try await ledger.job(id), let aftermath = try await ledger.aftermath(ofRun: detail.run.id) else {
                return nil as (LedgerJobDetail, Run?, Explanation, Int64, LedgerAftermath)?
            }
            let run = try await ledger.run(ofJob: id)
            let (explanation, fact) = try await explanations.explain(detail, of: run)
            return (detail, run, explanation, fact, aftermath)
        }
        guard let (detail, run, explanation, fact, aftermath) = read else { throw Problem.notFound("There is no job '\(id)'.") }
        reads.know(fact)
        let attempt = try ListQuery.attempt(request, among: detail.attempts)
        var log: JobPage.Log?
        if let attempt { log = try await tail(attempt, of: detail, finding: try LogSearch(request)) }
        let artifacts = JobArtifact.all(of: detail.attempts, job: id).map { artifact in
            JobPage.Artifact(
                name: artifact.name, path: artifact.path, kind: artifact.kind, url: artifact.url, isImage: artifact.isImage,
                isMissing: ConfinedFile.resolve(artifact.path, in: configuration.data) == nil)
        }
        let model = JobPage(
            detail, shown: attempt, log: log, artifacts: artifacts,
            results: StoredResults(aftermath, server: detail.run.server, configuration.orthanc), explanation: explanation,
            commands: JobCommands(detail.job, run), concealment: Concealment(detail.run.id, job: id, access, context, at: Date()),
            refused: refused, configuration: configuration, at: Date())
        var response = try pages.response(
            "job", model, title: detail.job.name, context, frame: await frame("/runs", request, run: detail.job.runID, reads),
            status: refused?.problem.status ?? .ok)
        response.hideAgain(model.concealment, at: "/jobs/\(id)")
        return response
    }

    private func tail(_ attempt: LedgerAttempt, of detail: LedgerJobDetail, finding search: LogSearch?) async throws -> JobPage.Log {
        let log = try JobLog.read(attempt, offset: -Self.logTail, in: configuration.logs)
        var terminal = TerminalText()
        let html = log.parts.map { terminal.html($0.text, stream: $0.stream.rawValue) }.joined()
        return JobPage.Log(
            html: html,
            url: "/api/v1/jobs/\(detail.job.id)/log?attempt=\(attempt.attempt)&token=\(attempt.token)",
            tail: "/jobs/\(detail.job.id)/log?token=\(attempt.token)",
            next: String(log.next),
            style: terminal.state,
            token: String(attempt.token),
            found: try await found(search, attempt, detail),
            search: search?.text ?? "",
            isLive: !log.isAtEnd,
            isCut: log.offset > 0,
            title: detail.attempts.count > 1 ? "Log of attempt \(attempt.attempt)" : "Log"
        )
    }

    private static let mostMatches = 500

    private func found(_ search: LogSearch?, _ attempt: LedgerAttempt, _ detail: LedgerJobDetail) async throws -> JobPage.Found? {
        guard let search else { return nil }
        let result = try await search.run(in: attempt, most: Self.mostMatches, logs: configuration.logs)
        let count = result.count
        var words = count == 0 ? "No line holds it" : count == 1 ? "1 line holds it" : "\(Display.number(count)) lines hold it"
        if count > result.matches.count { words += "; the last \(Display.number(result.matches.count)) are shown" }
        let isWhole = result.start == 0 && result.end == result.size
        if !isWhole {
            words += "; searched were bytes \(Display.number(Int(result.start))) to \(Display.number(Int(result.end)))"
            words += " of \(Display.number(Int(result.size)))"
        }
        let lines = result.matches.map { match in
            let number = match.line.map { "<span class=\"number\">\($0)</span>" } ?? ""
            return number + Self.marked(match.text, search.text)
        }
        let page = "/jobs/\(detail.job.id)"
        let fields: [(String, String?)] = [("token", String(attempt.token)), ("find", search.text)]
        return JobPage.Found(
            text: search.text, words: words, lines: lines.joined(separator: "\n"), back: "\(page)?token=\(attempt.token)#log",
            further: result.start > 0 ? PagerModel.path(page, fields + [("before", String(result.start))]) + "#log" : nil)
    }

    /// The line as HTML, with what was looked for marked.
    static func marked(_ line: String, _ text: String) -> String {
        var html = ""
        var rest = line[...]
        var marks = 0
        // A long line of one character is not worth a mark for each.
        while !text.isEmpty, marks < 50, let range = rest.range(of: text, options: .caseInsensitive), !range.isEmpty {
            html += HTMLText.escape(String(rest[..<range.lowerBound])) + "<mark>" + HTMLText.escape(String(rest[range])) + "</mark>"
            rest = rest[range.upperBound...]
            marks += 1
        }
        return html + HTMLText.escape(String(rest))
    }

    /// What a log has grown by, as the page shows it: for the page's script.
    @Sendable func showLogTail(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let attempts = try await ledger.attempts(ofJob: id) else { throw Problem.notFound("There is no job '\(id)'.") }
        guard let offset = request.query("offset").flatMap(Int64.init), offset >= 0 else {
            throw Problem.badRequest("offset is a whole number of bytes.")
        }
        guard let attempt = try ListQuery.attempt(request, among: attempts) else { throw Problem.notFound("The job has no log yet.") }
        let log = try JobLog.read(attempt, offset: offset, in: configuration.logs)
        var terminal = TerminalText(state: request.query("style") ?? "")
        let html = log.parts.map { terminal.html($0.text, stream: $0.stream.rawValue) }.joined()
        return .json([
            "html": .string(html), "next": .integer(log.next), "eof": .bool(log.isAtEnd), "style": .string(terminal.state),
        ])
    }
}

extension JobPage {
    fileprivate init(
        _ detail: LedgerJobDetail, shown: LedgerAttempt?, log: Log?, artifacts: [Artifact], results: StoredResults,
        explanation: Explanation, commands: JobCommands, concealment: Concealment, refused: Refused?,
        configuration: DashboardConfiguration, at now: Date
    ) {
        let job = detail.job
        let definition = detail.definition
        let failure = shown?.exit?.failure ?? job.error
        let retry = definition.retry
        self.init(
            id: job.id,
            name: job.name,
            service: Display.service(job.service),
            stage: job.stage.rawValue,
            entry: definition.entry.isEmpty ? nil : definition.entry,
            command: definition.command.isEmpty ? nil : definition.command.map(Self.quoted).joined(separator: " "),
            needs: Self.needs(definition),
            mark: StateMark.html(job.state),
            explanation: Self.explained(job, explanation),
            isRunning: job.state == .running,
            run: RunRow(detail.run, configuration.orthanc, at: now),
            runID: detail.run.id,
            attempt: String(job.attempt),
            channel: job.channel,
            priority: job.priority.name,
            timeout: definition.timeout.seconds.map { Display.duration(Double($0)) } ?? "none",
            retry: retry.max == 0 ? "none" : "\(retry.max) × after \(Display.duration(Double(retry.delay))), \(retry.backoff.rawValue)",
            queued: job.queuedAt.map { Markup.time($0) },
            started: job.startedAt.map { Markup.time($0) },
            finished: job.finishedAt.map { Markup.time($0) },
            took: job.startedAt.map { Display.duration((job.finishedAt ?? now).timeIntervalSince($0)) },
            worker: job.worker,
            progress: job.progress.map { Markup.meter($0.fraction, "\(Int($0.fraction * 100)) %") },
            progressText: job.progress?.text,
            progressPercent: job.progress.map { "\(Int($0.fraction * 100)) %" },
            paramsForm: ParamsForm(detail, commands, concealment, refused),
            canDiscard: job.state == .dead && job.discarded == nil,
            discarded: job.discarded.map { "\(HTMLText.escape($0.actor)) \(Markup.time($0.at))" },
            canRetry: commands.retry != nil,
            retryWords: (commands.retry ?? "") + (detail.changedParams == nil ? "" : ", with its changed params"),
            canCancel: !job.state.isTerminal && !job.cancelRequested,
            canRerun: commands.rerun != nil,
            rerunWords: commands.rerun ?? "",
            canSetPriority: !commands.priorities.isEmpty,
            priorities: commands.priorities.map { Level(name: $0.name, isCurrent: $0 == job.priority) },
            failure: failure.map { Failure(type: $0.type, message: FoldedText($0.message), traceback: $0.traceback) },
            attempts: detail.attempts.reversed().map {
                AttemptRow($0, isShown: $0.token == shown?.token, planned: definition.params, concealment, now)
            },
            log: log,
            pictures: artifacts.filter { $0.isImage && !$0.isMissing },
            artifacts: artifacts,
            hasArtifacts: !artifacts.isEmpty,
            absence: results.absence,
            // Where files are gone, where to look instead; on the storing job's own page always.
            results: artifacts.contains(where: \.isMissing) || results.jobs.contains { $0.id == job.id } ? Results(results) : nil,
            parents: detail.parents.map(Relative.init),
            children: detail.children.map(Relative.init),
            hasRelatives: !detail.parents.isEmpty || !detail.children.isEmpty,
            params: detail.params == .null ? nil : PrettyJSON.text(concealment.shown(detail.params)),
            plannedParams: detail.changedParams == nil ? nil : PrettyJSON.text(concealment.shown(definition.params)),
            addedParams: detail.addedParams.flatMap { $0 == [:] ? nil : PrettyJSON.text(concealment.shown($0)) },
            result: detail.result.map { PrettyJSON.text(concealment.shown($0)) },
            hasValues: detail.params != .null || detail.result != nil || detail.addedParams.map { $0 != [:] } ?? false,
            concealment: concealment
        )
    }
}

extension JobPage {
    /// What its mark does not say already.
    private static func explained(_ job: LedgerJob, _ explanation: Explanation) -> String {
        guard job.state == .succeeded, let started = job.startedAt, let finished = job.finishedAt else { return explanation.html }
        let attempt = job.attempt > 1 ? ", at attempt \(job.attempt)" : ""
        return "after \(Display.duration(finished.timeIntervalSince(started)))\(attempt)"
    }

    /// As a shell would want it.
    private static func quoted(_ word: String) -> String {
        let isPlain = !word.isEmpty && word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./=:,+%@".contains($0)) }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }

    private static func needs(_ job: JobDefinition) -> String? {
        var parts: [String] = []
        if let memory = job.resources.memory { parts.append("\(ByteCount.text(memory)) memory") }
        if job.resources.gpus > 0 { parts.append(job.resources.gpus == 1 ? "1 GPU" : "\(job.resources.gpus) GPUs") }
        if let environment = job.environment { parts.append("environment \(environment)") }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }
}

/// What may be asked of a job now, in the words of the router's rules.
private struct JobCommands {
    /// What a retry takes back; nil when there is nothing to retry.
    var retry: String?
    var rerun: String?
    /// The levels to choose from; empty when a priority no longer matters.
    var priorities: [Priority] = []

    init(_ job: LedgerJob, _ run: Run?) {
        guard let run, run.jobs.indices.contains(job.position) else { return }
        func words(_ input: RunInput) -> String? {
            let preview = CommandPreview(input, on: run)
            return preview.refusal == nil ? preview.words(from: job.position) : nil
        }
        retry = words(.retry(job: job.position, actor: ""))
        // Where both do the same, one button is enough.
        rerun = words(.rerun(job: job.position, actor: ""))
        if rerun == retry { rerun = nil }
        if [.waiting, .ready, .dispatched, .retrying].contains(job.state) { priorities = Priority.allCases.reversed() }
    }
}

extension JobPage.AttemptRow {
    private static func reached(_ attempt: LedgerAttempt) -> String? {
        guard attempt.endedAt != nil, attempt.outcome != "succeeded", let progress = attempt.progress else { return nil }
        return "Had got to \(Int(progress.fraction * 100)) %" + (progress.text.map { ": \($0)" } ?? ".")
    }

    init(_ attempt: LedgerAttempt, isShown: Bool, planned: JSONValue, _ concealment: Concealment, _ now: Date) {
        let exit = attempt.exit
        var code = ""
        if let signal = exit?.signal { code = "signal \(signal)" } else if let exitCode = exit?.exitCode { code = "exit \(exitCode)" }
        self.init(
            number: String(attempt.attempt),
            start: String(attempt.token),
            mark: StateMark.html(attempt.outcome ?? "running", like: Timeline.state(attempt)),
            kind: attempt.kind == "completed" ? "" : attempt.kind ?? "",
            worker: attempt.worker,
            claimed: Markup.time(attempt.claimedAt),
            took: Display.duration((attempt.endedAt ?? now).timeIntervalSince(attempt.claimedAt)),
            cpu: exit?.usage.map { Display.duration($0.user + $0.system) } ?? "",
            memory: exit?.usage.flatMap { $0.peakMemory > 0 ? Display.bytes($0.peakMemory) : nil } ?? "",
            exit: code,
            message: (exit?.failure?.message ?? attempt.lostReason?.text).map { FoldedText($0, lines: 2, characters: 240) },
            reached: Self.reached(attempt),
            tail: isShown ? nil : exit?.tail.map(JobLog.plain),
            logURL: "/jobs/\(attempt.jobID)?token=\(attempt.token)#log",
            isShown: isShown,
            params: attempt.params.map { PrettyJSON.text(concealment.shown($0)) },
            paramsWords: attempt.params.map { ParamsChange(from: planned, to: $0).words } ?? ""
        )
    }
}

extension JobPage.ParamsForm {
    /// - Returns: nil when there is nothing to retry, or the job takes no params.
    fileprivate init?(
        _ detail: LedgerJobDetail, _ commands: JobCommands, _ concealment: Concealment, _ refused: JobPage.Refused?
    ) {
        guard refused != nil || commands.retry != nil, detail.definition.kind != .export else { return nil }
        // Masks that came back as values would be the job's params from then on.
        let isHidden = concealment.shown(detail.params) != detail.params
        self.init(
            text: refused?.text ?? (isHidden ? "" : PrettyJSON.text(detail.params == .null ? [:] : detail.params)),
            error: refused?.problem.detail,
            words: commands.retry ?? "this job",
            isHidden: isHidden,
            isChanged: detail.changedParams != nil)
    }
}

extension JobPage.Relative {
    init(_ relative: LedgerRelative) {
        self.init(
            id: relative.id, name: relative.name, mark: StateMark.html(relative.state), isStage: relative.edge.origin == .stage)
    }
}
