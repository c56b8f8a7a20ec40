import Bootstrap
import Foundation
import Jobs
import Pipeline
import PythonHost

/// Python functions of MODULES and other programs, each attempt in a process of its own.
struct PythonJobs: Sendable {
    let hosts: WarmHosts
    /// The hosts' own: what runs without a service's environment.
    let configuration: PythonHostConfiguration
    let environments: ServiceEnvironments
    let folders: ServiceFolders
    let killGrace: Duration
    /// How jobs stand back behind the rest of the machine.
    var niceness = Niceness()

    struct Niceness: Sendable {
        /// 0 to 19, as nice(1) has it.
        var cpu: Int?
        /// `idle` or `best-effort:N`.
        var disk: String?
    }

    /// - Parameter variables: of this attempt, for its environment.
    func run(
        _ order: JobOrder,
        variables: [String: String] = [:],
        isStillMine: @escaping @Sendable () -> Bool = { true },
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        let startedAt = Date()
        let python = await environments.python(for: order.definition.service, named: order.definition.environment) {
            onProgress(RenewMessage.Progress(fraction: 0, text: $0))
        }
        let interpreter: String
        switch python {
        case .success(let path): interpreter = path
        case .failure(let failure): return .withoutEnvironment(failure, startedAt: startedAt, isCancelled: Task.isCancelled)
        }
        let job = job(order, interpreter, variables)
        var exit = await hosts.run(job) { onProgress(RenewMessage.Progress(fraction: $0, text: $1)) }
        if order.definition.kind == .command, exit.outcome == .succeeded {
            exit = await keepOutputs(of: job, order, exit, isStillMine)
        }
        // A job may have left gigabytes there.
        let isDone = exit.outcome == .succeeded && isStillMine()
        await FileWork.run {
            try? FileManager.default.removeItem(at: job.workdir)
            if isDone { try? FileManager.default.removeItem(at: checkpoints(order)) }
        }
        return exit
    }

    func shutdown() async {
        await hosts.shutdown()
        await environments.shutdown()
    }

    func job(_ order: JobOrder, _ interpreter: String, _ variables: [String: String] = [:]) -> PythonJob {
        let attempt = "\(order.job.index)-\(order.attempt)-\(order.token)"
        let definition = order.definition
        var job = PythonJob(
            job: order.job,
            attempt: order.attempt,
            token: order.token,
            service: definition.service,
            entry: definition.entry,
            jobName: definition.name,
            headers: order.headers,
            params: definition.params,
            addedParams: order.addedParams,
            data: folders.data,
            // No folder of the run between: whoever removed it with the run's last attempt would take it from under the next one.
            workdir: folders.data.appending(path: ".work/\(order.job.run).\(attempt)", directoryHint: .isDirectory),
            logs: folders.logs,
            log: "runs/\(order.job.run)/\(attempt).log",
            timeout: definition.timeout,
            grace: killGrace
        )
        job.environment = variables
        job.environment["DCM_RUN_OUTPUTS"] = folders.data.appending(path: CommandOutputs.path(of: order.job.run)).path
        job.python = interpreter
        job.preload = definition.preload
        job.memory = definition.resources.memory
        job.nice = niceness.cpu
        job.ionice = niceness.disk
        job.checkpoint = checkpoint(order)
        if definition.kind == .command {
            job.command = command(definition)
            if interpreter != configuration.python { job.environment.merge(activated(interpreter)) { _, new in new } }
        }
        return job
    }

    /// The folder of the checkpoints of all attempts of a job.
    private func checkpoints(_ order: JobOrder) -> URL {
        folders.data.appending(path: ".checkpoints/\(order.job)", directoryHint: .isDirectory)
    }

    /// The file of an attempt's checkpoint, beside those of attempts that worked on the same input: half a result of the images and files
    /// that were there before must not become half of this one.
    private func checkpoint(_ order: JobOrder) -> URL {
        var folder = checkpoints(order)
        if let inputs = order.inputs { folder.append(path: "inputs-\(inputs)", directoryHint: .isDirectory) }
        return folder.appending(path: "\(order.token)", directoryHint: .notDirectory)
    }

    /// A program that stands in the service's folder is meant before one of that name in PATH.
    private func command(_ definition: JobDefinition) -> [String] {
        guard let program = definition.command.first, !program.hasPrefix("/") else { return definition.command }
        let own = folders.modules.appending(path: "\(definition.service)/\(program)", directoryHint: .notDirectory).standardizedFileURL.path
        let isOwn = program.contains("/") || FileManager.default.fileExists(atPath: own)
        return [isOwn ? own : program] + definition.command.dropFirst()
    }

    /// As `activate` of a virtual environment would do it: a script that starts with `#!/usr/bin/env python3` finds this one.
    private func activated(_ interpreter: String) -> [String: String] {
        let folder = URL(filePath: interpreter).deletingLastPathComponent()
        let path = configuration.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        return ["PATH": "\(folder.path):\(path)", "VIRTUAL_ENV": folder.deletingLastPathComponent().path]
    }
}

// MARK: - Outputs

extension PythonJobs {
    private static let leasePause = Duration.milliseconds(500)

    /// Moves what a command has made into place, as long as nobody else may be doing the same.
    private func keepOutputs(
        of job: PythonJob, _ order: JobOrder, _ exit: JobExit, _ isStillMine: @escaping @Sendable () -> Bool
    ) async -> JobExit {
        let outputs = CommandOutputs(data: folders.data)
        while true {
            // Without the router nobody knows whose the job is. The work is done: it waits for the answer to the next heartbeat.
            while !isStillMine() {
                do { try await Task.sleep(for: Self.leasePause) } catch { return exit.ended(.cancelled, .cancelled) }
            }
            let outcome = await FileWork.run {
                Result { () throws(CommandOutputs.Refusal) in
                    try outputs.keep(from: job.workdir, as: CommandOutputs.path(of: order), isStillMine: isStillMine)
                }
            }
            switch outcome {
            case .success(nil): return exit
            case .success(let kept?): return exit.keeping(kept)
            case .failure(let refusal) where refusal.isLeaseOver: continue
            case .failure(let refusal):
                let message = "The command succeeded, but what it has made could not be kept: \(refusal)."
                return exit.ended(.failed, .resources, JobExit.Failure(type: "OutputsNotKept", message: message))
            }
        }
    }
}

extension JobExit {
    /// The same attempt with another end.
    fileprivate func ended(_ outcome: Outcome, _ kind: Kind, _ failure: Failure? = nil) -> JobExit {
        var exit = self
        exit.outcome = outcome
        exit.kind = kind
        exit.failure = failure
        exit.result = nil
        return exit
    }

    fileprivate static func withoutEnvironment(_ failure: Failure, startedAt: Date, isCancelled: Bool) -> JobExit {
        if isCancelled { return JobExit(outcome: .cancelled, kind: .cancelled, startedAt: startedAt, finishedAt: Date()) }
        return JobExit(outcome: .failed, kind: .brokenService, failure: failure, startedAt: startedAt, finishedAt: Date())
    }
}
