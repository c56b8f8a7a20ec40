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
            result: kind == .completed ? exited.ending?.value : nil,
            artifacts: exited.artifacts.filter { Self.isBelowData($0.path) },
            usage: Usage(
                wall: exited.usage.wall,
                user: exited.usage.user,
                system: exited.usage.system,
                peakMemory: exited.usage.peakMemory
            ),
            startedAt: startedAt,
            finishedAt: finishedAt,
            log: job.log
        )
    }

    /// An attempt that ended without a report of the host.
    init(
        _ outcome: Outcome,
        _ kind: Kind,
        _ failure: Failure? = nil,
        of job: PythonJob,
        startedAt: Date
    ) {
        let now = Date()
        self.init(
            outcome: outcome,
            kind: kind,
            failure: failure,
            usage: Usage(wall: now.timeIntervalSince(startedAt)),
            startedAt: startedAt,
            finishedAt: now,
            log: job.log
        )
    }

    private static func verdict(_ exited: HostReply.Exited, of job: PythonJob) -> (Outcome, Kind, Failure?) {
        // A result that was handed over counts, even when the time was over a moment later.
        if let ending = exited.ending, ending.kind == .result { return (.succeeded, .completed, nil) }
        switch exited.stopped {
        case .cancel: return (.cancelled, .cancelled, nil)
        case .timeout: return (.failed, .timeout, .timeout(of: job, traceback: exited.ending?.error?.traceback))
        case .log: return (.failed, .resources, .logLimit(exited.logLimit))
        case nil: break
        }
        if let ending = exited.ending {
            let kind: Kind =
                switch ending.kind {
                case .memory: .outOfMemory
                case .broken: .brokenService
                case .exception, .result: .exception
                }
            return (.failed, kind, ending.error?.exit)
        }
        if let signal = exited.signal {
            return (.failed, .killed, .killed(by: signal))
        }
        return (.failed, .noResult, .noResult(status: exited.code ?? 0))
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

    static func logLimit(_ limit: Int?) -> JobExit.Failure {
        JobExit.Failure(
            type: "LogLimit",
            message: "The job's log grew beyond \(limit.map { "\($0) bytes" } ?? "its limit") and the job was ended. "
                + "Print less, or raise JOB_LOG_LIMIT (bytes) in the worker's environment."
        )
    }

    static func killed(by signal: Int) -> JobExit.Failure {
        let name = sigabbrev(signal).map { "SIG\($0)" } ?? "unknown"
        let hint = signal == Int(SIGKILL) ? " The kernel does that when the machine or the container runs out of memory." : ""
        return JobExit.Failure(
            type: "Killed",
            message: "The job's process was ended by signal \(signal) (\(name)), which the worker did not send.\(hint)"
        )
    }

    static func noResult(status: Int) -> JobExit.Failure {
        JobExit.Failure(
            type: "NoResult",
            message: "The job's process exited with status \(status) instead of returning from its function."
        )
    }

    private static func sigabbrev(_ signal: Int) -> String? {
        [
            SIGHUP: "HUP", SIGINT: "INT", SIGQUIT: "QUIT", SIGILL: "ILL", SIGTRAP: "TRAP", SIGABRT: "ABRT", SIGBUS: "BUS", SIGFPE: "FPE",
            SIGKILL: "KILL", SIGUSR1: "USR1", SIGSEGV: "SEGV", SIGUSR2: "USR2", SIGPIPE: "PIPE", SIGALRM: "ALRM", SIGTERM: "TERM",
            SIGXCPU: "XCPU", SIGXFSZ: "XFSZ", SIGSYS: "SYS",
        ][Int32(signal)]
    }
}
