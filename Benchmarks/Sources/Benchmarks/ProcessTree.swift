import Foundation
import Glibc

/// A process and all that descends from it.
struct ProcessTree {
    /// Processor seconds of the root alone, and of everything below it, what has ended included.
    struct Seconds {
        var own = 0.0
        var below = 0.0

        static func + (a: Seconds, b: Seconds) -> Seconds { Seconds(own: a.own + b.own, below: a.below + b.below) }
        static func - (a: Seconds, b: Seconds) -> Seconds { Seconds(own: a.own - b.own, below: a.below - b.below) }
    }

    var root: pid_t
    var descendants: [pid_t]

    init(root: pid_t) {
        self.root = root
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { pid_t($0) } ?? []
        let parents = processes.map { ($0, ProcessUsage.status(of: $0)?.parent) }
        descendants = []
        var generation: Set = [root]
        while !generation.isEmpty {
            let children = parents.compactMap { child, parent in parent.flatMap { generation.contains($0) ? child : nil } }
            descendants += children
            generation = Set(children)
        }
    }

    var seconds: Seconds {
        guard let status = ProcessUsage.status(of: root) else { return Seconds() }
        return descendants.compactMap(ProcessUsage.status(of:)).reduce(Seconds(own: status.own, below: status.reaped)) {
            Seconds(own: $0.own, below: $0.below + $1.own + $1.reaped)
        }
    }

    /// Resident MiB of the root and of everything below it, and of all together with each page counted once.
    var memory: (root: Double, below: [Double], proportional: Double) {
        (
            ProcessUsage.memory(of: root)?.resident ?? .nan, descendants.compactMap { ProcessUsage.memory(of: $0)?.resident },
            ([root] + descendants).compactMap(ProcessUsage.proportionalMebibytes).reduce(0, +)
        )
    }
}
