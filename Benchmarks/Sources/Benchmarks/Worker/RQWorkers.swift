import Foundation
import Stack
import Synchronization

/// RQ with `rq worker`, which forks a process for each job, and a redis that writes its log to disk every second.
final class RQWorkers: WorkerSide {
    private static let count = 2

    let stamps: JobStamps
    private let environment: RQEnvironment
    private let folder: URL
    private let jobs: String
    private let redis: ManagedProcess
    private let port: UInt16
    private let processes = Mutex<[ManagedProcess]>([])
    private let handedOver = Mutex(0)

    private init(_ environment: RQEnvironment, jobs: String, folder: URL, redis: ManagedProcess, port: UInt16) {
        self.environment = environment
        self.jobs = jobs
        self.folder = folder
        self.redis = redis
        self.port = port
        stamps = JobStamps(file: folder.appending(path: "stamps"))
    }

    /// - Parameter jobs: the folder of the Python files.
    static func with<R>(_ environment: RQEnvironment, jobs: String, _ body: (RQWorkers) async throws -> R) async throws -> R {
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-rq-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let port = try FreePorts.next()
        let redis = try ManagedProcess(
            Command(
                name: "redis", executable: environment.redis,
                arguments: [
                    "--port", "\(port)", "--bind", "127.0.0.1", "--dir", folder.path, "--save", "", "--appendonly", "yes", "--appendfsync",
                    "everysec", "--daemonize", "no",
                ], environment: Command.plainEnvironment, logFile: folder.appending(path: "redis.log")))
        let side = RQWorkers(environment, jobs: jobs, folder: folder, redis: redis, port: port)
        let result: Result<R, any Error>
        do {
            let failure = StackError(.timedOut, "redis was not ready after 30 s.", logFile: redis.command.logFile)
            try await poll(for: .seconds(30), orThrow: failure) {
                try redis.checkIsRunning()
                return FreePorts.isFree(port) ? nil : true
            }
            result = .success(try await body(side))
        } catch {
            result = .failure(error)
        }
        await side.stopWorkers()
        await redis.terminate()
        return try result.get()
    }

    var workers: [pid_t] { processes.withLock { $0.map(\.pid) } }
    var servers: [(name: String, pid: pid_t)] { [("redis", redis.pid)] }

    func startWorkers() async throws {
        for number in 1...Self.count {
            let worker = try ManagedProcess(
                command("rq-\(number)", ["-m", "rq.cli", "worker", "--quiet", "--url", url, "bench"]))
            processes.withLock { $0.append(worker) }
        }
    }

    func stopWorkers() async {
        let all = processes.withLock { processes in
            defer { processes = [] }
            return processes
        }
        for worker in all { await worker.terminate(grace: .seconds(15)) }
    }

    func fill(_ load: WorkerLoad, _ count: Int) async throws { try await submit(load.rawValue, count) }

    func oneByOne(_ count: Int) async throws { try await submit("one-by-one", count) }

    func oneFlat() async throws { try await submit("flat", 1) }

    func waitUntilSettled() async throws {
        // Nothing tells from outside that the last job's books are closed; its worker does that within milliseconds.
        try await Task.sleep(for: .milliseconds(300))
    }

    private func submit(_ kind: String, _ count: Int) async throws {
        let first = handedOver.withLock { number in
            defer { number += count }
            return number
        }
        let submitter = try ManagedProcess(
            command("submit", ["\(jobs)/rq_submit.py", url, stamps.file.path, kind, "\(count)", "\(first)"]))
        let failure = StackError(.timedOut, "\(kind) was not handed over to RQ after 10 minutes.", logFile: submitter.command.logFile)
        let exit: ProcessExit
        do {
            exit = try await poll(for: .seconds(600), every: .milliseconds(20), orThrow: failure) { submitter.exit }
        } catch {
            await submitter.kill()
            throw error
        }
        guard exit == .status(0) else {
            throw StackError(.exited, "Handing jobs over to RQ failed (\(exit)).", logFile: submitter.command.logFile)
        }
    }

    private var url: String { "redis://127.0.0.1:\(port)/0" }

    private func command(_ name: String, _ arguments: [String]) -> Command {
        Command(
            name: name, executable: environment.python, arguments: arguments,
            environment: Command.plainEnvironment.merging(["PYTHONPATH": jobs]) { $1 }, logFile: folder.appending(path: "\(name).log"))
    }
}
