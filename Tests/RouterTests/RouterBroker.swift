import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry
import Stack
import Testing

@testable import Bootstrap
@testable import Router

/// Tests of the whole router with a real broker.
@Suite(.serialized, .timeLimit(.minutes(3)), .routerBroker)
enum RouterBrokerTests {}

/// A private node that lives as long as the suite.
struct RouterBrokerTrait: SuiteTrait, TestScoping {
    @TaskLocal static var node: PrivateBroker?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        try await PrivateBroker.withTemporary("router-tests") { try await Self.$node.withValue($0, operation: function) }
    }
}

extension Trait where Self == RouterBrokerTrait {
    static var routerBroker: Self { RouterBrokerTrait() }
}

/// What one test works with: a folder with registry and state, a client of its own, and a router if it wants one.
struct RouterStage: Sendable {
    let folder: URL
    let amqpURL: String
    let client: AMQPClient
    private let logger: Logger

    var registry: URL { folder.appending(path: "registry") }
    var state: URL { folder.appending(path: "state") }
    var reader: LedgerReader { LedgerReader(path: Ledger.file(in: state).path) }

    /// A virtual host of its own would be cleaner and takes two seconds; each test empties the queues instead.
    static func with(
        services: [String: String] = ["svc": RouterStage.service()],
        callback: String = "def callback(**_):\n    return True\n",
        _ body: @Sendable (RouterStage) async throws -> Void
    ) async throws {
        let node = try #require(RouterBrokerTrait.node)
        let folder = FileManager.default.temporaryDirectory.appending(path: "router-stage-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder.appending(path: "registry"), withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: folder.appending(path: "registry/settings.json"))
        for (name, settings) in services {
            let place = folder.appending(path: "registry/\(name)")
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            try Data(settings.utf8).write(to: place.appending(path: "settings.json"))
            try Data(callback.utf8).write(to: place.appending(path: "__init__.py"))
        }
        var logger = Logger(label: "router-test")
        logger.logLevel = .error
        let topology = PipelineTopology.router(channels: ["default"])
        let client = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: node.amqpURL)], connectionName: "router-test"),
            topology: topology, logger: logger)
        let stage = RouterStage(folder: folder, amqpURL: node.amqpURL, client: client, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await client.run() }
            defer { group.cancelAll() }
            try await client.waitUntilReady()
            for queue in ["ingest", "claims", "results", "commands", "jobs.default", "dead", "dead.record"] {
                try await stage.drain("dcm.\(queue).v1")
            }
            try await body(stage)
        }
    }

    static func service(_ level: String = "study") -> String {
        #"{"jobName": "work", "worker": "svc.work", "callback": "svc.callback", "events": ["\#(level)"]}"#
    }

    /// A router inside this process, for the time of `body`.
    func withRouter(
        _ configuration: RouterConfiguration, python: String = RouterStage.python, _ body: @Sendable () async throws -> Void
    ) async throws {
        let broker = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: amqpURL)], connectionName: "router"),
            topology: PipelineTopology.router(channels: ["default"]), logger: logger)
        let context = ServiceContext(name: "router", settings: .environment(), logger: logger)
        let router = RouterService(
            broker: broker, ledger: try Ledger(folder: state), planner: planner(python: python), configuration: configuration,
            readiness: context.readiness, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await broker.run() }
            group.addTask { try await router.run() }
            defer { group.cancelAll() }
            try await body()
        }
    }

    func planner(python: String = RouterStage.python) -> EventPlanner {
        let host = PythonHostConfiguration(
            python: python, hostPath: Self.pythonPackage, root: registry, environment: ["PATH": "/usr/bin:/bin"])
        return EventPlanner(
            catalog: ServiceCatalogSource(registry: registry, settings: registry.appending(path: "settings.json")),
            callbacks: CallbackHost(configuration: host, logger: logger), logger: logger)
    }

    static let python = ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3"

    static let checkout = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let pythonPackage = checkout.appending(path: "python")

    // MARK: What the neighbours do

    func publish(_ event: EventMessage) async throws {
        try await client.publish(
            .pipeline(
                exchange: PipelineExchange.ingest, routingKey: PipelineKey.ingest(level: event.level, isFiltered: false),
                type: EventMessage.type, body: event, messageID: event.snapshot))
    }

    static func event(_ snapshot: String, level: ResourceLevel = .study) -> EventMessage {
        EventMessage(
            server: "orthanc", level: level, resourceID: "r-\(snapshot)", snapshot: snapshot, observedAt: Date(),
            series: [.init(id: "x", instances: 1)], headers: ["id": .string("r-\(snapshot)")])
    }

    /// What a person asks for.
    func order(_ action: CommandMessage.Action, _ target: String) async throws {
        let command = CommandMessage(id: UUID().uuidString, action: action, target: target, actor: "zoe", at: Date())
        try await client.publish(
            .pipeline(exchange: PipelineExchange.router, routingKey: PipelineKey.command, type: CommandMessage.type, body: command))
    }

    func claim(_ hint: HintMessage) async throws -> ClaimReply {
        let claim = ClaimMessage(
            job: hint.job, attempt: hint.attempt, dispatch: hint.dispatch, worker: "w1", id: UUID().uuidString)
        let reply = try await client.call(
            .pipeline(
                exchange: PipelineExchange.router, routingKey: PipelineKey.claim, type: ClaimMessage.type, body: claim, persistent: false),
            timeout: .seconds(10))
        return try PipelineJSON.decode(ClaimReply.self, from: reply.body)
    }

    func report(_ order: JobOrder) async throws {
        let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: Date(), finishedAt: Date())
        let result = ResultMessage(job: order.job, attempt: order.attempt, token: order.token, worker: "w1", exit: exit)
        try await client.publish(
            .pipeline(exchange: PipelineExchange.router, routingKey: PipelineKey.result, type: ResultMessage.type, body: result))
    }

    /// Takes everything off a queue.
    func drain(_ queue: String) async throws {
        try await client.consume(queue, prefetch: 100) { deliveries in
            let ending = Task {
                while try await client.inspect(queue).messages > 0 { try await Task.sleep(for: .milliseconds(10)) }
            }
            let taking = Task { for await delivery in deliveries { delivery.ack() } }
            try await ending.value
            taking.cancel()
        }
    }

    /// Asks again until there is an answer; the limit only says when to give up.
    static func until<Value>(
        _ what: String, within limit: Duration = .seconds(60), _ answer: () async throws -> Value?
    ) async throws
        -> Value
    {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if let value = try await answer() { return value }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw NotYet(description: "After \(limit): not \(what).")
    }

    struct NotYet: Error, CustomStringConvertible {
        let description: String
    }
}
