import Foundation
import Glibc

/// posix_spawn: new session, signals back to their defaults, no inherited descriptor above 2.
enum Spawn {
    /// - Parameters:
    ///   - stdin: a descriptor for the child's standard input; /dev/null without one.
    ///   - keeping: a descriptor of this process that the child keeps as its number 3.
    static func start(_ command: Command, stdin: Int32? = nil, keeping kept: Int32? = nil) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let stdin {
            posix_spawn_file_actions_adddup2(&actions, stdin, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(&actions, 1, command.logFile.path, O_WRONLY | O_CREAT | O_APPEND, 0o640)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        if let kept {
            posix_spawn_file_actions_adddup2(&actions, kept, 3)
        }
        for descriptor in inheritableDescriptors() where descriptor > (kept == nil ? 2 : 3) {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2] { sigaddset(&signals, signal) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        // POSIX_SPAWN_SETSID (0x80) is behind a feature macro that the Glibc module does not set.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | 0x80))

        var pid = pid_t()
        let result = withCStrings([command.executable] + command.arguments) { argv in
            withCStrings(command.environment.map { "\($0.key)=\($0.value)" }) { environment in
                posix_spawn(&pid, command.executable, &actions, &attributes, argv, environment)
            }
        }
        guard result == 0 else {
            throw StackError(
                .cannotStart,
                "\(command.name) could not be started: \(command.executable): \(String(cString: strerror(result))).",
            )
        }
        return pid
    }

    /// Those that an exec would not close by itself: this process may have got some from whoever started it.
    private static func inheritableDescriptors() -> [Int32] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        return names.compactMap { Int32($0) }.filter { descriptor in
            let flags = fcntl(descriptor, F_GETFD)
            return flags >= 0 && flags & FD_CLOEXEC == 0
        }
    }

    /// A null-terminated array of C strings for the time of `body`; the copies are freed after it.
    private static func withCStrings<Result>(
        _ strings: [String],
        _ body: ([UnsafeMutablePointer<CChar>?]) -> Result,
    ) -> Result {
        let copies = strings.map { strdup($0) }
        defer { copies.forEach { free($0) } }
        return body(copies + [nil])
    }
}
