import Foundation
import Stack

/// How fast a side gets through jobs that wait, and what that costs.
struct WorkerRun {
    var jobsPerSecond: Double
    /// Processor milliseconds a job by whose they are, in the order in which they are shown.
    var costs: [(name: String, milliseconds: Double)]

    var total: Double { costs.reduce(0) { $0 + $1.milliseconds } }
}

struct WorkerMeasurement {
    /// The first jobs meet workers that have just started: they are run and not counted.
    private static let warmUp = 24

    let side: any WorkerSide

    /// All jobs wait when the workers start. Counted from the 24th job on.
    func throughput(_ load: WorkerLoad, _ count: Int) async throws -> WorkerRun {
        let before = side.stamps.count
        try await side.fill(load, count)
        return try await withWorkers {
            let jobs = count * load.jobs
            try await side.waitForStamps(before + Self.warmUp)
            let began = usage()
            let first = side.stamps.count - before
            try await side.waitForStamps(before + jobs)
            try await side.waitUntilSettled()
            let used = zip(usage(), began).map { (name: $0.name, seconds: $0.seconds - $1.seconds) }
            let ends = side.stamps.stamps(after: before).map(\.ended).sorted()
            let counted = Double(jobs - first)
            return WorkerRun(
                jobsPerSecond: counted / (ends[jobs - 1] - ends[first - 1]),
                costs: used.map { ($0.name, $0.seconds / counted * 1000) })
        }
    }

    /// Seconds from the end of a job's last parent to its beginning, when there is one study at a time.
    func gaps(_ studies: Int) async throws -> [Double] {
        try await withWorkers {
            try await side.oneByOne(3)
            let before = side.stamps.count
            try await side.oneByOne(studies)
            return side.stamps.stamps(after: before).gaps
        }
    }

    func withWorkers<R>(_ body: () async throws -> R) async throws -> R {
        let result: Result<R, any Error>
        do {
            try await side.startWorkers()
            result = .success(try await body())
        } catch {
            result = .failure(error)
        }
        await side.stopWorkers()
        return try result.get()
    }

    private func usage() -> [(name: String, seconds: Double)] {
        let workers = side.workers.map { ProcessTree(root: $0).seconds }.reduce(ProcessTree.Seconds(), +)
        let servers = side.servers.map { server in
            let seconds = ProcessTree(root: server.pid).seconds
            return (name: server.name, seconds: seconds.own + seconds.below)
        }
        return servers + [("workers", workers.own), ("hosts and jobs", workers.below)]
    }
}
