import Foundation
import Hummingbird
import JobStore
import Jobs

/// What happens now, at a glance.
private struct OverviewPage {
    struct Tile {
        var title: String
        var value: String
        var detail: String
        var url: String
        var mark: String
    }

    struct Failure {
        var job: String
        var service: String
        var count: String
    }

    struct Problem {
        var service: String
        var message: String
    }

    var isEmpty: Bool
    var hasWorkers: Bool
    var tiles: [Tile]
    var active: [RunRow]
    var troubled: [RunRow]
    var latest: [RunRow]
    var channels: [ChannelRow]
    var failures: [Failure]
    var problems: [Problem]
}

extension PageController {
    @Sendable func showOverview(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let overview = try await overview.get()
        async let active = ledger.runs(LedgerRunFilter(states: [.active]), limit: 8)
        async let troubled = ledger.runs(LedgerRunFilter(states: [.failed]), limit: 6)
        async let latest = ledger.runs(limit: 12)
        let model = OverviewPage(
            isEmpty: overview.totals.eventCount == 0,
            hasWorkers: overview.workers.contains { $0.presence(at: now) == .running },
            tiles: Self.tiles(overview, now),
            active: try await active.items.map { RunRow($0, at: now) },
            troubled: try await troubled.items.map { RunRow($0, at: now) },
            latest: try await latest.items.map { RunRow($0, at: now) },
            channels: overview.channels.map { ChannelRow($0, at: now) },
            failures: overview.totals.failures.map { failure in
                .init(
                    job: failure.job, service: failure.service.isEmpty ? "built-in" : failure.service, count: Display.number(failure.count))
            },
            problems: overview.services.flatMap { service in
                service.problems.filter { $0.severity == "error" }.map { .init(service: service.name, message: $0.message) }
            }
        )
        return try pages.response("overview", model, title: "Overview", context, frame: await frame("/", request))
    }

    private static func tiles(_ overview: Overview, _ now: Date) -> [OverviewPage.Tile] {
        let totals = overview.totals
        let alive = overview.workers.filter { [.running, .draining].contains($0.presence(at: now)) }
        let slots = alive.reduce(0) { $0 + $1.slots }
        let busy = alive.reduce(0) { $0 + $1.jobs.count }
        let queued = totals.jobs(.ready) + totals.jobs(.dispatched)
        let oldest = overview.channels.compactMap(\.oldestQueuedAt).min().map { Display.duration(now.timeIntervalSince($0)) }
        let today = totals.runsToday
        let ended = (today[.succeeded] ?? 0) + (today[.failed] ?? 0)
        let rate = ended == 0 ? "none ended yet" : "\(100 * (today[.succeeded] ?? 0) / ended) % of \(Display.number(ended)) ended well"
        return [
            .init(
                title: "Running", value: Display.number(totals.jobs(.running)), detail: "\(busy) of \(slots) slots in use", url: "/workers",
                mark: "running"),
            .init(
                title: "Queued", value: Display.number(queued), detail: oldest.map { "oldest waits \($0)" } ?? "nothing waits for a worker",
                url: "/queues", mark: "dispatched"),
            .init(
                title: "Runs, 24 h", value: Display.number(today.values.reduce(0, +)), detail: rate, url: "/runs", mark: "succeeded"),
            .init(
                title: "Failed, 24 h", value: Display.number(today[.failed] ?? 0),
                detail: "\(Display.number(totals.runs[.failed] ?? 0)) failed runs on record", url: "/runs?state=failed", mark: "failed"),
            .init(
                title: "Events", value: Display.number(totals.eventCount),
                detail: "\(Display.number(totals.filteredEventCount)) filtered, with a reason", url: "/events", mark: "filtered"),
        ]
    }
}
