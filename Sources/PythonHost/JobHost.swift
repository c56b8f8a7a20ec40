import Foundation
import Glibc
import Synchronization

/// A Python process that has imported one module and forks for each job of it.
final class JobHost: Sendable {
    /// What became of a request to run a job.
    enum Answer: Sendable {
        case exited(HostReply.Exited)
        case refused(HostReply.Refused)
        /// The host ended first. `isBystander`: we ended the host because of another job.
        case ended(HostProcess.End, Phase, isBystander: Bool = false)
        /// The host takes no more jobs.
        case retired
    }

    /// How far a job had come.
    enum Phase: Sendable {
        /// The host has said nothing about it: it is being started, is busy, or the machine is.
        case waiting
        /// Its module is being imported: the service's own code.
        case importing
        case started
    }

    private struct Running {
        var answer: CheckedContinuation<Answer, Never>
        var onProgress: @Sendable (Double, String?) -> Void
        var limits: Limits
        var askedAt = ContinuousClock.now
        var importingAt: ContinuousClock.Instant?
        var started: (pid: pid_t, at: ContinuousClock.Instant)?
        var cancelledAt: ContinuousClock.Instant?

        var phase: Phase { started != nil ? .started : importingAt != nil ? .importing : .waiting }

        /// When the host has had enough time for what it should do by itself, and what it then failed to do.
        /// - Parameter isAlone: whether the host runs no job.
        func due(isAlone: Bool) -> (at: ContinuousClock.Instant, reason: String)? {
            // A host in the middle of an import hears nothing. There is nothing yet that a grace could save, but for the work of others.
            if let cancelledAt { return (cancelledAt + (isAlone ? .seconds(1) : limits.cancel), JobHost.cancelOverrun) }
            if let started { return limits.timeout.map { (started.at + $0, JobHost.timeoutOverrun) } }
            if let importingAt { return (importingAt + limits.import, JobHost.importOverrun) }
            return (askedAt + limits.start, JobHost.startOverrun)
        }
    }

    private struct State {
        var running: [String: Running] = [:]
        var isRetired = false
        var isWatched = false
        /// The job that the host was ended for.
        var culprit: String?
        var end: HostProcess.End?
        var lastUse = ContinuousClock.now
    }

    /// Shared with the thread that reads the process's messages.
    private final class Table: Sendable {
        let state = Mutex(State())
    }

    private let table: Table
    private let process: HostProcess
    let preloads: Bool

    /// - Throws: ``PythonHostError`` `.cannotStart`.
    init(_ configuration: PythonHostConfiguration, service: String, preloads: Bool) throws {
        let table = Table()
        self.table = table
        self.preloads = preloads
        self.process = try HostProcess(
            configuration.command(.jobs),
            onReply: { Self.take($0, table) },
            onEnd: { Self.finish($0, table) }
        )
        process.send(
            .hello(
                .init(
                    root: configuration.root.path,
                    service: service,
                    preload: preloads,
                    importLimit: configuration.importLimit / .seconds(1)
                )
            )
        )
    }

    var pid: pid_t { process.pid }
    var isUsable: Bool { table.state.withLock { !$0.isRetired && $0.end == nil } }
    var isIdle: Bool { table.state.withLock { $0.running.isEmpty } }
    var lastUse: ContinuousClock.Instant { table.state.withLock { $0.lastUse } }
    func recentOutput() -> String { process.recentOutput(limit: 2000) }

    /// Runs a job to its end. Cancelling the task ends the job's group; the answer still tells how it ended.
    func run(_ job: PythonJob, limits: Limits, onProgress: @escaping @Sendable (Double, String?) -> Void) async -> Answer {
        let name = job.name
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (refusal, isFirst): (Answer?, Bool) = table.state.withLock { state in
                    state.lastUse = .now
                    if let end = state.end { return (state.isRetired ? .retired : .ended(end, .waiting), false) }
                    if state.isRetired { return (.retired, false) }
                    state.running[name] = Running(answer: continuation, onProgress: onProgress, limits: limits)
                    defer { state.isWatched = true }
                    return (nil, !state.isWatched)
                }
                if let refusal { return continuation.resume(returning: refusal) }
                // Not a child task: it watches all jobs, and goes on when this task is cancelled.
                if isFirst { Task { await self.watch() } }
                process.send(.run(job.order))
                if Task.isCancelled { cancel(name) }
            }
        } onCancel: {
            cancel(name)
        }
    }

    /// Takes no more jobs, and ends when its last one has.
    func retire() {
        let isIdle = table.state.withLock { state in
            state.isRetired = true
            return state.running.isEmpty
        }
        if isIdle { process.hangUp() }
    }

    func end(because reason: String) {
        process.end(because: reason)
    }

    var hasEnded: Bool { process.hasEnded }

    /// Lets it end itself, its jobs, and what these have detached from themselves.
    func hangUp() {
        process.hangUp()
    }

    private func cancel(_ name: String) {
        let isNews = table.state.withLock { state in
            guard let job = state.running[name], job.cancelledAt == nil else { return false }
            state.running[name]?.cancelledAt = .now
            return true
        }
        if isNews { process.send(.stop(.init(job: name, reason: "cancel"))) }
    }

    // MARK: The host that does not react

    /// How long the host itself may take for what it should do by itself.
    struct Limits: Sendable {
        /// To be started, and to get to the job when it is busy with another one's import.
        var start: Duration
        var `import`: Duration
        /// To end a job whose time is over; nil when its time is never over.
        var timeout: Duration?
        /// To end a job that was cancelled.
        var cancel: Duration
    }

    static let startOverrun = "it did not get to the job"
    static let importOverrun = "the import took too long"
    static let timeoutOverrun = "it did not end a job whose time was over"
    static let cancelOverrun = "it did not end a job that was cancelled"

    /// The host watches its jobs; this watches the host, which may be stuck in an import or stopped. One watch for all its jobs, a look a
    /// second, until it has been idle for one: a task and a timer for each job would cost more than the job's own message.
    private func watch() async {
        while true {
            try? await Task.sleep(for: .seconds(1))
            let (goesOn, overrun): (Bool, String?) = table.state.withLock { state in
                if state.running.isEmpty || state.end != nil {
                    state.isWatched = false
                    return (false, nil)
                }
                let isAlone = state.running.values.allSatisfy { $0.started == nil }
                for (name, job) in state.running {
                    guard let due = job.due(isAlone: isAlone), due.at <= .now else { continue }
                    state.culprit = state.culprit ?? name
                    state.isWatched = false
                    return (false, due.reason)
                }
                return (true, nil)
            }
            if let overrun { return process.end(because: overrun) }
            if !goesOn { return }
        }
    }

    // MARK: On the reading thread

    private static func take(_ reply: HostReply, _ table: Table) {
        switch reply {
        case .started(let started):
            table.state.withLock { $0.running[started.job]?.started = (started.pid, .now) }
        case .importing(let name):
            table.state.withLock { $0.running[name]?.importingAt = .now }
        case .progress(let progress):
            let observer = table.state.withLock { $0.running[progress.job]?.onProgress }
            observer?(progress.fraction, progress.text)
        case .exited(let exited):
            answer(exited.job, .exited(exited), table)
        case .refused(let refused):
            answer(refused.job, .refused(refused), table)
        case .hello, .asking, .verdict, .done, .stale, .threads:
            break
        }
    }

    private static func answer(_ name: String, _ answer: Answer, _ table: Table) {
        let job = table.state.withLock { $0.running.removeValue(forKey: name) }
        job?.answer.resume(returning: answer)
    }

    private static func finish(_ end: HostProcess.End, _ table: Table) {
        let (orphans, culprit) = table.state.withLock { state in
            state.end = end
            defer { state.running = [:] }
            return (state.running, state.culprit)
        }
        for (name, job) in orphans {
            // The leader followed its host (PR_SET_PDEATHSIG); what it had started itself did not.
            if let started = job.started { kill(-started.pid, SIGKILL) }
            let isBystander = culprit.map { $0 != name } ?? false
            job.answer.resume(returning: .ended(end, job.phase, isBystander: isBystander))
        }
    }
}
