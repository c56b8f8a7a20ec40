import AMQP
import Bootstrap
import Foundation
import Jobs
import Logging
import Pipeline
import PythonHost
import Synchronization

@testable import Worker

struct Unavailable: Error {}

/// A broker that hands over what a test puts into its queues.
final class FakeSource: DeliverySource {
    private let queues = Mutex<[String: (AsyncStream<AMQPDelivery>, AsyncStream<AMQPDelivery>.Continuation)]>([:])

    func put(_ delivery: AMQPDelivery, into queue: String) {
        stream(queue).1.yield(delivery)
    }

    func consume(_ queue: String, prefetch: Int, _ take: (AMQPDelivery) async -> Void) async throws {
        for await delivery in stream(queue).0 { await take(delivery) }
        // A stream whose reader was cancelled has ended for good; the queue has not.
        queues.withLock { $0[queue] = nil }
        try Task.checkCancellation()
    }

    func waitUntilReady() async throws {}

    private func stream(_ queue: String) -> (AsyncStream<AMQPDelivery>, AsyncStream<AMQPDelivery>.Continuation) {
        queues.withLock { queues in
            if let known = queues[queue] { return known }
            let (stream, continuation) = AsyncStream.makeStream(of: AMQPDelivery.self)
            queues[queue] = (stream, continuation)
            return (stream, continuation)
        }
    }
}

/// A router that answers as a test says, and remembers what it was told.
final class FakeRouter: RouterLink {
    struct State: Sendable {
        var claims: [ClaimMessage] = []
        var renewals: [RenewMessage] = []
        var results: [ResultMessage] = []
        var putAside: [String] = []
        /// Claims that fail before one is answered.
        var deafClaims = 0
        var deafReports = 0
        /// The ids of the questions for the next job, each as often as it was asked.
        var questions: [String] = []
        /// What results that ask for the next job are answered with, in turn.
        var followers: [JobOrder] = []
        var leadsOn: Bool?
        var isBrokerAway = false
        var refusal: Reason?
        var renewReply = RenewReply()
        var leaseSeconds = 30
        var definition = JobDefinition(name: "job", service: "svc", stage: .services, entry: "svc.worker")
    }

    let state: Mutex<State>

    init(_ change: (inout State) -> Void = { _ in }) {
        var state = State()
        change(&state)
        self.state = Mutex(state)
    }

    func claim(_ claim: ClaimMessage) async throws -> ClaimReply {
        try state.withLock { state in
            state.claims.append(claim)
            if state.isBrokerAway || state.claims.count <= state.deafClaims { throw Unavailable() }
            if let refusal = state.refusal { return .no(refusal) }
            var order = Self.order(claim.job, attempt: claim.attempt, definition: state.definition)
            order.leaseSeconds = state.leaseSeconds
            order.leadsOn = state.leadsOn
            return .go(order)
        }
    }

    func renew(_ renewal: RenewMessage, limit: Duration) async throws -> RenewReply {
        try state.withLock { state in
            if state.isBrokerAway { throw Unavailable() }
            state.renewals.append(renewal)
            return state.renewReply
        }
    }

    func report(_ result: ResultMessage) async throws -> ClaimReply? {
        try state.withLock { state in
            if state.isBrokerAway { throw Unavailable() }
            if let next = result.next, next.isWithdrawn != true { state.questions.append(next.id) }
            if state.deafReports > 0 {
                state.deafReports -= 1
                throw Unavailable()
            }
            state.results.append(result)
            guard let next = result.next, next.isWithdrawn != true else { return nil }
            return state.followers.isEmpty ? .no(Reason("nothing-follows", "Nothing follows.")) : .go(state.followers.removeFirst())
        }
    }

    func putAside(_ delivery: AMQPDelivery, queue: String, reason: String) async throws {
        state.withLock { $0.putAside.append("\(queue): \(reason)") }
    }

    static func order(_ job: JobID, attempt: Int, definition: JobDefinition) -> JobOrder {
        JobOrder(
            job: job,
            attempt: attempt,
            token: attempt * 10,
            definition: definition,
            headers: ["id": "h"],
            addedParams: [:],
            source: JobSource(server: "orthanc", level: .study, resourceID: "x", series: [], dcmpath: "dicom/x"),
            leaseSeconds: 30
        )
    }
}

/// Jobs that end when a test says so, or when their task is cancelled.
final class FakeRunner: JobRunner {
    struct State: Sendable {
        var started: [JobOrder] = []
        var running = 0
        var peak = 0
        var mayEnd = false
        /// How many jobs may end, whichever look first.
        var ends = 0
        var isShutDown = false
        var isStillMine: (@Sendable () -> Bool)?

        mutating func takeEnd() -> Bool {
            guard !mayEnd, ends > 0 else { return mayEnd }
            ends -= 1
            return true
        }
    }

    let state = Mutex(State())

    init(mayEnd: Bool = true) {
        state.withLock { $0.mayEnd = mayEnd }
    }

    func finishAll() { state.withLock { $0.mayEnd = true } }
    func finishOne() { state.withLock { $0.ends += 1 } }

    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        let start = Date()
        state.withLock {
            $0.isStillMine = isStillMine
            $0.started.append(order)
            $0.running += 1
            $0.peak = max($0.peak, $0.running)
        }
        defer { state.withLock { $0.running -= 1 } }
        onProgress(RenewMessage.Progress(fraction: 0.5))
        while !state.withLock({ $0.takeEnd() }) {
            if Task.isCancelled { return JobExit(outcome: .cancelled, kind: .cancelled, startedAt: start, finishedAt: Date()) }
            try? await Task.sleep(for: .milliseconds(2))
        }
        return JobExit(outcome: .succeeded, kind: .completed, startedAt: start, finishedAt: Date())
    }

    func shutdown() async { state.withLock { $0.isShutDown = true } }
}

extension PythonJobs {
    /// With environments beside MODULES.
    init(_ configuration: PythonHostConfiguration, _ folders: ServiceFolders, killGrace: Duration, logger: Logger) {
        let environments = EnvironmentsConfiguration(
            folder: folders.modules.deletingLastPathComponent().appending(path: "environments"), modules: folders.modules,
            logs: folders.logs, python: configuration.python, variables: configuration.environment)
        self.init(
            hosts: WarmHosts(configuration: configuration, logger: logger), configuration: configuration,
            environments: ServiceEnvironments(configuration: environments, logger: logger), folders: folders, killGrace: killGrace)
    }
}

/// What became of a delivery.
final class Settlements: Sendable {
    private let list = Mutex<[AMQPSettlement]>([])
    var all: [AMQPSettlement] { list.withLock { $0 } }

    func delivery(_ hint: HintMessage) -> AMQPDelivery {
        delivery(PipelineJSON.encode(hint), type: HintMessage.type)
    }

    func delivery(_ body: [UInt8], type: String?) -> AMQPDelivery {
        AMQPDelivery(properties: AMQPProperties(type: type), body: body) { settlement in self.list.withLock { $0.append(settlement) } }
    }
}

/// Waits for a condition that other tasks bring about.
func eventually(within limit: Duration = .seconds(60), _ condition: () -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(2))
    }
    return condition()
}
