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
        var hasReason: Bool
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
        var url: String?
        var instances: String
        var refusal: String?
    }

    /// A job on the critical path.
    struct Step {
        var url: String
        var name: String
        var took: String
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
    var modalities: String
    var holds: String
    /// In Orthanc's own pages.
    var orthanc: String?
    var mark: String
    var reason: String?
    var created: String
    var finished: String?
    var took: String
    var bar: String
    var done: String
    var reprocessOf: String?
    var follows: String?
    /// The runs of the same resource before and after this one.
    var earlier: String?
    var later: String?
    var results: Results?
    var dcmpath: String
    /// Why they are gone; nil while they are there.
    var filesGone: String?
    var event: String
    var observed: String
    var canCancel: Bool
    var canRetry: Bool
    var retryCount: String
    var cancelCount: String
    /// Nil without jobs, and with more than anyone can read in a drawing.
    var graph: String?
    /// The critical path, first to last; empty when there is none.
    var path: [Step]
    var hasPath: Bool
    /// How long all of them took, and how much of the run was waiting in between.
    var pathTook: String
    var pathWaited: String?
    var scale: String
    var lanes: [WorkerLanes.Lane]
    var hasLanes: Bool
    var jobs: [JobRow]
    /// How many of each; nil when nobody was asked.
    var verdicts: String?
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
        var reads = try await pageReads()
        let read = try await reads.get("run \(id)", of: id) {
            guard let detail = try await ledger.run(id), let aftermath = try await ledger.aftermath(ofRun: id) else {
                return nil as (LedgerRunDetail, RunCommands, Explanations.Answers, LedgerAftermath)?
            }
            let run = try await ledger.run(of: detail)
            return (detail, RunCommands(run), try await explanations.explain(detail, of: run), aftermath)
        }
        guard let (detail, commands, answers, aftermath) = read else { throw Problem.notFound("There is no run '\(id)'.") }
        reads.know(answers.fact)
        let concealment = Concealment(id, access, context, at: Date())
        let model = RunPage(detail, commands, answers.byPosition, aftermath, configuration, concealment, at: Date())
        var response = try pages.response(
            "run", model, title: "Run \(id.suffix(8))", context, frame: await frame("/runs", request, run: id, reads))
        response.hideAgain(concealment, at: "/runs/\(id)")
        return response
    }
}

/// What may be asked of a run now, by the router's rules: how many jobs it would change.
private struct RunCommands {
    /// 0 when there is nothing to retry.
    var retry = 0
    var cancel = 0

    init(_ run: Run?) {
        guard let run else { return }
        func count(_ input: RunInput) -> Int {
            let preview = CommandPreview(input, on: run)
            return preview.refusal == nil ? preview.jobs.count : 0
        }
        if run.state.isTerminal { retry = count(.retryAll(actor: "")) } else { cancel = count(.cancelAll(actor: "")) }
    }
}

extension RunPage {
    fileprivate init(
        _ detail: LedgerRunDetail, _ commands: RunCommands, _ explanations: [Int: Explanation], _ aftermath: LedgerAftermath,
        _ configuration: DashboardConfiguration, _ concealment: Concealment, at now: Date
    ) {
        let run = detail.run
        let row = RunRow(run, configuration.orthanc, at: now)
        let results = StoredResults(aftermath, server: run.server, configuration.orthanc)
        let timeline = Timeline(detail, at: now)
        let attempts = Dictionary(grouping: detail.attempts, by: \.jobID)
        let path = CriticalPath.of(detail)
        let steps = Self.steps(path, detail, at: now)
        let verdicts = Dictionary(grouping: detail.decisions, by: \.verdict).mapValues(\.count)
        let graph = RunGraph.svg(detail, at: now)
        self.init(
            id: run.id,
            level: run.level,
            resource: run.resourceID,
            server: run.server,
            modalities: row.modalities,
            holds: row.holds,
            orthanc: row.orthanc,
            mark: row.mark,
            reason: run.reason?.text,
            created: Markup.time(run.createdAt),
            finished: run.finishedAt.map { Markup.time($0) },
            took: row.took,
            bar: row.bar,
            done: row.done,
            reprocessOf: run.origin.hasPrefix("reprocess:") ? String(run.origin.dropFirst("reprocess:".count)) : nil,
            follows: detail.follows,
            earlier: aftermath.earlier,
            later: aftermath.later,
            results: Results(results),
            dcmpath: run.dcmpath,
            filesGone: aftermath.hasBegunCleaning ? results.absence : nil,
            event: String(detail.event.sequence),
            observed: Markup.time(detail.event.observedAt),
            canCancel: commands.cancel > 0,
            canRetry: commands.retry > 0,
            retryCount: Display.count(commands.retry, "job"),
            cancelCount: Display.count(commands.cancel, "job"),
            graph: graph.isEmpty ? nil : graph,
            path: steps.steps,
            hasPath: !path.isEmpty,
            pathTook: steps.took,
            pathWaited: steps.waited,
            scale: timeline.scale,
            lanes: WorkerLanes.of(detail, timeline, at: now),
            hasLanes: !detail.attempts.isEmpty,
            jobs: detail.jobs.map {
                JobRow($0, attempts[$0.id] ?? [], explanations[$0.position], timeline, now)
            },
            verdicts: verdicts.isEmpty
                ? nil
                : verdicts.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }.joined(
                    separator: ", "),
            decisions: detail.decisions.map(DecisionRow.init),
            series: SeriesRow.rows(detail, configuration.orthanc),
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

    /// What the run's length is made of, with the waiting in between.
    private static func steps(
        _ path: [Int], _ detail: LedgerRunDetail, at now: Date
    ) -> (steps: [Step], took: String, waited: String?) {
        let jobs = Dictionary(detail.jobs.map { ($0.position, $0) }) { first, _ in first }
        var busy = 0.0
        let steps = path.compactMap { jobs[$0] }.map { job in
            let took = job.startedAt.map { (job.finishedAt ?? now).timeIntervalSince($0) } ?? 0
            busy += max(0, took)
            return Step(url: "/jobs/\(job.id)", name: job.name, took: Display.duration(took))
        }
        let whole = (detail.run.finishedAt ?? now).timeIntervalSince(detail.run.createdAt)
        return (steps, Display.duration(busy), whole - busy > 0.5 ? Display.duration(whole - busy) : nil)
    }
}

/// What a run has stored, on its page and on those of its jobs.
struct Results {
    struct Series {
        var id: String
        var shortID: String
        var url: String?
    }

    var words: String
    var series: [Series]
    /// How many more there are.
    var more: String?
    var isCleaned: Bool

    private static let shown = 12

    /// - Returns: nil when nothing was stored.
    init?(_ results: StoredResults) {
        guard let words = results.words else { return nil }
        self.words = words
        series = results.series.prefix(Self.shown).map { .init(id: $0.id, shortID: String($0.id.prefix(8)), url: $0.url) }
        more = results.series.count > Self.shown ? "and \(results.series.count - Self.shown) more" : nil
        isCleaned = results.isCleaned
    }
}

extension RunPage.JobRow {
    init(_ job: LedgerJob, _ attempts: [LedgerAttempt], _ explanation: Explanation?, _ timeline: Timeline, _ now: Date) {
        self.init(
            id: job.id,
            name: job.name,
            // Most services have one job and call it as they are called.
            service: job.service == job.name ? "" : Display.service(job.service),
            stage: job.stage.rawValue,
            mark: StateMark.html(job.state),
            reason: explanation?.html ?? HTMLText.escape(job.reason.text),
            // That it succeeded, its mark says.
            hasReason: job.state != .succeeded || job.attempt > 1,
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
            service: decision.service == decision.job ? "" : decision.service + " ·",
            stage: decision.stage.rawValue,
            reason: decision.reason.text,
            took: decision.duration.map(Display.duration) ?? "",
            output: decision.output.flatMap { $0.isEmpty ? nil : $0 }
        )
    }
}

extension RunPage.SeriesRow {
    fileprivate static func rows(_ detail: LedgerRunDetail, _ pages: OrthancPages) -> [RunPage.SeriesRow] {
        func url(_ id: String) -> String? { pages.url("series", id, server: detail.run.server) }
        let accepted = detail.event.series.map {
            RunPage.SeriesRow(id: $0.id, url: url($0.id), instances: Display.number($0.instances), refusal: nil)
        }
        let refused = (detail.refused.object ?? [:]).sorted { $0.key < $1.key }.map { id, reason in
            RunPage.SeriesRow(id: id, url: url(id), instances: "", refusal: reason["text"]?.string ?? "refused")
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
