import Foundation
import Jobs
import Stack
import Synchronization

/// `dcm-router` and `dcm-worker` as they are delivered, on a broker of their own.
///
/// Every run begins with the export of its images. A simulated worker, in the bench's process, reports it as done without a download, on a
/// channel of its own; so a study has the same six jobs here as on the other side, and the router one more to keep its books of.
final class OurWorkers: WorkerSide {
    private static let channel = "bench"
    /// How many worker processes there are.
    private static let count = 2

    let site: RouterSite
    let stamps: JobStamps
    private let executable: String
    private let modules: String
    let slots: Int
    private let processes = Mutex<[ManagedProcess]>([])

    init(site: RouterSite, worker: String, modules: String, stamps: JobStamps, slots: Int) {
        self.site = site
        self.executable = worker
        self.modules = modules
        self.stamps = stamps
        self.slots = slots
    }

    /// Two services: one job for each series, and the graph's three for each study; its first and its last two are the pipeline's own.
    static func makeRegistry(_ registry: URL, stamps: URL) throws {
        func job(_ name: String, _ level: String, dependsOn: [String] = [], _ more: [String: Bool] = [:]) -> [String: Any] {
            let own: [String: Any] = [
                "jobName": name, "worker": "bench_jobs.noop", "callback": "bench.callback", "events": [level], "channel": channel,
                "dependsOn": dependsOn,
                "params": ["stamps": stamps.path], "timeout": 1800,
            ]
            return own.merging(more) { $1 }
        }
        func write(_ value: Any, _ file: URL) throws {
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try JSONSerialization.data(withJSONObject: value).write(to: file)
        }
        try write(
            [
                "preServices": [job("pre", "study")],
                "postServices": [
                    job("store", "study", ["storing": true]),
                    job("clean", "study", dependsOn: ["store"], ["finalizer": true, "storing": false]),
                ],
            ], registry.appending(path: "settings.json"))
        try write(
            [job("A", "study"), job("B", "study"), job("C", "study", dependsOn: ["A", "B"]), job("flat", "series")],
            registry.appending(path: "bench/settings.json"))
        try Data("def callback(**_):\n    return True, {}\n".utf8).write(to: registry.appending(path: "bench/__init__.py"))
    }

    var workers: [pid_t] { processes.withLock { $0.map(\.pid) } }
    var servers: [(name: String, pid: pid_t)] {
        [("router", site.routerPid), ("RabbitMQ", site.broker.pid)].compactMap { name, pid in pid.map { (name, $0) } }
    }

    func startWorkers() async throws {
        for number in 1...Self.count {
            let worker = try await site.start(
                "worker-\(number)", executable,
                ["MODULES": modules, "WORKER_CHANNELS": Self.channel, "WORKER_SLOTS": "\(slots)", "WORKER_ID": "worker-\(number)"])
            processes.withLock { $0.append(worker) }
        }
    }

    func stopWorkers() async {
        let all = processes.withLock { processes in
            defer { processes = [] }
            return processes
        }
        for worker in all { await worker.terminate(grace: .seconds(30)) }
    }

    func fill(_ load: WorkerLoad, _ count: Int) async throws {
        try await whileExporting {
            try await site.publishEvents(count, level: load == .graph ? .study : .series)
            try await waitForJobs(.dispatched, count)
        }
    }

    func oneByOne(_ count: Int) async throws {
        try await whileExporting {
            for _ in 0..<count {
                let done = stamps.count
                try await site.publishEvents(1, level: .study)
                try await waitForStamps(done + JobStamps.jobsPerStudy, within: .seconds(120))
                // The workers are idle again when the next one comes.
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    func oneFlat() async throws {
        let done = stamps.count
        try await whileExporting {
            try await site.publishEvents(1, level: .series)
            try await waitForStamps(done + 1, within: .seconds(120))
        }
    }

    /// Hands over studies and lets them run as they come.
    func flow(_ studies: Int, _ body: @Sendable () async throws -> Void) async throws {
        try await whileExporting {
            try await site.publishEvents(studies, level: .study)
            try await body()
        }
    }

    func waitUntilSettled() async throws {
        let ran = stamps.count
        try await waitForJobs(.succeeded, ran)
    }

    private func waitForJobs(_ state: JobState, _ count: Int) async throws {
        let failure = StackError(
            .timedOut, "The ledger did not have \(count) jobs that are \(state.rawValue) after 300 s.",
            logFile: site.folder.appending(path: "router.log"))
        try await poll(for: .seconds(300), orThrow: failure) {
            try await site.jobs(state, of: Self.channel) >= count ? true : nil
        }
    }

    private func whileExporting(_ body: @Sendable () async throws -> Void) async throws {
        _ = try await SimulatedWorkers(client: site.client).work(while: body)
    }
}
