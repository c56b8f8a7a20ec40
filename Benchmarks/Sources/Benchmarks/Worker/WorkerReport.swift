import Foundation
import Glibc
import Stack
import Synchronization

/// Measures the parts of the comparison and prints their tables.
struct WorkerReport {
    let bench: WorkerBench
    let ours: [OurWorkers]
    /// Nil without RQ.
    let other: RQWorkers?

    /// RQ first, when there is one.
    private var sides: [(name: String, side: any WorkerSide)] {
        let rq = other.map { [(name: "RQ \(bench.rq)", side: $0 as any WorkerSide)] } ?? []
        return rq + ours.map { ("ours, \($0.slots) slot\($0.slots == 1 ? "" : "s") a worker", $0) }
    }

    private func show(_ table: MarkdownTable) {
        print("\(table)\n")
        // Also into a file, table by table.
        fflush(nil)
    }

    // MARK: Jobs a second

    func throughput() async throws {
        try await throughput(.graph, bench.studies, "studies of six jobs")
        try await throughput(.flat, bench.jobs, "independent jobs")
    }

    private func throughput(_ load: WorkerLoad, _ count: Int, _ title: String) async throws {
        var runs: [[WorkerRun]] = sides.map { _ in [] }
        for _ in 0..<bench.rounds {
            for (index, side) in sides.enumerated() {
                runs[index].append(try await WorkerMeasurement(side: side.side).throughput(load, count))
            }
        }
        var table = MarkdownTable(title, "jobs/s", "to RQ", "processor time a job", "to RQ", "of it")
        for (side, own) in zip(sides, runs) {
            let costs = own[0].costs.indices.map { place in
                "\(own[0].costs[place].name) \(own.map { $0.costs[place].milliseconds }.median.fraction(2))"
            }
            table.append(
                side.name, own.map(\.jobsPerSecond).median.fraction(0), toRQ(own, runs[0], \.jobsPerSecond),
                "\(own.map(\.total).median.fraction(2)) ms", toRQ(own, runs[0], \.total), costs.joined(separator: ", "))
        }
        show(table)
    }

    /// The median of the ratios that were taken within a round: what else the machine did then touched both.
    private func toRQ(_ own: [WorkerRun], _ first: [WorkerRun], _ value: (WorkerRun) -> Double) -> String {
        other == nil ? "" : "\(zip(own, first).map { value($0) / value($1) }.median.fraction(2))x"
    }

    // MARK: From a parent's end to its child's beginning

    func gaps() async throws {
        var gaps: [[Double]] = sides.map { _ in [] }
        for _ in 0..<bench.rounds {
            for (index, side) in sides.enumerated() {
                gaps[index] += try await WorkerMeasurement(side: side.side).gaps(max(1, bench.single / bench.rounds))
            }
        }
        var table = MarkdownTable("one study at a time: end of the last parent to beginning", "median", "99 %", "longest")
        for (side, gaps) in zip(sides, gaps) {
            let sorted = gaps.sorted()
            guard let last = sorted.last else { continue }
            table.append(side.name, ms(sorted[sorted.count / 2]), ms(sorted[sorted.count * 99 / 100]), ms(last))
        }
        show(table)
    }

    private func ms(_ seconds: Double) -> String { "\((seconds * 1000).fraction(1)) ms" }

    // MARK: Memory

    /// Workers that have run one job and wait.
    func idle() async throws {
        var table = MarkdownTable("an idle worker, resident", "worker", "its Python processes", "shared pages counted once")
        for (name, side) in sides.prefix(2) {
            let memory = try await WorkerMeasurement(side: side).withWorkers {
                let before = side.stamps.count
                // One of the workers gets it, and that one is looked at.
                try await side.oneFlat()
                try await side.waitForStamps(before + 1)
                try await side.waitUntilSettled()
                try await Task.sleep(for: .seconds(2))
                return side.workers.map { ProcessTree(root: $0).memory }.max { $0.below.reduce(0, +) < $1.below.reduce(0, +) }
            }
            guard let memory else { continue }
            let each = memory.below.map { "\($0.fraction(1)) MiB" }.joined(separator: " + ")
            table.append(name, "\(memory.root.fraction(1)) MiB", each.isEmpty ? "none" : each, "\(memory.proportional.fraction(1)) MiB")
        }
        show(table)
    }

    /// While jobs run, one study after another as it comes.
    func memory() async throws {
        guard let side = ours.last else { return }
        var table = MarkdownTable("jobs run", "router", "workers", "their Python hosts")
        let rows = Mutex<[[String]]>([])
        try await WorkerMeasurement(side: side).withWorkers {
            let before = side.stamps.count
            let studies = (bench.long + JobStamps.jobsPerStudy - 1) / JobStamps.jobsPerStudy
            try await side.flow(studies) {
                for step in 1...5 {
                    try await side.waitForStamps(before + bench.long * step / 5)
                    let trees = side.workers.map { ProcessTree(root: $0) }
                    // Hosts only: a job's process is gone before it can be looked at.
                    let hosts = trees.flatMap { tree in tree.descendants.filter { ProcessUsage.status(of: $0)?.parent == tree.root } }
                    rows.withLock {
                        $0.append([mebibytes([side.site.routerPid ?? 0]), mebibytes(trees.map(\.root)), mebibytes(hosts)])
                    }
                }
            }
            try await side.waitUntilSettled()
        }
        for (index, row) in rows.withLock({ $0 }).enumerated() {
            table.append("\(bench.long * (index + 1) / 5)", row[0], row[1], row[2])
        }
        show(table)
    }

    private func mebibytes(_ processes: [pid_t]) -> String {
        processes.compactMap { ProcessUsage.memory(of: $0)?.resident.fraction(1) }.joined(separator: " + ") + " MiB"
    }
}
