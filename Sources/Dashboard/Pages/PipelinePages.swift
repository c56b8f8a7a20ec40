import Foundation
import Hummingbird
import JobStore
import Jobs

/// A channel in a list.
struct ChannelRow {
    struct Level {
        var name: String
        var queued: String
        var running: String
        var waiting: String
        var retrying: String
    }

    var name: String
    var mark: String
    var isPaused: Bool
    var paused: String?
    var queued: String
    var running: String
    var waiting: String
    var retrying: String
    var dead: String
    var oldest: String
    var workers: String
    var slots: String
    var levels: [Level]
    var queue: String

    init(_ channel: LedgerChannel, at now: Date) {
        func count(_ counts: [JobState: Int], _ states: JobState...) -> String {
            let sum = states.reduce(0) { $0 + (counts[$1] ?? 0) }
            return sum == 0 ? "" : Display.number(sum)
        }
        name = channel.name
        isPaused = channel.pausedAt != nil
        mark =
            isPaused
            ? StateMark.html("paused", like: "paused")
            : channel.workers == 0 ? StateMark.html("no worker", like: "warning") : StateMark.html("open", like: "ok")
        paused = channel.pausedAt.map {
            "since \(Markup.time($0, isRelative: true))" + (channel.pausedBy.map { " by \(HTMLText.escape($0))" } ?? "")
        }
        queued = count(channel.counts, .ready, .dispatched)
        running = count(channel.counts, .running)
        waiting = count(channel.counts, .waiting)
        retrying = count(channel.counts, .retrying)
        dead = count(channel.counts, .dead)
        oldest = channel.oldestQueuedAt.map { Display.duration(now.timeIntervalSince($0)) } ?? ""
        workers = channel.workers == 1 ? "1 worker" : "\(channel.workers) workers"
        slots = String(channel.slots)
        levels = channel.levels.map { level in
            Level(
                name: level.priority.name, queued: count(level.counts, .ready, .dispatched), running: count(level.counts, .running),
                waiting: count(level.counts, .waiting), retrying: count(level.counts, .retrying))
        }
        queue = "dcm.jobs.\(channel.name).v1"
    }
}

private struct WorkersPage {
    struct Row {
        struct Job {
            var id: String
            var name: String
            var took: String
        }

        var id: String
        var host: String
        var pid: String
        var version: String
        var mark: String
        var slots: String
        var meter: String
        var channels: String
        var started: String
        var seen: String
        /// Load, memory and GPUs, as far as it says.
        var machine: String
        /// Takes jobs, so that it can be drained.
        var canDrain: Bool
        /// Was drained, so that it can be resumed.
        var canResume: Bool
        var jobs: [Job]
    }

    var rows: [Row]
}

private struct QueuesPage {
    var channels: [ChannelRow]
}

private struct ServicesPage {
    struct Row {
        struct Job {
            var name: String
            var stage: String
            var entry: String
            var channel: String
            var priority: String
            var timeout: String
            var retry: String
        }

        struct Problem {
            var mark: String
            var place: String
            var message: String
            var allowed: String?
            var nearest: String?
        }

        var name: String
        var mark: String
        var loaded: String
        var jobs: [Job]
        var hasJobs: Bool
        var problems: [Problem]
        var bar: String
        var lately: String
    }

    var rows: [Row]
}

extension LedgerWorker {
    fileprivate var machine: String {
        var parts: [String] = []
        if let load = load.first {
            parts.append("load \(load.formatted(.number.precision(.fractionLength(2)).locale(.init(identifier: "en"))))")
        }
        if let freeMemory, let memory { parts.append("\(Display.bytes(freeMemory)) of \(Display.bytes(memory)) free") }
        if let gpus, gpus > 0 { parts.append(gpus == 1 ? "1 GPU" : "\(gpus) GPUs") }
        return parts.joined(separator: ", ")
    }
}

extension PageController {
    @Sendable func showWorkers(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let rows = try await overview.get().workers.map { worker in
            let busy = worker.jobs.count
            let presence = worker.presence(at: now)
            return WorkersPage.Row(
                id: worker.id, host: worker.host, pid: worker.pid.map(String.init) ?? "", version: worker.version ?? "",
                mark: StateMark.html(worker.isDrained && presence == .draining ? "drained" : presence.rawValue, like: presence.rawValue),
                slots: "\(busy) of \(worker.slots)",
                meter: Markup.meter(worker.slots == 0 ? 0 : Double(busy) / Double(worker.slots), "\(busy) of \(worker.slots) slots in use"),
                channels: worker.channels.joined(separator: ", "), started: Markup.time(worker.startedAt, isRelative: true),
                seen: Markup.time(worker.seenAt, isRelative: true),
                machine: worker.machine,
                canDrain: presence == .running, canResume: presence == .draining && worker.isDrained,
                jobs: worker.jobs.map { job in
                    .init(id: job.id, name: job.name, took: job.startedAt.map { Display.duration(now.timeIntervalSince($0)) } ?? "")
                })
        }
        return try pages.response("workers", WorkersPage(rows: rows), title: "Workers", context, frame: await frame("/workers", request))
    }

    @Sendable func showQueues(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        let model = QueuesPage(channels: try await overview.get().channels.map { ChannelRow($0, at: now) })
        return try pages.response("queues", model, title: "Queues", context, frame: await frame("/queues", request))
    }

    @Sendable func showServices(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let rows = try await overview.get().services.map { service in
            let total = service.lately.values.reduce(0, +)
            let failed = (service.lately[.failed] ?? 0) + (service.lately[.dead] ?? 0)
            return ServicesPage.Row(
                name: service.name,
                mark: StateMark.html(service.condition.rawValue, like: service.condition.rawValue),
                loaded: Markup.time(service.loadedAt, isRelative: true),
                jobs: service.jobs.map { job in
                    .init(
                        name: job.name, stage: job.stage.rawValue, entry: job.entry, channel: job.channel, priority: job.priority.name,
                        timeout: job.timeout.seconds.map { Display.duration(Double($0)) } ?? "none",
                        retry: job.retry.max == 0 ? "none" : "\(job.retry.max) ×")
                },
                hasJobs: !service.jobs.isEmpty,
                problems: service.problems.map { problem in
                    .init(
                        mark: StateMark.html(problem.severity, like: problem.severity),
                        place: [problem.file, problem.entry, problem.key].compactMap(\.self).joined(separator: " · "),
                        message: problem.message,
                        allowed: problem.allowed,
                        nearest: problem.nearest)
                },
                bar: Markup.bar(service.lately),
                lately: total == 0 ? "no jobs in 24 h" : "\(Display.number(total)) jobs in 24 h, \(Display.number(failed)) failed")
        }
        return try pages.response(
            "services", ServicesPage(rows: rows), title: "Services", context, frame: await frame("/services", request))
    }
}
