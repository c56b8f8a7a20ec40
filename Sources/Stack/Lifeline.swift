import Foundation
import Glibc
import Synchronization

/// A tiny shell process that ends our children when we die in a way that leaves no time for it (SIGKILL, a crash).
///
/// It reads `+ pid` and `- pid` from a socket that only this process holds. End of file means that we are gone, and
/// then it sends SIGTERM to what is left, waits five seconds and sends SIGKILL. Linux's PR_SET_PDEATHSIG would not do:
/// it watches the thread that forked, and our threads come and go.
final class Lifeline: Sendable {
    static let shared = Lifeline()

    private static let script = """
        alive=
        while read -r sign pid; do
            rest=
            for known in $alive; do [ "$known" = "$pid" ] || rest="$rest $known"; done
            if [ "$sign" = + ]; then alive="$rest $pid"; else alive=$rest; fi
        done
        for pid in $alive; do kill -s TERM -- "-$pid"; done
        round=0
        while [ $round -lt 50 ]; do
            rest=
            for pid in $alive; do kill -s 0 -- "-$pid" && rest="$rest $pid"; done
            [ -n "$rest" ] || exit 0
            alive=$rest
            sleep 0.1
            round=$((round + 1))
        done
        for pid in $alive; do kill -s KILL -- "-$pid"; done
        """

    private struct State {
        var socket: Int32?
        /// A lock file's descriptor that the shell shares: the lock stays taken until our children are gone.
        var kept: Int32?
    }

    private let state = Mutex(State())

    deinit {
        state.withLock { state in
            if let socket = state.socket { close(socket) }
        }
    }

    /// Has the shell hold this descriptor open. To be called before the first child is started.
    func keepOpen(_ descriptor: Int32) {
        state.withLock { $0.kept = descriptor }
    }

    func watch(_ pid: pid_t) { tell("+ \(pid)\n") }
    func forget(_ pid: pid_t) { tell("- \(pid)\n") }

    private func tell(_ line: String) {
        state.withLock { state in
            if state.socket == nil { state.socket = Self.start(keeping: state.kept) }
            guard let socket = state.socket else { return }
            // MSG_NOSIGNAL: should somebody kill the shell, we lose a safety net, not our life.
            _ = line.withCString { send(socket, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
        }
    }

    /// The descriptor to write to; nil when the shell cannot be started, and then we do without.
    private static func start(keeping kept: Int32?) -> Int32? {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else { return nil }
        defer { close(ends[1]) }
        let command = Command(
            name: "lifeline",
            executable: "/bin/sh",
            arguments: ["-c", script],
            environment: Command.plainEnvironment,
            logFile: URL(fileURLWithPath: "/dev/null"),
        )
        guard (try? Spawn.start(command, stdin: ends[1], keeping: kept)) != nil else {
            close(ends[0])
            return nil
        }
        return ends[0]
    }
}
