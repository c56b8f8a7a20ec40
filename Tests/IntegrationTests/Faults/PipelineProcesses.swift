import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import Stack
import Synchronization
import Testing

/// Real processes for tests that kill, stop and starve them: a private broker, a private Orthanc with one small study, and routers,
/// workers and ingests of this build as children, each started and ended by the test. Without an ingest, events come from the test itself.
final class PipelineProcesses: Sendable {
    let folder: URL
    let broker: PrivateBroker
    let virtualHost: String
    /// The test's own connection.
    let client: AMQPClient
    let orthanc: PrivateOrthanc
    /// There from the start.
    let study: SmallStudy
    private let children = Mutex<[PipelineChild]>([])
    /// The router whose STATE is a disk that only it can see.
    private let ownDisk = Mutex<PipelineChild?>(nil)

    private init(folder: URL, broker: PrivateBroker, virtualHost: String, orthanc: PrivateOrthanc, study: SmallStudy) throws {
        self.folder = folder
        self.broker = broker
        self.virtualHost = virtualHost
        self.orthanc = orthanc
        self.study = study
        let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let url = Self.url(of: broker, virtualHost)
        client = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: url)], connectionName: "test"),
            topology: PipelineTopology.router(channels: ["default"]), logger: quiet)
    }

    private static func url(of broker: PrivateBroker, _ virtualHost: String) -> String {
        "amqp://\(broker.user):\(broker.password)@127.0.0.1:\(broker.port)/\(virtualHost)"
    }

    /// Starts what is needed, runs `body`, and ends everything that was started, whatever happens. The folder is kept when something failed.
    ///
    /// - Parameters:
    ///   - ownBroker: for tests that break it; the others share their suite's.
    ///   - archive: how Orthanc is configured.
    static func with(
        ownBroker: Bool = false, archive: Archive = Archive(), _ body: (PipelineProcesses) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-faults-\(UUID().uuidString.prefix(8))")
        try makeFolders(folder)
        do {
            if ownBroker {
                let broker = try await PrivateBroker.start(in: folder.appending(path: "broker"))
                try await ending(broker.stop) { try await with(broker, broker.virtualHost, archive, folder, body) }
            } else {
                let broker = try #require(SharedBroker.current, "the suite lacks the trait .sharedBroker")
                let virtualHost = folder.lastPathComponent
                try await broker.manage("PUT", "/vhosts/\(virtualHost)")
                try await with(broker, virtualHost, archive, folder, body)
                try await broker.manage("DELETE", "/vhosts/\(virtualHost)")
            }
        } catch {
            Issue.record("The processes' files are kept in \(folder.path).")
            throw error
        }
        try FileManager.default.removeItem(at: folder)
    }

    /// What a test may want of its Orthanc.
    struct Archive {
        var stableAge = 1
        var overwriteInstances = false
        /// 0: as many as come.
        var maximumPatients = 0
    }

    private static func with(
        _ broker: PrivateBroker, _ virtualHost: String, _ archive: Archive, _ folder: URL,
        _ body: (PipelineProcesses) async throws -> Void
    ) async throws {
        let orthanc = try await PrivateOrthanc.start(
            in: folder.appending(path: "orthanc"), stableAge: archive.stableAge, overwriteInstances: archive.overwriteInstances,
            maximumPatients: archive.maximumPatients)
        // Its clean stop takes seconds.
        try await ending(orthanc.kill) {
            let study = try await SmallStudy.upload(to: orthanc)
            let pipeline = try PipelineProcesses(folder: folder, broker: broker, virtualHost: virtualHost, orthanc: orthanc, study: study)
            try await ending(pipeline.killAll) { try await pipeline.run(body) }
        }
    }

    private static func ending(_ stop: () async -> Void, _ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch {
            await stop()
            throw error
        }
        await stop()
    }

    private func run(_ body: (PipelineProcesses) async throws -> Void) async throws {
        let connection = Task { try await client.run() }
        try await Self.ending({
            connection.cancel()
            _ = await connection.result
        }) {
            try await client.waitUntilReady()
            try await body(self)
        }
    }

    private func killAll() async {
        for child in children.withLock(\.self) { await child.kill() }
    }

    private static func makeFolders(_ folder: URL) throws {
        for name in ["state", "data", "logs", "run"] {
            try FileManager.default.createDirectory(at: folder.appending(path: name), withIntermediateDirectories: true)
        }
        let fixture = try #require(Bundle.module.url(forResource: "Fixtures/faults", withExtension: nil))
        for name in ["registry", "modules", "wanting"] {
            try FileManager.default.copyItem(at: fixture.appending(path: name), to: folder.appending(path: name))
        }
    }

    // MARK: Processes

    enum Program: String {
        case router
        case worker
        case ingest
    }

    /// Makes a lost lease or hint a matter of seconds: a lease is 3 s.
    static let shortTimes = ["DCM_PACE": "0.1"]

    /// Starts a program and does not wait for it.
    ///
    /// - Parameters:
    ///   - environment: over the usual one. A name that is empty counts as not set.
    ///   - disk: for STATE.
    func launch(
        _ program: Program, _ name: String? = nil, _ environment: [String: String] = [:], disk: SmallDisk? = nil
    ) throws -> PipelineChild {
        let name = name ?? program.rawValue
        let readyFile = folder.appending(path: "run/\(name)-\(UUID().uuidString.prefix(8)).ready")
        let usual = [
            "READY_FILE": readyFile.path, "LOG_LEVEL": "debug", "WORKER_ID": name, "WORKER_SLOTS": "3", "WORKER_GRACE": "5",
            "AMQP_URL": Self.url(of: broker, virtualHost), "STATE": path("state"), "DATA": path("data"), "LOGS": path("logs"),
            "REGISTRY": path("registry"), "MODULES": path("modules"),
            "ORTHANC_REST_URL": orthanc.url, "ORTHANC_REST_USERNAME": orthanc.user, "ORTHANC_REST_PASSWORD": orthanc.password,
            "ORTHANC_STABLE_AGE": "\(orthanc.node.stableAge)", "EVENTS": "study", "POLL_INTERVAL": "0.1", "SWEEP_INTERVAL": "1",
            "PYTHON": "/usr/bin/python3", "PYTHONHOST_PATH": TestStack.checkout.appending(path: "python").path,
        ]
        var command = Command(
            name: name, executable: TestStack.products.appending(path: "dcm-\(program)").path,
            environment: Command.plainEnvironment.merging(usual) { $1 }.merging(Self.shortTimes) { $1 }.merging(environment) { $1 },
            logFile: folder.appending(path: "logs/\(name).log"))
        if let disk { command = disk.wrapping(command) }
        let child = PipelineChild(process: try ManagedProcess(command), readyFile: readyFile)
        children.withLock { $0.append(child) }
        if disk != nil { ownDisk.withLock { $0 = child } }
        return child
    }

    /// Starts a program and waits until it says that it does its work.
    @discardableResult
    func start(_ program: Program, _ name: String? = nil, _ environment: [String: String] = [:]) async throws -> PipelineChild {
        let child = try launch(program, name, environment)
        try await child.waitUntilReady()
        return child
    }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    // MARK: What the test says

    /// The plans of the fixture's services.
    enum Plan: String {
        /// 30 jobs in three stages, with a retry, a job that fails, a storing one and a finalizer.
        case full
        /// The export and three jobs, each behind the other.
        case short
        /// No service wants it.
        case none
    }

    /// Publishes what ingest would.
    /// - Returns: the event's snapshot.
    @discardableResult
    func publish(_ plan: Plan) async throws -> String {
        let snapshot = UUID().uuidString.lowercased()
        try await publish(event(plan, snapshot: snapshot))
        return snapshot
    }

    func event(_ plan: Plan, snapshot: String) -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: study.id, snapshot: snapshot, observedAt: Date(),
            series: [EventMessage.Series(id: study.series, instances: 1)], headers: ["plan": .string(plan.rawValue)])
    }

    func publish(_ event: EventMessage) async throws {
        try await client.publish(
            .pipeline(
                exchange: PipelineExchange.ingest, routingKey: PipelineKey.ingest(level: event.level, isFiltered: false),
                type: EventMessage.type, body: event, messageID: event.snapshot))
    }

    func command(_ action: CommandMessage.Action, _ target: String) async throws {
        let command = CommandMessage(id: UUID().uuidString, action: action, target: target, actor: "test", at: Date())
        try await client.publish(
            .pipeline(
                exchange: PipelineExchange.router, routingKey: PipelineKey.command, type: CommandMessage.type, body: command,
                messageID: command.id))
    }

    // MARK: What the test sees

    /// A reader of its own each time: a test may have put another file in the ledger's place.
    var ledger: LedgerReader {
        get throws {
            let state = folder.appending(path: "state")
            guard let owner = ownDisk.withLock(\.self) else { return LedgerReader(path: state.appending(path: "ledger.sqlite").path) }
            // SQLite resolves links by itself and would not end up on that disk.
            let copy = folder.appending(path: "copy-\(UUID().uuidString.prefix(8))")
            try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
            for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
                try FileManager.default.copyItem(at: owner.own(state).appending(path: name), to: copy.appending(path: name))
            }
            return LedgerReader(path: copy.appending(path: "ledger.sqlite").path)
        }
    }

    var history: History {
        get throws { try History(file: folder.appending(path: "data/history")) }
    }

    func run(of snapshot: String) async throws -> LedgerRunDetail {
        try await until("the event \(snapshot) became a run") {
            // Before the router has made the ledger there is nothing to read.
            guard let ledger = try? ledger, let run = try? await ledger.runs(LedgerRunFilter(event: snapshot), limit: 1).items.first else {
                return nil
            }
            return try await ledger.run(run.id)
        }
    }

    /// The event's run once it has ended.
    func ended(_ snapshot: String, limit: Duration = .seconds(60)) async throws -> LedgerRunDetail {
        let id = try await run(of: snapshot).run.id
        return try await until("run \(id) ended", limit: limit) {
            guard let run = try await ledger.run(id), run.run.state != .active else { return nil }
            return run
        } orShow: {
            let jobs = try? await ledger.run(id)?.jobs.filter { !$0.state.isTerminal }
            return (jobs ?? []).map { "\($0.name) is \($0.state.rawValue): \($0.reason.text)" }.joined(separator: "; ")
        }
    }

    /// Waits until a job's function has begun, and not ended since.
    func started(_ job: String, _ run: LedgerRunDetail, after token: Int = 0) async throws -> History.Entry {
        try await until("\(job) of run \(run.run.id) has started") {
            try history.entries.last { $0.kind == .start && $0.run == run.run.id && $0.job == job && $0.token > token }
        }
    }

    /// Makes a job wait in the middle, until it is released.
    func hold(_ job: String) throws {
        try Data().write(to: folder.appending(path: "data/hold-\(job)"))
    }

    func release(_ job: String) throws {
        try FileManager.default.removeItem(at: folder.appending(path: "data/hold-\(job)"))
    }
}

extension LedgerRunDetail {
    func job(_ name: String) -> LedgerJob? { jobs.first { $0.name == name } }
}

extension FaultPoint {
    /// Whose it is.
    var program: PipelineProcesses.Program {
        rawValue.hasPrefix("worker.") ? .worker : rawValue.hasPrefix("ingest.") ? .ingest : .router
    }
}

/// A router, a worker or an ingest.
struct PipelineChild: Sendable {
    let process: ManagedProcess
    fileprivate let readyFile: URL

    var isReady: Bool { ReadyFile.readiness(of: readyFile, pid: process.pid) == .ready }

    func waitUntilReady() async throws {
        _ = try await until("\(process.command.name) is ready") {
            try process.checkIsRunning()
            return isReady ? true : nil
        }
    }

    /// As if the power had gone.
    func kill() async { await process.kill() }

    /// What it has written to its log.
    var log: String {
        guard let file = try? FileHandle(forReadingFrom: process.command.logFile) else { return "" }
        try? file.seek(toOffset: process.logStart)
        return String(decoding: (try? file.readToEnd()) ?? Data(), as: UTF8.self)
    }

    /// How this process sees a path that may lie on a disk of its own.
    func own(_ path: URL) -> URL { URL(filePath: "/proc/\(process.pid)/root").appending(path: path.path) }

    func waitUntilLogged(_ text: String, limit: Duration = .seconds(60)) async throws {
        _ = try await until("\(process.command.name) has said '\(text)'", limit: limit) { log.contains(text) ? true : nil }
    }
}

/// A file system in memory that only the process on it and its children can see.
struct SmallDisk {
    let megabytes: Int

    /// Needs a mount namespace; some containers forbid that.
    static let isPossible: Bool = {
        let process = Process()
        process.executableURL = URL(filePath: unshare[0])
        process.arguments = unshare.dropFirst() + ["mount", "-t", "tmpfs", "tmpfs", "/tmp"]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    private static let unshare = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount"]

    /// The program keeps its process id.
    func wrapping(_ command: Command) -> Command {
        var wrapped = command
        wrapped.executable = Self.unshare[0]
        let script = #"mount -t tmpfs -o "size=$1m" tmpfs "$STATE" && exec "$2""#
        wrapped.arguments = Self.unshare.dropFirst() + ["sh", "-c", script, "sh", "\(megabytes)", command.executable]
        return wrapped
    }
}
