import Foundation
import Glibc
import Logging

/// Processes of a stack that outlived their service: a job's grandchild that left its process group, for example.
///
/// All that a service starts inherits its READY_FILE, which lies inside the stack's folder and nowhere else.
enum StackRemains {
    static func kill(_ home: StackHome, logger: Logger) {
        let mark = Data("READY_FILE=\(home.readyFile("x").deletingLastPathComponent().path)/".utf8)
        for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let pid = pid_t(entry), pid != getpid(),
                let environment = FileManager.default.contents(atPath: "/proc/\(pid)/environ"),
                environment.split(separator: 0).contains(where: { $0.starts(with: mark) })
            else { continue }
            logger.warning("killing a process that outlived its service", metadata: ["process.pid": "\(pid)"])
            _ = Glibc.kill(pid, SIGKILL)
        }
    }
}
