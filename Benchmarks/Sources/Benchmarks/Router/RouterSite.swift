import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Synchronization

/// What is started as the router.
struct RouterProgram {
    var executable: String
    /// The folder that holds the package `dcm_processor`.
    var pythonPackage: String
    var python: String
}

/// A broker, a registry with one service, and a router with a ledger of its own.
///
/// The service asks its callback about studies and makes one job of each, which follows the export. Nobody is asked about a series, so that
/// its run ends in planning.
final class RouterSite: Sendable {
    let broker: PrivateBroker
    /// For all that the router's neighbours do.
    let client: AMQPClient
    let program: RouterProgram
    let folder: URL
    private let process = Mutex<ManagedProcess?>(nil)
    private let lastEvent = Atomic(0)

    static let jobsPerStudy = 2
    /// Where the jobs of the service and the exports go.
    static let queue = PipelineQueue.jobs(channel: "default")

    private init(program: RouterProgram, folder: URL, broker: PrivateBroker, client: AMQPClient) {
        self.program = program
        self.folder = folder
        self.broker = broker
        self.client = client
    }

    /// - Parameter registry: makes the registry's files in a folder that is not there yet; `folder` is the site's.
    static func with(
        _ program: RouterProgram, registry: (_ registry: URL, _ folder: URL) throws -> Void = { registry, _ in try makeRegistry(registry) },
        _ body: (RouterSite) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try registry(folder.appending(path: "registry"), folder)
        try await PrivateBroker.withTemporary("bench-broker") { broker in
            try await AMQPClient.with(broker.amqpURL, topology: PipelineTopology.router(channels: ["default"])) { client in
                let site = RouterSite(program: program, folder: folder, broker: broker, client: client)
                do {
                    try await body(site)
                } catch {
                    await site.stopRouter()
                    throw error
                }
                await site.stopRouter()
            }
        }
    }

    private static func makeRegistry(_ registry: URL) throws {
        let service = registry.appending(path: "noop")
        try FileManager.default.createDirectory(at: service, withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: registry.appending(path: "settings.json"))
        let settings = #"{"jobName": "noop", "worker": "noop.worker", "callback": "noop.callback", "events": ["study"]}"#
        try Data(settings.utf8).write(to: service.appending(path: "settings.json"))
        try Data("def callback(**_):\n    return True, {'limit': 3}\n".utf8).write(to: service.appending(path: "__init__.py"))
    }

    // MARK: The router

    /// Returns when it is ready.
    func startRouter() async throws {
        let router = try await start("router", program.executable)
        process.withLock { $0 = router }
    }

    /// Starts one of the product's programs and returns when it is ready.
    func start(_ name: String, _ executable: String, _ more: [String: String] = [:]) async throws -> ManagedProcess {
        let own = [
            "AMQP_URL": broker.amqpURL, "STATE": folder.appending(path: "state").path, "REGISTRY": folder.appending(path: "registry").path,
            "DATA": folder.appending(path: "data").path, "LOGS": folder.appending(path: "logs").path,
            "PYTHONHOST_PATH": program.pythonPackage, "PYTHON": program.python, "LOG_LEVEL": "warning",
        ]
        return try await .ready(name, executable, in: folder, own.merging(more) { $1 })
    }

    func stopRouter() async {
        let router = process.withLock { process in
            defer { process = nil }
            return process
        }
        await router?.terminate()
    }

    /// Processor seconds of the router so far, without its Python.
    var routerSeconds: Double { process.withLock { $0?.pid }.flatMap(ProcessUsage.processorSeconds(of:)) ?? .nan }
    var routerPid: pid_t? { process.withLock { $0?.pid } }
    var routerMemory: ProcessUsage.Memory? { process.withLock { $0?.pid }.flatMap(ProcessUsage.memory(of:)) }

    // MARK: Events

    /// Sends what ingest would.
    func publishEvents(_ count: Int, level: ResourceLevel) async throws {
        var left = count
        while left > 0 {
            let batch = (0..<min(left, 500)).map { _ in event(level: level) }
            for outcome in await client.publish(batch) { try outcome.get() }
            left -= batch.count
        }
    }

    private func event(level: ResourceLevel) -> AMQPPublishing {
        let number = lastEvent.add(1, ordering: .relaxed).newValue
        // As many tags as a study of one series has.
        let tags = Dictionary(uniqueKeysWithValues: (0..<40).map { ("Tag\($0)", JSONValue.string("value \($0) of \(number)")) })
        let event = EventMessage(
            server: "orthanc", level: level, resourceID: "resource-\(number)", snapshot: "snapshot-\(number)", observedAt: Date(),
            series: [.init(id: "series-\(number)", instances: 100)],
            headers: .object(["id": .string("resource-\(number)"), "tags": .object(tags)]))
        return .pipeline(
            exchange: PipelineExchange.ingest, routingKey: PipelineKey.ingest(level: level, isFiltered: false), type: EventMessage.type,
            body: event, messageID: event.snapshot)
    }

    // MARK: Outcomes

    /// How many runs the ledger has; in one state, or in any.
    func runs(_ state: RunState? = nil) async throws -> Int {
        let runs = try await totals().runs
        return state.map { runs[$0] ?? 0 } ?? runs.values.reduce(0, +)
    }

    /// How many jobs of a channel are in a state.
    func jobs(_ state: JobState, of channel: String) async throws -> Int {
        try await totals().jobs.reduce(0) { $0 + ($1.state == state && $1.channel == channel ? $1.count : 0) }
    }

    private func totals() async throws -> LedgerTotals {
        try await LedgerReader(path: Ledger.file(in: folder.appending(path: "state")).path).totals()
    }

    func waitForRuns(_ count: Int, _ state: RunState? = nil, within limit: Duration = .seconds(300)) async throws {
        let failure = StackError(
            .timedOut, "The ledger did not have \(count) runs after \(limit).", logFile: folder.appending(path: "router.log"))
        try await poll(for: limit, every: .milliseconds(20), orThrow: failure) {
            try await runs(state) >= count ? true : nil
        }
    }
}
