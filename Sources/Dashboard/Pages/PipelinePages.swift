import Foundation
import Hummingbird
import JobStore
import Jobs
import Pipeline

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
    /// Both in words.
    var room: String
    var levels: [Level]
    /// Queued jobs by priority, in words; nil when there is only one level.
    var split: String?
    var queue: String

    /// - Parameter drained: workers of the channel that are there and take no new job.
    init(_ channel: LedgerChannel, at now: Date, drained: [String] = []) {
        func count(_ counts: [JobState: Int], _ states: JobState...) -> String {
            let sum = states.reduce(0) { $0 + (counts[$1] ?? 0) }
            return sum == 0 ? "" : Display.number(sum)
        }
        name = channel.name
        isPaused = channel.pausedAt != nil
        mark =
            isPaused
            ? StateMark.html("paused", like: "paused")
            : channel.workers > 0
                ? StateMark.html("open", like: "ok") : StateMark.html(drained.isEmpty ? "no worker" : "drained", like: "warning")
        paused = channel.pause?.words
        queued = count(channel.counts, .ready, .dispatched)
        running = count(channel.counts, .running)
        waiting = count(channel.counts, .waiting)
        retrying = count(channel.counts, .retrying)
        dead = count(channel.counts, .dead)
        oldest = channel.oldestQueuedAt.map { Display.duration(now.timeIntervalSince($0)) } ?? ""
        workers = Display.count(channel.workers, "worker")
        slots = String(channel.slots)
        room = "\(workers), \(Display.count(channel.slots, "slot"))"
        levels = channel.levels.map { level in
            Level(
                name: level.priority.name, queued: count(level.counts, .ready, .dispatched), running: count(level.counts, .running),
                waiting: count(level.counts, .waiting), retrying: count(level.counts, .retrying))
        }
        let queuedLevels = levels.filter { !$0.queued.isEmpty }
        split = queuedLevels.isEmpty ? nil : "queued: " + queuedLevels.map { "\($0.queued) \($0.name)" }.joined(separator: ", ")
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
    /// A queue as the broker has it.
    struct Queue {
        var name: String
        var what: String
        var messages: String
        var consumers: String
        var growth: String
        var mark: String
    }

    var channels: [ChannelRow]
    var queues: [Queue]
    /// Nobody can look into the broker, or it does not answer.
    var isBlind: Bool
    var management: String?
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
            var figures: JobFigures
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
        var channels: [Channel]
        var runs: String
        /// Since when and by whom. Already HTML.
        var paused: String?
        var pausedMark: String?
        var isPaused: Bool
        var queued: String?
    }

    /// A channel that the service's jobs want.
    struct Channel {
        var name: String
        var isPaused: Bool
    }

    /// The jobs of all services and what they wait for; nil when there are none.
    var graph: String?
    var rows: [Row]
}

extension QueuesPage.Queue {
    fileprivate init(_ queue: (name: String, what: String, needsConsumer: Bool), _ reading: QueueDepths.Reading) {
        let growth = reading.growth.map { Int($0.rounded()) } ?? 0
        let isLeft = queue.needsConsumer && reading.depth.consumers == 0
        self.init(
            name: queue.name, what: queue.what, messages: Display.number(reading.depth.messages),
            consumers: Display.number(reading.depth.consumers),
            growth: reading.growth == nil
                ? "" : growth == 0 ? "steady" : "\(growth > 0 ? "+" : "−")\(Display.number(abs(growth))) a minute",
            mark: isLeft ? StateMark.html("nobody reads it", like: "warning") : "")
    }
}

extension LedgerWorker {
    /// What it does: a worker that is there is idle or busy.
    func mark(at now: Date) -> String {
        switch presence(at: now) {
        case .running: jobs.isEmpty ? StateMark.html("idle", like: "idle") : StateMark.html("busy", like: "running")
        case .draining: StateMark.html(isDrained ? "drained" : "draining", like: "draining")
        case let other: StateMark.html(other.rawValue, like: other.rawValue)
        }
    }

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
        var read = try await pageReads()
        let rows = try await read.overview().workers.map { worker in
            let busy = worker.jobs.count
            let presence = worker.presence(at: now)
            return WorkersPage.Row(
                id: worker.id, host: worker.host, pid: worker.pid.map(String.init) ?? "", version: worker.version ?? "",
                mark: worker.mark(at: now),
                slots: "\(busy) of \(worker.slots)",
                meter: Markup.meter(
                    worker.slots == 0 ? 0 : Double(busy) / Double(worker.slots), "\(busy) of \(Display.count(worker.slots, "slot")) in use"),
                channels: worker.channels.joined(separator: ", "), started: Markup.time(worker.startedAt, isRelative: true),
                seen: Markup.time(worker.seenAt, isRelative: true),
                machine: worker.machine,
                canDrain: presence == .running, canResume: presence == .draining && worker.isDrained,
                jobs: worker.jobs.map { job in
                    .init(id: job.id, name: job.name, took: job.startedAt.map { Display.duration(now.timeIntervalSince($0)) } ?? "")
                })
        }
        return try pages.response(
            "workers", WorkersPage(rows: rows), title: "Workers", context, frame: await frame("/workers", request, read))
    }

    @Sendable func showQueues(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        var read = try await pageReads()
        let overview = try await read.overview()
        let names = overview.channels.map(\.name)
        let wanted = Self.queues(names)
        let readings = await broker?.get(wanted.map(\.name)) ?? [:]
        let model = QueuesPage(
            channels: overview.channels.map { ChannelRow($0, at: now, drained: overview.drained($0.name, at: now)) },
            queues: wanted.compactMap { queue in readings[queue.name].map { QueuesPage.Queue(queue, $0) } },
            isBlind: readings.isEmpty,
            management: configuration.management)
        return try pages.response("queues", model, title: "Queues", context, frame: await frame("/queues", request, read))
    }

    /// The broker's queues that people ask about, with what is in them.
    private static func queues(_ channels: [String]) -> [(name: String, what: String, needsConsumer: Bool)] {
        let fixed = [
            (PipelineQueue.ingest, "events on their way to the router", true),
            (PipelineQueue.claims, "workers that ask whether to start a job", true),
            (PipelineQueue.results, "ends of jobs on their way to the router", true),
            (PipelineQueue.commands, "what people asked for", true),
            (PipelineQueue.dead, "dead letters, kept for people", false),
        ]
        let jobs = channels.flatMap { channel in
            [(PipelineQueue.jobs(channel: channel), "jobs of channel \(channel) that may start", true)]
                + RetryDelay.allCases.map { delay in
                    (PipelineQueue.retry(channel: channel, delay: delay), "retries that come back after \(delay.name)", false)
                }
        }
        return (fixed + jobs).map { (name: $0.0, what: $0.1, needsConsumer: $0.2) }
    }

    @Sendable func showServices(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let now = Date()
        var read = try await pageReads()
        let overview = try await read.overview()
        let ended = try await read.ended(.day, ended, at: now)
        let spans = Dictionary(grouping: ended.jobs) { [$0.service, $0.name] }
        let paused = Set(overview.channels.filter { $0.pausedAt != nil }.map(\.name))
        let rows = overview.services.map { service in
            let lately = ended.states(of: service.name)
            let total = lately.values.reduce(0, +)
            let failed = (lately[.failed] ?? 0) + (lately[.dead] ?? 0)
            return ServicesPage.Row(
                name: service.name,
                mark: StateMark.html(service.condition.rawValue, like: service.condition.rawValue),
                loaded: Markup.time(service.loadedAt, isRelative: true),
                jobs: service.jobs.map { job in
                    .init(
                        name: job.name, stage: job.stage.rawValue, entry: job.entry, channel: job.channel, priority: job.priority.name,
                        timeout: job.timeout.seconds.map { Display.duration(Double($0)) } ?? "none",
                        retry: job.retry.max == 0 ? "none" : "\(job.retry.max) ×",
                        figures: JobFigures(
                            service.name, job.name, spans[[service.name, job.name]] ?? [],
                            url: PagerModel.path("/runs", [("state", "failed"), ("service", service.name)])))
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
                bar: Markup.bar(lately),
                lately: total == 0 ? "no jobs in 24 h" : "\(Display.count(total, "job")) in 24 h, \(Display.number(failed)) failed",
                channels: Set(service.jobs.map(\.channel)).sorted().map { .init(name: $0, isPaused: paused.contains($0)) },
                runs: PagerModel.path("/runs", [("service", service.name)]),
                paused: service.pause?.words,
                pausedMark: service.pause.map { _ in StateMark.html("paused", like: "paused") },
                isPaused: service.pause != nil,
                queued: service.pause == nil || service.queued == 0
                    ? nil : service.queued == 1 ? "1 job waits" : "\(Display.number(service.queued)) jobs wait")
        }
        return try pages.response(
            "services", ServicesPage(graph: ServiceGraph.svg(overview.services), rows: rows), title: "Services", context,
            frame: await frame("/services", request, read))
    }
}
