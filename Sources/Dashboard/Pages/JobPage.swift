import Foundation
import Hummingbird
import JobStore
import Jobs

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
        var message: String?
        /// The end of its log as the worker reported it.
        var tail: String?
        var logURL: String
        var isShown: Bool
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
        var message: String
        var traceback: String?
    }

    struct LogPart {
        /// Its class on the page.
        var stream: String
        var text: String
    }

    struct Log {
        var parts: [LogPart]
        var url: String
        var next: String
        var isLive: Bool
        var isCut: Bool
        var title: String
    }

    var id: String
    var name: String
    var service: String
    var stage: String
    var entry: String
    var command: String?
    var needs: String?
    var mark: String
    var explanation: String
    var isRunning: Bool
    var run: RunRow
    var runID: String
    var channel: String
    var priority: String
    var timeout: String
    var retry: String
    var queued: String
    var started: String
    var finished: String
    var took: String
    var worker: String
    var progress: String?
    var progressText: String?
    var progressPercent: String?
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
    var parents: [Relative]
    var children: [Relative]
    var params: String?
    var addedParams: String?
    var result: String?
    var concealment: Concealment
}

extension PageController {
    /// How much of a log the page shows at first, in bytes.
    private static let logTail: Int64 = 64 * 1024

    @Sendable func showJob(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        guard let detail = try await ledger.job(id) else { throw Problem.notFound("There is no job '\(id)'.") }
        let attempt = try ListQuery.attempt(request, among: detail.attempts)
        let log = try attempt.map { try tail($0, of: detail) }
        let artifacts = JobArtifact.all(of: detail.attempts, job: id).map { artifact in
            JobPage.Artifact(
                name: artifact.name, path: artifact.path, kind: artifact.kind, url: artifact.url, isImage: artifact.isImage,
                isMissing: ConfinedFile.resolve(artifact.path, in: configuration.data) == nil)
        }
        let run = try await ledger.run(ofJob: id)
        let model = JobPage(
            detail, shown: attempt, log: log, artifacts: artifacts, explanation: try await explanations.explain(detail, of: run),
            commands: JobCommands(detail.job, run), concealment: Concealment(detail.run.id, job: id, access, context, at: Date()),
            at: Date())
        return try pages.response(
            "job", model, title: detail.job.name, context, frame: await frame("/runs", request, run: detail.job.runID))
    }

    private func tail(_ attempt: LedgerAttempt, of detail: LedgerJobDetail) throws -> JobPage.Log {
        let log = try JobLog.read(attempt, offset: -Self.logTail, in: configuration.logs)
        return JobPage.Log(
            parts: log.parts.map { JobPage.LogPart(stream: $0.stream.rawValue, text: JobLog.plain($0.text)) },
            url: "/api/v1/jobs/\(detail.job.id)/log?attempt=\(attempt.attempt)&token=\(attempt.token)",
            next: String(log.next),
            isLive: !log.isAtEnd,
            isCut: log.offset > 0,
            title: detail.attempts.count > 1 ? "Log of attempt \(attempt.attempt)" : "Log"
        )
    }
}

extension JobPage {
    fileprivate init(
        _ detail: LedgerJobDetail, shown: LedgerAttempt?, log: Log?, artifacts: [Artifact], explanation: Explanation,
        commands: JobCommands, concealment: Concealment, at now: Date
    ) {
        let job = detail.job
        let definition = detail.definition
        let failure = shown?.exit?.failure ?? job.error
        let retry = definition.retry
        self.init(
            id: job.id,
            name: job.name,
            service: job.service.isEmpty ? "built-in" : job.service,
            stage: job.stage.rawValue,
            entry: definition.entry,
            command: definition.command.isEmpty ? nil : definition.command.map(Self.quoted).joined(separator: " "),
            needs: Self.needs(definition),
            mark: StateMark.html(job.state),
            explanation: explanation.html,
            isRunning: job.state == .running,
            run: RunRow(detail.run, at: now),
            runID: detail.run.id,
            channel: job.channel,
            priority: job.priority.name,
            timeout: definition.timeout.seconds.map { Display.duration(Double($0)) } ?? "none",
            retry: retry.max == 0 ? "none" : "\(retry.max) × after \(Display.duration(Double(retry.delay))), \(retry.backoff.rawValue)",
            queued: Markup.time(job.queuedAt),
            started: Markup.time(job.startedAt),
            finished: Markup.time(job.finishedAt),
            took: job.startedAt.map { Display.duration((job.finishedAt ?? now).timeIntervalSince($0)) } ?? "–",
            worker: job.worker ?? "–",
            progress: job.progress.map { Markup.meter($0.fraction, "\(Int($0.fraction * 100)) %") },
            progressText: job.progress?.text,
            progressPercent: job.progress.map { "\(Int($0.fraction * 100)) %" },
            canRetry: commands.retry != nil,
            retryWords: commands.retry ?? "",
            canCancel: !job.state.isTerminal && !job.cancelRequested,
            canRerun: commands.rerun != nil,
            rerunWords: commands.rerun ?? "",
            canSetPriority: !commands.priorities.isEmpty,
            priorities: commands.priorities.map { Level(name: $0.name, isCurrent: $0 == job.priority) },
            failure: failure.map { Failure(type: $0.type, message: $0.message, traceback: $0.traceback) },
            attempts: detail.attempts.reversed().map { AttemptRow($0, isShown: $0.token == shown?.token, now) },
            log: log,
            pictures: artifacts.filter { $0.isImage && !$0.isMissing },
            artifacts: artifacts,
            parents: detail.parents.map(Relative.init),
            children: detail.children.map(Relative.init),
            params: definition.params == .null ? nil : PrettyJSON.text(concealment.shown(definition.params)),
            addedParams: detail.addedParams.flatMap { $0 == [:] ? nil : PrettyJSON.text(concealment.shown($0)) },
            result: detail.result.map { PrettyJSON.text(concealment.shown($0)) },
            concealment: concealment
        )
    }
}

extension JobPage {
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
    init(_ attempt: LedgerAttempt, isShown: Bool, _ now: Date) {
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
            message: exit?.failure?.message ?? attempt.lostReason?.text,
            tail: isShown ? nil : exit?.tail.map(JobLog.plain),
            logURL: "/jobs/\(attempt.jobID)?token=\(attempt.token)#log",
            isShown: isShown
        )
    }
}

extension JobPage.Relative {
    init(_ relative: LedgerRelative) {
        self.init(
            id: relative.id, name: relative.name, mark: StateMark.html(relative.state), isStage: relative.edge.origin == .stage)
    }
}
