import Foundation
import Stack

enum WorkerLoad: String {
    /// Studies of six jobs.
    case graph
    /// Jobs that wait for nothing.
    case flat

    var jobs: Int { self == .graph ? JobStamps.jobsPerStudy : 1 }
}

/// One of the two systems that are compared: two workers that fork a process for each job, and what stands behind them.
protocol WorkerSide: AnyObject, Sendable {
    var stamps: JobStamps { get }
    /// The processes of the workers.
    var workers: [pid_t] { get }
    /// What else it consists of, with the name that people know it by.
    var servers: [(name: String, pid: pid_t)] { get }

    func startWorkers() async throws
    func stopWorkers() async
    /// Hands over `count` studies, or jobs without parents, while no worker is there. Returns when all that wait for nothing can be taken.
    func fill(_ load: WorkerLoad, _ count: Int) async throws
    /// Hands over one study after another, each when the last job of the one before has ended.
    func oneByOne(_ count: Int) async throws
    /// Hands over one job without parents while the workers run.
    func oneFlat() async throws
    /// Returns when the books are closed too: every result is where it belongs.
    func waitUntilSettled() async throws
}

extension WorkerSide {
    /// Waits until the jobs have written so many stamps in all.
    func waitForStamps(_ count: Int, within limit: Duration = .seconds(600)) async throws {
        let failure = StackError(.timedOut, "\(stamps.count) of \(count) jobs had run after \(limit).")
        try await poll(for: limit, every: .milliseconds(20), orThrow: failure) { stamps.count >= count ? true : nil }
    }
}
