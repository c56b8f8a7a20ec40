import Foundation
import Glibc
package import Jobs
package import Logging

/// Runs Python jobs, each in a process of its own that is forked from an interpreter with the job's module already imported.
///
/// One host for each module and interpreter, so that an import that hangs or crashes holds up nobody else. A host whose code has changed
/// on disk, that has grown or has forked very often takes no more jobs and ends after its last one. A module whose import starts threads
/// is imported in each job's process instead, because threads do not survive a fork; so is one whose job says so.
///
/// A service is called broken only for what its own code was seen to do: an import that was announced and then failed, ended the host or took
/// longer than it may, or an interpreter that ends instead of greeting. A host that says nothing at all is slow, because the machine is:
/// its job is handed back, and fails for want of resources when that happens again and again.
package actor WarmHosts {
    /// Hosts are idle interpreters of tens of megabytes: beyond this many, the one that was idle longest goes.
    private static let capacity = 8

    private struct Key: Hashable {
        var service: String
        var module: String
        var python: String
        var preloads: Bool

        init(_ job: PythonJob, python: String) {
            self.python = job.python ?? python
            // A command is run by the interpreter of the worker; nothing of the service is imported.
            service = job.command == nil ? job.service : ""
            module = job.command == nil ? job.entry.split(separator: ".").dropLast().joined(separator: ".") : ""
            preloads = job.preload && job.command == nil
        }
    }

    /// How often in a row a host of one kind may say nothing before its jobs fail.
    private static let patience = 3

    private let configuration: PythonHostConfiguration
    private let logger: Logger
    private var hosts: [Key: JobHost] = [:]
    private var withThreads: Set<Key> = []
    private var silences: [Key: Int] = [:]

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
        let key = Key(job, python: configuration.python)
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
                silences[key] = nil
                return JobExit(exited, of: job, startedAt: startedAt, finishedAt: Date())
            case .retired:
                forget(host, key)
            case .refused(let refused):
                silences[key] = nil
                if let exit = refusal(refused, by: host, key, of: job, startedAt: startedAt) { return exit }
            case .ended(let end, .started, isBystander: true):
                logger.warning(
                    "job goes back: its host was ended because of another job",
                    metadata: ["job.id": "\(job.job)", "reason": "\(end.reason ?? end.text)"]
                )
                forget(host, key)
                if Task.isCancelled { return JobExit(.cancelled, .cancelled, of: job, startedAt: startedAt) }
                return JobExit(.released, .released, of: job, startedAt: startedAt)
            case .ended(let end, let phase, let isBystander):
                forget(host, key)
                if Task.isCancelled { return JobExit(.cancelled, .cancelled, of: job, startedAt: startedAt) }
                if isBystander { continue }
                if end.reason == JobHost.startOverrun { return silence(of: key, job: job, startedAt: startedAt) }
                if let exit = loss(end, phase, of: host, isFresh: isFresh, job: job, startedAt: startedAt) { return exit }
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
    ///
    /// A host that is let go ends what its jobs have detached from themselves too, which nobody else knows of; one that does not within
    /// `patience`, because it is in the middle of an import for example, is killed.
    package func shutdown(patience: Duration = .milliseconds(1500)) async {
        let leaving = Array(hosts.values)
        hosts = [:]
        for host in leaving { host.hangUp() }
        // In a task of its own: who is cancelled has to wait all the same.
        await Task {
            let deadline = ContinuousClock.now + patience
            while leaving.contains(where: { !$0.hasEnded }), ContinuousClock.now < deadline {
                try? await Task.sleep(for: .milliseconds(10))
            }
        }.value
        for host in leaving { host.end(because: "shutdown") }
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
        case .worn:
            logger.debug("host has done its share, starting another", metadata: ["module": "\(key.module)"])
            forget(host, key)
            return nil
        case .threads:
            logger.info("module starts threads, importing it anew for each job", metadata: ["module": "\(key.module)"])
            forget(host, key)
            withThreads.insert(key)
            return nil
        case .import:
            forget(host, key)
            return JobExit(.failed, .brokenService, refused.error?.exit, of: job, startedAt: startedAt, tail: refused.tail)
        case .resources:
            return JobExit(.failed, .resources, refused.error?.exit, of: job, startedAt: startedAt)
        }
    }

    /// What becomes of a job whose host was started and never got to it.
    private func silence(of key: Key, job: PythonJob, startedAt: Date) -> JobExit {
        let count = silences[key, default: 0] + 1
        let wait = (configuration.startLimit + configuration.importLimit) / .seconds(1)
        guard count >= Self.patience else {
            silences[key] = count
            logger.warning("job goes back: its host did not get to it", metadata: ["job.id": "\(job.job)", "seconds": "\(wait)"])
            return JobExit(.released, .released, of: job, startedAt: startedAt)
        }
        silences[key] = nil
        let failure = JobExit.Failure(
            type: "HostSilent",
            message: "The Python interpreter \(key.python) was started \(count) times and never got to the job within \(wait) s: the "
                + "machine is overloaded, or the interpreter hangs. Give the worker fewer WORKER_SLOTS, or start that interpreter by hand."
        )
        return JobExit(.failed, .resources, failure, of: job, startedAt: startedAt)
    }

    /// - Returns: nil when another host should be asked.
    private func loss(
        _ end: HostProcess.End, _ phase: JobHost.Phase, of host: JobHost, isFresh: Bool, job: PythonJob, startedAt: Date
    ) -> JobExit? {
        let text: String
        switch phase {
        case .started:
            guard end.reason != JobHost.timeoutOverrun else {
                return JobExit(.failed, .timeout, .timeoutOverrun(of: job), of: job, startedAt: startedAt)
            }
            let failure = JobExit.Failure(
                type: "HostLost",
                message: "The Python host that had started the job ended under it: \(end.reason ?? end.text)."
            )
            return JobExit(.failed, .killed, failure, of: job, startedAt: startedAt)
        case .importing where end.reason == JobHost.importOverrun || end.signal == SIGALRM:
            text = "The import of its module took longer than \(configuration.importLimit / .seconds(1)) s."
        case .importing:
            text = "The import of its module ended the Python host: \(end.reason ?? end.text). \(host.recentOutput())"
        case .waiting:
            // An idle host may have died long ago: only one that was started for this job tells about it.
            guard isFresh else { return nil }
            text = "The Python host ended before the job could start: \(end.reason ?? end.text). \(host.recentOutput())"
        }
        return JobExit(.failed, .brokenService, Self.hostFailure(text), of: job, startedAt: startedAt)
    }

    private static func hostFailure(_ text: String) -> JobExit.Failure {
        JobExit.Failure(type: "BrokenService", message: text)
    }

    // MARK: Hosts

    private func host(for key: Key) throws -> (JobHost, isFresh: Bool) {
        if let host = hosts[key], host.isUsable { return (host, false) }
        makeRoom()
        let configuration = configuration.with(python: key.python)
        let host = try JobHost(configuration, service: key.service, preloads: key.preloads && !withThreads.contains(key))
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
            import: configuration.importLimit,
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
