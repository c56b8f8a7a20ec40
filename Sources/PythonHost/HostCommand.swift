import Glibc

/// A program to start with one end of a socket as its descriptor 3.
struct HostCommand: Sendable {
    var executable: String
    var arguments: [String]
    var environment: [String: String]

    /// posix_spawn: a session of its own, signals back to their defaults, /dev/null as input, `output` as output and error,
    /// `socket` as descriptor 3. Descriptors that somebody here opened without O_CLOEXEC the host closes itself, as its first act: Glibc's
    /// module lacks posix_spawn_file_actions_addclosefrom_np.
    ///
    /// - Throws: ``PythonHostError`` `.cannotStart`.
    func spawn(socket: Int32, output: Int32) throws -> pid_t {
        let (pid, error) = start(socket: socket, output: output)
        guard error == 0 else {
            throw PythonHostError(.cannotStart, "Python could not be started: \(executable): \(String(cString: strerror(error))).")
        }
        return pid
    }

    /// The same with or without a socket, for any program.
    /// - Returns: `error` is posix_spawn's, 0 when the program runs.
    func start(socket: Int32?, output: Int32) -> (pid: pid_t, error: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // The socket first: were its number 0, 1 or 2 the other actions would overwrite it.
        if let socket { posix_spawn_file_actions_adddup2(&actions, socket, 3) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)

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
        let error = Self.withCStrings([executable] + arguments) { argv in
            Self.withCStrings(environment.map { "\($0.key)=\($0.value)" }) { environment in
                posix_spawn(&pid, executable, &actions, &attributes, argv, environment)
            }
        }
        return (pid, error)
    }

    /// A null-terminated array of C strings for the time of `body`; the copies are freed after it.
    private static func withCStrings<Result>(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result) -> Result {
        let copies = strings.map { strdup($0) }
        defer { copies.forEach { free($0) } }
        return body(copies + [nil])
    }
}
