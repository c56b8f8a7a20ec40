import Foundation
package import Jobs
package import Logging

/// Runs Python jobs, each in a process of its own that is forked from an interpreter with the job's module already imported.
///
/// One host for each module, so that an import that hangs or crashes holds up nobody else. A host whose code has changed on disk takes no
/// more jobs and ends after its last one. A module whose import starts threads is imported in each job's process instead, because
/// threads do not survive a fork.
package actor WarmHosts {
    /// Hosts are idle interpreters of tens of megabytes: beyond this many, the one that was idle longest goes.
    private static let capacity = 8

    private struct Key: Hashable {
        var service: String
        var module: String
    }

    private let configuration: PythonHostConfiguration
    private let logger: Logger
    private var hosts: [Key: JobHost] = [:]
    private var withThreads: Set<Key> = []

    /// - Parameter configuration: `root` is MODULES.
    package init(configuration: PythonHostConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Runs one attempt to its end. Never throws: whatever happens is an exit with a reason.
    ///
    /// Cancelling the task ends the job and all it has started; the exit is then `.cancelled`, unless the job had handed over its result.
    /// - Parameter onProgress: called at most five times a second, from any thread.
    package func run(_ job: PythonJob, onProgress: @escaping @Sendable (_ fraction: Double, _ text: String?) -> Void) async -> JobExit {
        let startedAt = Date()
        if let failure = await FileWork.run({ Self.prepare(job) }) {
            return JobExit(.failed, .resources, failure, of: job, startedAt: startedAt)
        }
        let key = Key(service: job.service, module: job.entry.split(separator: ".").dropLast().joined(separator: "."))
        // Each turn but the last meets a host that is of no more use; more than a few cannot come by themselves.
        for _ in 0..<20 {
            if Task.isCancelled { return JobExit(.cancelled, .cancelled, of: job, startedAt: startedAt) }
            let host: JobHost
            let isFresh: Bool
            do {
                (host, isFresh) = try self.host(for: key)
            } catch {
                return JobExit(.failed, .brokenService, Self.hostFailure("\(error)"), of: job, startedAt: startedAt)
            }
            let answer = await host.run(job, limits: limits(of: job), onProgress: onProgress)
            switch answer {
            case .exited(let exited):
                return JobExit(exited, of: job, startedAt: startedAt, finishedAt: Date())
            case .retired:
                forget(host, key)
            case .refused(let refused):
                if let exit = refusal(refused, by: host, key, of: job, startedAt: startedAt) { return exit }
            case .ended(let end, hasStarted: true, isBystander: true):
                logger.warning(
                    "job goes back: its host was ended because of another job",
                    metadata: ["job.id": "\(job.job)", "reason": "\(end.reason ?? end.text)"]
                )
                forget(host, key)
                if Task.isCancelled { return JobExit(.cancelled, .cancelled, of: job, startedAt: startedAt) }
                return JobExit(.released, .released, of: job, startedAt: startedAt)
            case .ended(let end, let hasStarted, _):
                forget(host, key)
                if let exit = loss(end, hasStarted: hasStarted, of: host, isFresh: isFresh, job: job, startedAt: startedAt) { return exit }
            }
        }
        return JobExit(
            .failed,
            .brokenService,
            Self.hostFailure("Its code changed or its host ended again and again before the job could start."),
            of: job,
            startedAt: startedAt
        )
    }

    /// Ends all hosts, and with them every job that still runs.
    package func shutdown() {
        for host in hosts.values { host.end(because: "shutdown") }
        hosts = [:]
    }

    // MARK: Answers

    /// - Returns: nil when another host should be asked.
    private func refusal(_ refused: HostReply.Refused, by host: JobHost, _ key: Key, of job: PythonJob, startedAt: Date) -> JobExit? {
        switch refused.reason {
        case .stale:
            logger.debug("module changed on disk, restarting its host", metadata: ["module": "\(key.module)"])
            forget(host, key)
            withThreads.remove(key)
            return nil
        case .threads:
            logger.info("module starts threads, importing it anew for each job", metadata: ["module": "\(key.module)"])
            forget(host, key)
            withThreads.insert(key)
            return nil
        case .import:
            forget(host, key)
            return JobExit(.failed, .brokenService, refused.error?.exit, of: job, startedAt: startedAt)
        case .resources:
            return JobExit(.failed, .resources, refused.error?.exit, of: job, startedAt: startedAt)
        }
    }

    /// - Returns: nil when another host should be asked.
    private func loss(
        _ end: HostProcess.End, hasStarted: Bool, of host: JobHost, isFresh: Bool, job: PythonJob, startedAt: Date
    ) -> JobExit? {
        if Task.isCancelled { return JobExit(.cancelled, .cancelled, of: job, startedAt: startedAt) }
        if hasStarted {
            guard end.reason != JobHost.timeoutOverrun else {
                return JobExit(.failed, .timeout, .timeoutOverrun(of: job), of: job, startedAt: startedAt)
            }
            let failure = JobExit.Failure(
                type: "HostLost",
                message: "The Python host that had started the job ended under it: \(end.reason ?? end.text)."
            )
            return JobExit(.failed, .killed, failure, of: job, startedAt: startedAt)
        }
        // An idle host may have died long ago, or under another job's import: only one that was started for this job tells about it.
        guard isFresh, end.reason != JobHost.cancelOverrun else { return nil }
        let output = host.recentOutput()
        let text =
            end.reason == JobHost.startOverrun
            ? "The import of its module took longer than \(configuration.importLimit / .seconds(1)) s."
            : "The Python host ended before the job could start: \(end.reason ?? end.text). \(output)"
        return JobExit(.failed, .brokenService, Self.hostFailure(text), of: job, startedAt: startedAt)
    }

    private static func hostFailure(_ text: String) -> JobExit.Failure {
        JobExit.Failure(type: "BrokenService", message: text)
    }

    // MARK: Hosts

    private func host(for key: Key) throws -> (JobHost, isFresh: Bool) {
        if let host = hosts[key], host.isUsable { return (host, false) }
        makeRoom()
        let host = try JobHost(configuration, service: key.service, preloads: !withThreads.contains(key))
        logger.debug("host of jobs started", metadata: ["host.pid": "\(host.pid)", "module": "\(key.module)"])
        hosts[key] = host
        return (host, true)
    }

    private func forget(_ host: JobHost, _ key: Key) {
        host.retire()
        if hosts[key] === host { hosts[key] = nil }
    }

    private func makeRoom() {
        while hosts.count >= Self.capacity {
            let idle = hosts.filter { $0.value.isIdle }
            guard let oldest = idle.min(by: { $0.value.lastUse < $1.value.lastUse }) else { return }
            forget(oldest.value, oldest.key)
        }
    }

    private func limits(of job: PythonJob) -> JobHost.Limits {
        let slack: Duration = .seconds(10)
        return JobHost.Limits(
            start: configuration.startLimit + configuration.importLimit,
            timeout: job.timeout.seconds.map { .seconds($0) + job.grace + slack },
            cancel: job.grace + slack
        )
    }

    /// Makes the folders that the job needs. Blocking.
    private static func prepare(_ job: PythonJob) -> JobExit.Failure? {
        let logFolder = job.logs.appending(path: job.log).deletingLastPathComponent()
        for (folder, variable) in [(job.workdir, "DATA"), (logFolder, "LOGS")] {
            do {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            } catch {
                let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
                let reason = cause?.localizedDescription ?? error.localizedDescription
                return JobExit.Failure(
                    type: "FolderNotWritable",
                    message: "The folder \(folder.path) cannot be made (\(reason)): check that \(variable) exists and that the worker may "
                        + "write there."
                )
            }
        }
        return nil
    }
}
