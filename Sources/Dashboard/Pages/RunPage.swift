import Foundation
import Hummingbird
import JobStore
import Jobs

private struct RunPage {
    struct JobRow {
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
    var finished: String
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
    var scale: String
    var jobs: [JobRow]
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
        guard let detail = try await ledger.run(id) else { throw Problem.notFound("There is no run '\(id)'.") }
        let concealment = Concealment(id, access, context, at: Date())
        return try pages.response(
            "run", RunPage(detail, try await explanations.explain(detail), concealment, at: Date()), title: "Run \(id.suffix(8))", context,
            frame: await frame("/runs", request, run: id))
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
        self.init(
            id: run.id,
            level: run.level,
            resource: run.resourceID,
            server: run.server,
            mark: row.mark,
            reason: run.reason?.text,
            created: Markup.time(run.createdAt),
            finished: Markup.time(run.finishedAt),
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
            scale: timeline.scale,
            jobs: detail.jobs.map { JobRow($0, attempts[$0.id] ?? [], explanations[$0.position], timeline, now) },
            decisions: detail.decisions.map(DecisionRow.init),
            series: SeriesRow.rows(detail),
            related: detail.related.map { other in
                Related(
                    id: other.id, shortID: String(other.id.suffix(8)), mark: StateMark.html(other.state),
                    created: Markup.time(other.createdAt, isRelative: true), isReprocess: other.origin == "reprocess:\(run.id)")
            },
            headers: PrettyJSON.text(concealment.shown(detail.headers)),
            addedParams: detail.addedParams == [:] ? nil : PrettyJSON.text(concealment.shownByJob(detail.addedParams)),
            concealment: concealment
        )
    }

    private static func jobs(_ count: Int) -> String { count == 1 ? "1 job" : "\(count) jobs" }
}

extension RunPage.JobRow {
    init(_ job: LedgerJob, _ attempts: [LedgerAttempt], _ explanation: Explanation?, _ timeline: Timeline, _ now: Date) {
        self.init(
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
