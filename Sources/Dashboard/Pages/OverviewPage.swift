import Foundation
import Hummingbird
import JobStore
import Jobs

/// What happens now, at a glance, and how it went lately.
private struct OverviewPage {
    struct Tile {
        var title: String
        var value: String
        var detail: String
        var url: String
    }

    struct Range {
        var title: String
        var url: String
        var isCurrent: Bool
    }

    struct Figure {
        var title: String
        var value: String
        var detail: String
    }

    /// A span of the charts, for those who would rather read it.
    struct Span {
        var at: String
        var succeeded: String
        var failed: String
        var other: String
        var half: String
        var most: String
    }

    struct Activity {
        var words: String
        var ranges: [Range]
        var figures: [Figure]
        var counts: String
        var durations: String
        var axis: [String]
        var spans: [Span]
        var hasEnded: Bool
        /// Days, not hours, tell the marks of the charts apart.
        var isLong: Bool
    }

    struct Problem {
        var service: String
        var message: String
    }

    struct Worker {
        var id: String
        var mark: String
        var meter: String
        var slots: String
        var channels: String
    }

    var isEmpty: Bool
    var hasWorkers: Bool
    var hasServices: Bool
    var tiles: [Tile]
    var activity: Activity
    var active: [RunRow]
    var troubled: [RunRow]
    var latest: [RunRow]
    var channels: [ChannelRow]
    var workers: [Worker]
    var moreWorkers: String?
    var failures: [JobFigures]
    var problems: [Problem]
}

/// How one job of a service went lately.
struct JobFigures {
    var job: String
    var service: String
    var ended: String
    var failed: String
    var hasFailed: Bool
    var rate: String
    var meter: String
    var half: String
    var most: String
    var url: String
    private var failures: Int

    init(_ service: String, _ name: String, _ spans: [EndedSpan], url: String) {
        var counted = DurationCounts()
        var succeeded = 0
        failures = 0
        for span in spans {
            switch span.state {
            case "succeeded": succeeded += span.durations.count
            case "failed", "dead": failures += span.durations.count
            default: continue
            }
            counted.add(span.durations)
        }
        let all = succeeded + failures
        let share = all == 0 ? 0 : Double(failures) / Double(all)
        job = name
        self.service = Display.service(service)
        ended = Display.number(all)
        failed = failures == 0 ? "0" : Display.number(failures)
        hasFailed = failures > 0
        rate = all == 0 ? "" : Self.percent(share)
        meter = Markup.meter(share, "\(Self.percent(share)) failed", like: "failed")
        half = counted.percentile(0.5).map(Display.duration) ?? "–"
        most = counted.percentile(0.95).map(Display.duration) ?? "–"
        self.url = url
    }

    /// Of everything that ended, one a job, those that failed most first.
    static func all(_ spans: [EndedSpan], url: (String) -> String) -> [JobFigures] {
        Dictionary(grouping: spans) { [$0.service, $0.name] }
            .map { key, spans in JobFigures(key[0], key[1], spans, url: url(key[0])) }
            .sorted { ($1.failures, $0.service, $0.job) < ($0.failures, $1.service, $1.job) }
    }

    /// One decimal below ten per cent: 0.4 % and 4 % are not the same news.
    static func percent(_ share: Double) -> String {
        let value = share * 100
        if value == 0 || value >= 9.95 { return "\(Int(value.rounded())) %" }
        if value < 0.1 { return "< 0.1 %" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) %"
    }
}

/// How far back a chart looks.
enum ChartRange: String, CaseIterable {
    case hour = "1h"
    case day = "24h"
    case week = "7d"

    var title: String {
        switch self {
        case .hour: "1 h"
        case .day: "24 h"
        case .week: "7 days"
        }
    }

    /// Bars and the seconds of each.
    var bars: (count: Int, length: Int) {
        switch self {
        case .hour: (12, 300)
        case .day: (48, 1800)
        case .week: (56, 10800)
        }
    }

    /// How old the figures may be: a bar of three hours does not grow while one looks.
    var patience: Duration {
        switch self {
        case .hour: .seconds(1)
        case .day: .seconds(5)
        case .week: .seconds(30)
        }
    }

    /// Where the first bar begins, so that the last one holds `now`.
    func start(at now: Date) -> Date {
        let (count, length) = bars
        let last = (now.timeIntervalSince1970 / Double(length)).rounded(.down)
        return Date(timeIntervalSince1970: (last - Double(count - 1)) * Double(length))
    }
}

extension PageController {
    @Sendable func showOverview(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let range = ChartRange(rawValue: request.query("range") ?? "") ?? .day
        let ledger = ledger
        var read = try await pageReads()
        let overview = try await read.overview()
        let activity = try await read.ended(range, ended, at: now)
        let lists = try await read.get("overview") {
            async let active = ledger.runs(LedgerRunFilter(states: [.active]), limit: 6)
            async let troubled = ledger.runs(LedgerRunFilter(states: [.failed]), limit: 6)
            async let latest = ledger.runs(limit: 12)
            return try await (active: active.items, troubled: troubled.items, latest: latest.items)
        }
        let alive = overview.workers.filter { [.running, .draining].contains($0.presence(at: now)) }
        let model = OverviewPage(
            isEmpty: overview.totals.eventCount == 0,
            hasWorkers: !alive.isEmpty,
            hasServices: !overview.services.isEmpty,
            tiles: Self.tiles(overview, alive, now),
            activity: Self.activity(activity.runs, activity.jobs, range, now),
            active: lists.active.map { RunRow($0, configuration.orthanc, at: now) },
            troubled: lists.troubled.map { RunRow($0, configuration.orthanc, at: now) },
            latest: lists.latest.map { RunRow($0, configuration.orthanc, at: now) },
            channels: overview.channels.map { ChannelRow($0, at: now, drained: overview.drained($0.name, at: now)) },
            workers: alive.prefix(8).map { OverviewPage.Worker($0, at: now) },
            moreWorkers: alive.count > 8 ? "\(alive.count - 8) more" : nil,
            failures: JobFigures.all(activity.jobs) {
                $0.isEmpty ? "/runs?state=failed" : PagerModel.path("/runs", [("state", "failed"), ("service", $0)])
            }
            .filter { $0.ended != "0" },
            problems: overview.services.flatMap { service in
                service.problems.filter { $0.severity == "error" }.map { .init(service: service.name, message: $0.message) }
            }
        )
        return try pages.response("overview", model, title: "Overview", context, frame: await frame("/", request, read))
    }

    private static func tiles(_ overview: Overview, _ alive: [LedgerWorker], _ now: Date) -> [OverviewPage.Tile] {
        let totals = overview.totals
        let slots = alive.reduce(0) { $0 + $1.slots }
        let busy = alive.reduce(0) { $0 + $1.jobs.count }
        let queued = totals.jobs(.ready) + totals.jobs(.dispatched)
        let oldest = overview.channels.compactMap(\.oldestQueuedAt).min().map { Display.duration(now.timeIntervalSince($0)) }
        let retrying = totals.jobs(.retrying)
        let dead = totals.jobs(.dead)
        return [
            .init(
                title: "Runs in progress", value: Display.number(totals.runs[.active] ?? 0),
                detail: Self.waiting(totals.jobs(.waiting)), url: "/runs?state=active"),
            .init(
                title: "Jobs running", value: Display.number(totals.jobs(.running)),
                detail: "\(busy) of \(Display.count(slots, "slot")) in use", url: "/workers"),
            .init(
                title: "Jobs queued", value: Display.number(queued),
                detail: oldest.map { "oldest waits \($0)" } ?? "none waits for a worker",
                url: "/queues"),
            .init(
                title: "Jobs dead", value: Display.number(dead),
                detail: retrying == 0 ? "none is being retried" : "\(Display.number(retrying)) being retried", url: "/dead"),
            .init(
                title: "Events", value: Display.number(totals.eventCount),
                detail: "\(Display.number(totals.filteredEventCount)) filtered, with a reason", url: "/events"),
        ]
    }

    private static func waiting(_ count: Int) -> String {
        count == 0 ? "no job waits for another" : "\(Display.count(count, "job")) \(count == 1 ? "waits" : "wait") for others"
    }

    private static func activity(_ runs: [EndedSpan], _ jobs: [EndedSpan], _ range: ChartRange, _ now: Date) -> OverviewPage.Activity {
        let (count, length) = range.bars
        let start = range.start(at: now)
        let chart = ActivityChart(runs, from: start, count: count, length: length)
        let all = chart.bars.reduce(into: ActivityChart.Bar(at: start)) { sum, bar in
            sum.succeeded += bar.succeeded
            sum.failed += bar.failed
            sum.other += bar.other
            sum.durations.add(bar.durations)
        }
        let judged = all.succeeded + all.failed
        let ended = jobs.reduce(0) { $0 + ($1.durations.timed) }
        let minutes = max(1, now.timeIntervalSince(start) / 60)
        let rate = Double(ended) / minutes
        func figure(_ counts: DurationCounts, _ share: Double) -> String { counts.percentile(share).map(Display.duration) ?? "–" }
        return OverviewPage.Activity(
            words: range.title,
            ranges: ChartRange.allCases.map { .init(title: $0.title, url: "/?range=\($0.rawValue)", isCurrent: $0 == range) },
            figures: [
                .init(
                    title: "Runs ended", value: Display.number(all.total),
                    detail: all.other == 0 ? "none cancelled or declined" : "\(Display.number(all.other)) cancelled or declined"),
                .init(
                    title: "Ended well", value: judged == 0 ? "–" : JobFigures.percent(Double(all.succeeded) / Double(judged)),
                    detail: all.failed == 0 ? "none failed" : "\(Display.number(all.failed)) failed"),
                .init(
                    title: "Duration, median", value: figure(all.durations, 0.5),
                    detail: "95th percentile \(figure(all.durations, 0.95))"),
                .init(
                    title: "Jobs done", value: Display.number(ended),
                    detail: rate >= 1 ? "\(Display.number(Int(rate.rounded()))) a minute" : "\(Display.few(rate * 60)) an hour"),
            ],
            counts: chart.counts("run"),
            durations: chart.durations,
            axis: [0, count / 4, count / 2, count * 3 / 4, count].map { Markup.time(start.addingTimeInterval(Double($0 * length))) },
            spans: chart.bars.reversed().filter { $0.total > 0 }.map { bar in
                .init(
                    at: Markup.time(bar.at), succeeded: Display.number(bar.succeeded), failed: Display.number(bar.failed),
                    other: Display.number(bar.other), half: figure(bar.durations, 0.5), most: figure(bar.durations, 0.95))
            },
            hasEnded: all.total > 0,
            isLong: range == .week
        )
    }
}

extension OverviewPage.Worker {
    fileprivate init(_ worker: LedgerWorker, at now: Date) {
        let words = "\(worker.jobs.count) of \(Display.count(worker.slots, "slot")) in use"
        self.init(
            id: worker.id,
            mark: worker.mark(at: now),
            meter: Markup.meter(worker.slots == 0 ? 0 : Double(worker.jobs.count) / Double(worker.slots), words),
            slots: "\(worker.jobs.count) of \(worker.slots)", channels: worker.channels.joined(separator: ", "))
    }
}
