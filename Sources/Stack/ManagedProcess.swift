package import Foundation
import Glibc
import Synchronization

/// How a process ended.
package enum ProcessExit: Sendable, Equatable, CustomStringConvertible {
    case status(Int32)
    case signal(Int32)

    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .status((waitStatus >> 8) & 0xff) : .signal(signal)
    }

    package var description: String {
        switch self {
        case .status(let status): "exit status \(status)"
        case .signal(let signal): "killed by signal \(signal)"
        }
    }
}

/// A child process that leads a session and a process group of its own.
///
/// Nothing of it outlives its end: when the leader is gone the rest of its group is killed, and when this process dies
/// without saying goodbye the ``Lifeline`` ends the group. It is only ever signalled by its id, and only until it was
/// reaped, so an id that the system gave to somebody else is never touched.
package final class ManagedProcess: Sendable {
    package let command: Command
    package let pid: pid_t
    package let startedAt: ContinuousClock.Instant
    /// Where in the log file this process begins to speak, in bytes.
    package let logStart: UInt64
    private let ended = Mutex<ProcessExit?>(nil)

    /// Starts the program. Its log file and the folder of it are made when they are missing.
    ///
    /// - Parameter detached: it is meant to live on after this process, so the lifeline does not hold it.
    /// - Throws: ``StackError`` `.fileSystem` or `.cannotStart`.
    package init(_ command: Command, detached: Bool = false) throws {
        try FileSystem.makeFolder(command.logFile.deletingLastPathComponent())
        self.command = command
        self.logStart = (try? FileHandle(forReadingFrom: command.logFile)).flatMap { try? $0.seekToEnd() } ?? 0
        self.pid = try Spawn.start(command)
        self.startedAt = .now
        if !detached { Lifeline.shared.watch(pid) }
    }

    /// How it ended, nil while it runs.
    package var exit: ProcessExit? {
        ended.withLock { ended in
            if let known = ended { return known }
            var info = siginfo_t()
            // Only looks: until the leader is reaped, its id names our group and nobody else's.
            if waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 {
                guard info.si_signo == SIGCHLD else { return nil }
                _ = Glibc.kill(-pid, SIGKILL)
            } else if errno == EINTR {
                return nil
            }
            let exit = reap()
            ended = exit
            Lifeline.shared.forget(pid)
            return exit
        }
    }

    private func reap() -> ProcessExit {
        var status: Int32 = 0
        while true {
            if waitpid(pid, &status, 0) == pid { return ProcessExit(waitStatus: status) }
            // ECHILD: somebody else reaped it; it is gone and its status with it.
            if errno != EINTR { return .status(-1) }
        }
    }

    package var isRunning: Bool { exit == nil }

    /// Sends a signal to the process alone, not to its group; nothing when it has ended.
    package func signal(_ signal: Int32) {
        ended.withLock { ended in
            if ended == nil { _ = Glibc.kill(pid, signal) }
        }
    }

    /// Kills the whole group at once and waits until the process is gone.
    @discardableResult
    package func kill() async -> ProcessExit {
        ended.withLock { ended in
            if ended == nil { _ = Glibc.kill(-pid, SIGKILL) }
        }
        return await waitUntilGone()
    }

    /// SIGTERM, then after `grace` SIGKILL to the group.
    @discardableResult
    package func terminate(grace: Duration = .seconds(10)) async -> ProcessExit {
        signal(SIGTERM)
        let deadline = ContinuousClock.now + grace
        while ContinuousClock.now < deadline {
            if let exit { return exit }
            await Self.pause()
        }
        return await kill()
    }

    /// Throws when the process has ended: for use inside waits for its readiness.
    package func checkIsRunning() throws {
        guard let exit else { return }
        throw StackError(
            .exited,
            "\(command.name) ended before it was ready (\(exit)).",
            logFile: command.logFile,
        )
    }

    private func waitUntilGone() async -> ProcessExit {
        while true {
            if let exit { return exit }
            await Self.pause()
        }
    }

    /// Not `Task.sleep`, which returns at once in a cancelled task: stopping a child must work there too.
    private static func pause() async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(20)) { continuation.resume() }
        }
    }
}
