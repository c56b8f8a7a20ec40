import Foundation
import Hummingbird
import JobStore
import Jobs

private struct RunPage {
    struct JobRow {
        var isCritical: Bool
        var id: String
        var name: String
        var service: String
        var stage: String
        var mark: String
        var reason: String
        var attempt: String
        var worker: String
        var waited: String
        var took: String
        var timeline: String
    }

    struct DecisionRow {
        var mark: String
        var job: String
        var service: String
        var stage: String
        var reason: String
        var took: String
        var output: String?
    }

    struct SeriesRow {
        var id: String
        var instances: String
        var refusal: String?
    }

    struct Related {
        var id: String
        var shortID: String
        var mark: String
        /// `earlier` or `later`.
        var when: String
        var created: String
        var isReprocess: Bool
    }

    var id: String
    var level: String
    var resource: String
    var server: String
    var mark: String
    var reason: String?
    var created: String
    var finished: String?
    var took: String
    var bar: String
    var done: String
    var reprocessOf: String?
    var follows: String?
    var dcmpath: String
    var event: String
    var observed: String
    var canCancel: Bool
    var canRetry: Bool
    var retryCount: String
    var openCount: String
    var graph: String
    /// Already HTML: the critical path in words.
    var path: String?
    var scale: String
    var lanes: [WorkerLanes.Lane]
    var hasLanes: Bool
    var jobs: [JobRow]
    var verdicts: String
    var decisions: [DecisionRow]
    var series: [SeriesRow]
    var related: [Related]
    var headers: String
    var addedParams: String?
    var concealment: Concealment
}

extension PageController {
    @Sendable func showRun(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let id = try context.parameters.require("id")
        let (ledger, explanations) = (ledger, explanations)
        let read = try await reads.get("run \(id)") {
            guard let detail = try await ledger.run(id) else { return nil as (LedgerRunDetail, [Int: Explanation])? }
            return (detail, try await explanations.explain(detail))
        }
        guard let (detail, answers) = read else { throw Problem.notFound("There is no run '\(id)'.") }
        let concealment = Concealment(id, access, context, at: Date())
        var response = try pages.response(
            "run", RunPage(detail, answers, concealment, at: Date()), title: "Run \(id.suffix(8))", context,
            frame: await frame("/runs", request, run: id))
        response.hideAgain(concealment, at: "/runs/\(id)")
        return response
    }
}

extension RunPage {
    init(_ detail: LedgerRunDetail, _ explanations: [Int: Explanation], _ concealment: Concealment, at now: Date) {
        let run = detail.run
        let row = RunRow(run, at: now)
        let timeline = Timeline(detail, at: now)
        let attempts = Dictionary(grouping: detail.attempts, by: \.jobID)
        let retriable = detail.jobs.count { $0.state.isTerminal && $0.state != .succeeded }
        let open = detail.jobs.count { !$0.state.isTerminal }
        let path = CriticalPath.of(detail)
        let verdicts = Dictionary(grouping: detail.decisions, by: \.verdict).mapValues(\.count)
        self.init(
            id: run.id,
            level: run.level,
            resource: run.resourceID,
            server: run.server,
            mark: row.mark,
            reason: run.reason?.text,
            created: Markup.time(run.createdAt),
            finished: run.finishedAt.map { Markup.time($0) },
            took: row.took,
            bar: row.bar,
            done: row.done,
            reprocessOf: run.origin.hasPrefix("reprocess:") ? String(run.origin.dropFirst("reprocess:".count)) : nil,
            follows: detail.follows,
            dcmpath: run.dcmpath,
            event: String(detail.event.sequence),
            observed: Markup.time(detail.event.observedAt),
            canCancel: !run.state.isTerminal,
            canRetry: run.state.isTerminal && retriable > 0,
            retryCount: Self.jobs(retriable),
            openCount: Self.jobs(open),
            graph: RunGraph.svg(detail, at: now),
            path: Self.words(path, detail, at: now),
            scale: timeline.scale,
            lanes: WorkerLanes.of(detail, timeline, at: now),
            hasLanes: !detail.attempts.isEmpty,
            jobs: detail.jobs.map {
                JobRow($0, attempts[$0.id] ?? [], explanations[$0.position], timeline, now, isCritical: path.contains($0.position))
            },
            verdicts: verdicts.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }.joined(
                separator: ", "),
            decisions: detail.decisions.map(DecisionRow.init),
            series: SeriesRow.rows(detail),
            related: detail.related.map { other in
                Related(
                    id: other.id, shortID: String(other.id.suffix(8)), mark: StateMark.html(other.state),
                    when: other.id < run.id ? "earlier" : "later",
                    created: Markup.time(other.createdAt, isRelative: true), isReprocess: other.origin == "reprocess:\(run.id)")
            },
            headers: PrettyJSON.text(concealment.shown(detail.headers)),
            addedParams: detail.addedParams == [:] ? nil : PrettyJSON.text(concealment.shownByJob(detail.addedParams)),
            concealment: concealment
        )
    }

    /// `export 6 s → dcm2nii 24 s`: what the run's length is made of, with the waiting in between.
    private static func words(_ path: [Int], _ detail: LedgerRunDetail, at now: Date) -> String? {
        guard !path.isEmpty else { return nil }
        let jobs = Dictionary(detail.jobs.map { ($0.position, $0) }) { first, _ in first }
        var busy = 0.0
        let steps = path.compactMap { jobs[$0] }.map { job in
            let took = job.startedAt.map { (job.finishedAt ?? now).timeIntervalSince($0) } ?? 0
            busy += max(0, took)
            return
                "<a href=\"/jobs/\(HTMLText.escape(job.id))\">\(HTMLText.escape(job.name))</a> <span class=\"n\">\(Display.duration(took))</span>"
        }
        let whole = (detail.run.finishedAt ?? now).timeIntervalSince(detail.run.createdAt)
        let waited = whole - busy > 0.5 ? " <span class=\"soft\">and \(Display.duration(whole - busy)) of waiting</span>" : ""
        return steps.joined(separator: " → ") + waited
    }

    private static func jobs(_ count: Int) -> String { count == 1 ? "1 job" : "\(count) jobs" }
}

extension RunPage.JobRow {
    init(_ job: LedgerJob, _ attempts: [LedgerAttempt], _ explanation: Explanation?, _ timeline: Timeline, _ now: Date, isCritical: Bool) {
        self.init(
            isCritical: isCritical,
            id: job.id,
            name: job.name,
            service: job.service.isEmpty ? "built-in" : job.service,
            stage: job.stage.rawValue,
            mark: StateMark.html(job.state),
            reason: explanation?.html ?? HTMLText.escape(job.reason.text),
            attempt: job.token == 0 ? "" : String(job.attempt),
            worker: job.worker ?? "",
            waited: Self.span(job.queuedAt, job.startedAt ?? (job.state.isTerminal ? nil : now)),
            took: Self.span(job.startedAt, job.finishedAt ?? (job.state == .running ? now : nil)),
            timeline: timeline.bar(job, attempts, at: now)
        )
    }

    private static func span(_ from: Date?, _ to: Date?) -> String {
        guard let from, let to else { return "" }
        return Display.duration(to.timeIntervalSince(from))
    }
}

extension RunPage.DecisionRow {
    init(_ decision: Decision) {
        self.init(
            mark: StateMark.html(decision.verdict.rawValue, like: decision.verdict.rawValue),
            job: decision.job,
            service: decision.service,
            stage: decision.stage.rawValue,
            reason: decision.reason.text,
            took: decision.duration.map(Display.duration) ?? "",
            output: decision.output.flatMap { $0.isEmpty ? nil : $0 }
        )
    }
}

extension RunPage.SeriesRow {
    fileprivate static func rows(_ detail: LedgerRunDetail) -> [RunPage.SeriesRow] {
        let accepted = detail.event.series.map { RunPage.SeriesRow(id: $0.id, instances: Display.number($0.instances), refusal: nil) }
        let refused = (detail.refused.object ?? [:]).sorted { $0.key < $1.key }.map { id, reason in
            RunPage.SeriesRow(id: id, instances: "", refusal: reason["text"]?.string ?? "refused")
        }
        return accepted + refused
    }
}

/// JSON as people read it.
enum PrettyJSON {
    static func text(_ value: JSONValue) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? value.text
    }
}
