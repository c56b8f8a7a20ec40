import Foundation
import Glibc

/// One program of a build, in a session of its own, watched until it ends.
struct BuildStep: Sendable {
    enum End: Sendable, Equatable {
        case exited(Int32)
        case killed(signal: Int32)
        case abandoned
        case tookTooLong
        case wroteTooMuch
        case notStarted(String)
    }

    var executable: String
    var arguments: [String]
    var folder: URL
    var environment: [String: String]

    /// Runs it to its end. Blocking, by looking ten times a second: builds are rare and take seconds to minutes.
    ///
    /// What ends by itself may leave programs behind (a script may start a service); what is ended is ended with all its session's group.
    /// - Parameter log: a descriptor, for output and errors.
    func run(log: Int32, logLimit: Int, deadline: ContinuousClock.Instant, isAbandoned: () -> Bool) -> End {
        let pid: pid_t
        switch start(log) {
        case .success(let started): pid = started
        case .failure(let failure): return .notStarted(failure.reason)
        }
        let beginning = Self.size(of: log)
        while true {
            if let end = Self.reap(pid) { return end }
            let reason: End? =
                if isAbandoned() {
                    .abandoned
                } else if ContinuousClock.now >= deadline {
                    .tookTooLong
                } else if Self.size(of: log) - beginning > logLimit {
                    .wroteTooMuch
                } else {
                    nil
                }
            if let reason {
                Self.end(pid)
                return reason
            }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }

    private struct NotStarted: Error {
        var reason: String
    }

    private func start(_ log: Int32) -> Result<pid_t, NotStarted> {
        // Glibc's module lacks posix_spawn_file_actions_addchdir_np.
        let command = HostCommand(
            executable: "/bin/bash",
            arguments: ["-c", "cd -- \"$1\" && shift && exec \"$@\"", "bash", folder.path, executable] + arguments,
            environment: environment)
        let (pid, error) = command.start(socket: nil, output: log)
        guard error == 0 else { return .failure(NotStarted(reason: String(cString: strerror(error)))) }
        return .success(pid)
    }

    private static func size(of file: Int32) -> Int {
        var status = stat()
        return fstat(file, &status) == 0 ? Int(status.st_size) : 0
    }

    /// - Returns: nil while it runs.
    private static func reap(_ pid: pid_t) -> End? {
        var status: Int32 = 0
        let reaped = waitpid(pid, &status, WNOHANG)
        if reaped == 0 || (reaped < 0 && errno == EINTR) { return nil }
        guard reaped == pid else { return .notStarted(String(cString: strerror(errno))) }
        let signal = status & 0x7f
        return signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }

    /// SIGTERM, some time for pip to clear up, SIGKILL, to all of the group; not reaped before the last one: its number stays its own.
    private static func end(_ pid: pid_t) {
        kill(-pid, SIGTERM)
        let deadline = ContinuousClock.now + .seconds(2)
        var info = siginfo_t()
        while ContinuousClock.now < deadline {
            info.si_signo = 0
            if waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT | WNOHANG) == 0, info.si_signo != 0 { break }
            Thread.sleep(forTimeInterval: 0.05)
        }
        kill(-pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    }
}
