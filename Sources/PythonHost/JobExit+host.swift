import Foundation
import Glibc
import Jobs

extension JobExit {
    /// What a host's report says about an attempt.
    init(_ exited: HostReply.Exited, of job: PythonJob, startedAt: Date, finishedAt: Date) {
        let (outcome, kind, failure) = Self.verdict(exited, of: job)
        self.init(
            outcome: outcome,
            kind: kind,
            failure: failure,
            exitCode: exited.code,
            signal: exited.signal,
            result: kind == .completed ? exited.ending?.value ?? exited.output.flatMap(Self.result) : nil,
            artifacts: exited.artifacts.filter { Self.isBelowData($0.path) },
            usage: Usage(
                wall: exited.usage.wall,
                user: exited.usage.user,
                system: exited.usage.system,
                peakMemory: exited.usage.peakMemory
            ),
            startedAt: startedAt,
            finishedAt: finishedAt,
            log: job.log,
            tail: exited.tail
        )
    }

    /// An attempt that ended without a report of the host.
    init(
        _ outcome: Outcome,
        _ kind: Kind,
        _ failure: Failure? = nil,
        of job: PythonJob,
        startedAt: Date,
        tail: String? = nil
    ) {
        let now = Date()
        self.init(
            outcome: outcome,
            kind: kind,
            failure: failure,
            usage: Usage(wall: now.timeIntervalSince(startedAt)),
            startedAt: startedAt,
            finishedAt: now,
            log: job.log,
            tail: tail
        )
    }

    private static func verdict(_ exited: HostReply.Exited, of job: PythonJob) -> (Outcome, Kind, Failure?) {
        // A result that was handed over counts, even when the time was over a moment later.
        if let ending = exited.ending, ending.kind == .result { return (.succeeded, .completed, nil) }
        switch exited.stopped {
        case .cancel: return (.cancelled, .cancelled, nil)
        case .timeout: return (.failed, .timeout, .timeout(of: job, traceback: exited.ending?.error?.traceback))
        case .memory: return (.failed, .outOfMemory, .memoryLimit(exited.excess))
        case .processes: return (.failed, .resources, .processLimit(exited.excess))
        case nil: break
        }
        if let ending = exited.ending {
            switch ending.kind {
            case .memory: return (.failed, .outOfMemory, ending.error.map { .memoryError($0.exit, limit: job.memory) })
            case .broken: return (.failed, .brokenService, ending.error?.exit)
            case .exception, .result: return (.failed, .exception, ending.error?.exit)
            }
        }
        if let signal = exited.signal {
            return exited.kernelKilled == true
                ? (.failed, .outOfMemory, .kernelKilled(peak: exited.usage.peakMemory))
                : (.failed, .killed, .killed(by: signal))
        }
        let status = exited.code ?? 0
        guard let command = job.command else { return (.failed, .noResult, .noResult(status: status)) }
        return status == 0 ? (.succeeded, .completed, nil) : (.failed, .exception, .exitStatus(status, of: command))
    }

    /// What a command printed: JSON if it is JSON, otherwise the text.
    private static func result(_ output: String) -> JSONValue? {
        let text = output.trimmingCharacters(in: .whitespacesAndNewlines)
        if text.isEmpty { return nil }
        return (try? JSONValue(json: Data(text.utf8))) ?? .string(text)
    }

    /// A job could write what it likes into its channel.
    private static func isBelowData(_ path: String) -> Bool {
        !path.isEmpty && !path.hasPrefix("/") && !path.split(separator: "/").contains("..")
    }
}

extension JobExit.Failure {
    static func timeout(of job: PythonJob, traceback: String? = nil) -> JobExit.Failure {
        JobExit.Failure(
            type: "JobTimeout",
            message: "The job ran longer than its timeout of \(job.timeout.seconds ?? 0) s and was ended, with all it had started. "
                + "Its log shows where its threads were.",
            traceback: traceback
        )
    }

    /// The host did not end the job and was ended itself: nobody knows then what has left the job's group.
    static func timeoutOverrun(of job: PythonJob) -> JobExit.Failure {
        JobExit.Failure(
            type: "JobTimeout",
            message: "The job ran longer than its timeout of \(job.timeout.seconds ?? 0) s and was ended by force together with its host. "
                + "Programs that it had detached from itself may still run."
        )
    }

    static func memoryLimit(_ excess: HostReply.Exited.Excess?) -> JobExit.Failure {
        JobExit.Failure(
            type: "MemoryLimit",
            message: "The job's processes used \(bytes(excess?.memory)) of memory together; the job may use \(bytes(excess?.limit)). They "
                + "were ended. Raise the job's `memory` in its service's settings, or let the job work on smaller pieces."
        )
    }

    /// A MemoryError usually has no text at all.
    static func memoryError(_ failure: JobExit.Failure, limit: Int64?) -> JobExit.Failure {
        guard let limit else { return failure }
        var failure = failure
        if !failure.message.isEmpty { failure.message += ". " }
        failure.message += "The job may use \(bytes(limit)) of memory: raise its `memory` in its service's settings if it needs more."
        return failure
    }

    static func kernelKilled(peak: Int64) -> JobExit.Failure {
        JobExit.Failure(
            type: "OutOfMemory",
            message: "The kernel ended the job's process because the memory of the machine or of the worker's container ran out. The job "
                + "had used \(bytes(peak)) at most. Give the worker more memory or fewer WORKER_SLOTS, and the job a `memory` in its service's "
                + "settings, so that no more of them run than fit."
        )
    }

    static func processLimit(_ excess: HostReply.Exited.Excess?) -> JobExit.Failure {
        JobExit.Failure(
            type: "ProcessLimit",
            message: "The job had \(excess?.processes ?? 0) processes at a time; \(excess?.limit ?? 0) are allowed. It was ended with "
                + "all of them. If it is no runaway, raise JOB_PROCESSES in the worker's environment."
        )
    }

    static func killed(by signal: Int) -> JobExit.Failure {
        let name = sigabbrev(signal).map { "SIG\($0)" } ?? "unknown"
        let hint =
            switch Int32(truncatingIfNeeded: signal) {
            case SIGKILL: " The kernel does that when the machine or the container runs out of memory, or somebody did it by hand."
            case SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT: " Compiled code has crashed: the end of the log shows where Python was."
            default: ""
            }
        return JobExit.Failure(
            type: "Killed",
            message: "The job's process was ended by signal \(signal) (\(name)), which the worker did not send.\(hint)"
        )
    }

    static func noResult(status: Int) -> JobExit.Failure {
        JobExit.Failure(
            type: "NoResult",
            message: "The job's process exited with status \(status) instead of returning from its function, or it had closed all its "
                + "descriptors, the one for its result among them. A function that is done returns; one that has failed raises."
        )
    }

    static func exitStatus(_ status: Int, of command: [String]) -> JobExit.Failure {
        JobExit.Failure(
            type: "ExitStatus",
            message: "The command \(command.first ?? "") exited with status \(status); 0 is success. The end of its log may say why."
        )
    }

    private static func bytes(_ count: Int64?) -> String {
        guard let count else { return "an unknown amount" }
        return count.isMultiple(of: 1 << 20) ? ByteCount.text(count) : "\(count >> 20)M"
    }

    private static func sigabbrev(_ signal: Int) -> String? {
        [
            SIGHUP: "HUP", SIGINT: "INT", SIGQUIT: "QUIT", SIGILL: "ILL", SIGTRAP: "TRAP", SIGABRT: "ABRT", SIGBUS: "BUS", SIGFPE: "FPE",
            SIGKILL: "KILL", SIGUSR1: "USR1", SIGSEGV: "SEGV", SIGUSR2: "USR2", SIGPIPE: "PIPE", SIGALRM: "ALRM", SIGTERM: "TERM",
            SIGXCPU: "XCPU", SIGXFSZ: "XFSZ", SIGSYS: "SYS",
        ][Int32(truncatingIfNeeded: signal)]
    }
}
