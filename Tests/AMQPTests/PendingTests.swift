import CoreMetrics
import Logging
import Synchronization
import Testing

@testable import AMQP

/// Whatever waits for the broker gets an answer, whatever happens to the connection, and within the limit that is stated for it.
@Suite(.timeLimit(.minutes(2)), .serialized) struct PendingTests {
    enum Kind: String, CaseIterable, Sendable {
        case publish, call, declare, inspect, consume
    }

    enum Transition: String, CaseIterable, Sendable {
        case cut, connectionClosed, channelClosed, drained, cancelledService, cancelledCaller, deadline
    }

    enum Answer: Equatable, Sendable {
        case error(AMQPError.Code, replyCode: Int?)
        /// The iteration ended.
        case ended
        /// The consumer consumes again.
        case goesOn
        case success
    }

    final class Answers: Sendable {
        private let state = Mutex<[Kind: Answer]>([:])

        var all: [Kind: Answer] { state.withLock { $0 } }

        subscript(kind: Kind) -> Answer? {
            get { state.withLock { $0[kind] } }
            set { state.withLock { $0[kind] = newValue } }
        }
    }

    static let table: [(Kind, Transition)] = Kind.allCases.flatMap { kind in
        // An iteration has no deadline: it waits for as long as its task likes.
        Transition.allCases.filter { kind != .consume || $0 != .deadline }.map { (kind, $0) }
    }

    private func expected(_ kind: Kind, _ transition: Transition) -> Answer {
        if kind == .consume {
            return switch transition {
            case .cut, .connectionClosed, .channelClosed: .goesOn
            default: .ended
            }
        }
        return switch transition {
        case .cut: .error(.connectionLost, replyCode: nil)
        case .connectionClosed: .error(.connectionLost, replyCode: 320)
        case .channelClosed: .error(.channelClosed, replyCode: 541)
        case .drained, .cancelledService: .error(.shutdown, replyCode: nil)
        case .cancelledCaller: .error(.cancelled, replyCode: nil)
        case .deadline: .error(.timeout, replyCode: nil)
        }
    }

    @Test(arguments: table)
    func `each pending thing is answered in each transition`(_ kind: Kind, _ transition: Transition) async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: transition == .deadline ? .milliseconds(300) : .seconds(60))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        let answers = Answers()
        let caller = Task { [self] in
            let result = await ask(kind, of: client, limit: transition == .deadline ? .milliseconds(300) : .seconds(60))
            answers[kind] = result
        }
        try await eventually { broker.isHolding(kind.rawValue) }
        try #require(answers[kind] == nil, "nothing may be answered before anything has happened")

        let start = ContinuousClock.now
        switch transition {
        case .cut: broker.cut()
        case .connectionClosed: broker.closeConnections(code: 320, text: "CONNECTION_FORCED - test")
        case .channelClosed: try broker.closeChannel(of: kind.rawValue, code: 541, text: "INTERNAL_ERROR - test")
        case .drained:
            // What can be drained is given the drain time, 300 ms here; a request without an answer ends with it.
            client.drain()
        case .cancelledService: service.cancel()
        case .cancelledCaller: caller.cancel()
        case .deadline: break
        }
        if expected(kind, transition) == .goesOn {
            try await eventually { broker.consumes == 2 }
            #expect(answers[kind] == nil)
            caller.cancel()
            await caller.value
        } else {
            try await eventually { answers[kind] != nil }
            #expect(answers[kind] == expected(kind, transition))
        }
        #expect(ContinuousClock.now - start < .seconds(5))
        service.cancel()
        _ = await service.result
        #expect(client.state == .closed)
    }

    @Test(arguments: Kind.allCases)
    func `a channel that the broker closes takes only its own with it`(_ victim: Kind) async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: .seconds(60))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        let answers = Answers()
        // A consumer that comes back waits until its topology is declared again, with what `declare` added.
        let kinds = Kind.allCases.filter { victim != .consume || $0 != .declare }
        let callers = kinds.map { kind in
            Task { [self] in
                let answer = await ask(kind, of: client, limit: .seconds(60))
                answers[kind] = answer
            }
        }
        try await eventually { kinds.allSatisfy { broker.isHolding($0.rawValue) } }
        try broker.closeChannel(of: victim.rawValue, code: 541, text: "INTERNAL_ERROR - test")
        if victim == .consume {
            try await eventually { broker.consumes == 2 }
            #expect(answers.all == [:])
        } else {
            try await eventually { !answers.all.isEmpty }
            #expect(answers.all == [victim: .error(.channelClosed, replyCode: 541)])
        }
        #expect(client.state == .open)
        for caller in callers { caller.cancel() }
        service.cancel()
        _ = await service.result
    }

    @Test func `before run, and while nothing can be reached, limits hold all the same`() async throws {
        let nowhere = try AMQPEndpoint(uri: "amqp://127.0.0.1:1")
        for runs in [false, true] {
            let configuration = AMQPConfiguration(
                endpoints: [nowhere],
                connectionName: "nowhere",
                publishTimeout: .milliseconds(200),
                requestTimeout: .milliseconds(200),
            )
            let client = AMQPClient(configuration: configuration, topology: AMQPTopology(), logger: silent)
            let service = runs ? Task { try await client.run() } : nil
            for kind in Kind.allCases where kind != .consume {
                let start = ContinuousClock.now
                let answer = await ask(kind, of: client, limit: .milliseconds(200))
                #expect(answer == .error(.timeout, replyCode: nil), "\(kind), runs: \(runs)")
                #expect(ContinuousClock.now - start < .seconds(2))
            }
            // A scope that ends before the client ever ran must not wait for it.
            try await client.consume("q", prefetch: 1) { _ in }
            service?.cancel()
            _ = await service?.result
        }
    }

    @Test func `a blocked broker shows in the states with its reason, holds publishers back, and lets them go`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let metrics = RecordedMetrics()
        let client = try withMetricsFactory(metrics) { try makeClient(broker, limit: .seconds(60)) }
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        #expect(metrics.value("amqp_client_blocked") == 0)
        broker.block("low on memory")
        for await state in client.states where state == .blocked(reason: "low on memory") { break }
        // Of the two connections either may hear it first.
        try await eventually { metrics.value("amqp_client_blocked") == 1 }
        let caller = Task { await self.ask(.publish, of: client, limit: .seconds(60)) }
        let transient = AMQPPublishing(exchange: "", routingKey: "transient", mandatory: false, body: [1])
        for _ in 0..<30_000 { client.publishTransient(transient) }
        let inspected = Task { await self.ask(.inspect, of: client, limit: .seconds(60)) }
        // Commands are looked at in order: when this has its answer, those before it have been handled, and not sent.
        let call = await ask(.call, of: client, limit: .milliseconds(200))
        #expect(call == .error(.timeout, replyCode: nil))
        #expect(!broker.isHolding("publish"))
        // A broker that reads nothing could only be given more and more of them.
        #expect(!broker.isHolding("inspect"))
        #expect(!broker.isHolding("transient"))
        #expect(metrics.value("amqp_client_dropped_total") == 30_000)
        broker.unblock()
        try await eventually { broker.isHolding("publish") && broker.isHolding("inspect") }
        try broker.confirm(1)
        #expect(await caller.value == .success)
        #expect(client.state == .open)
        #expect(metrics.value("amqp_client_blocked") == 0)
        #expect(metrics.value("amqp_client_published_total") == 1)
        #expect(metrics.value("amqp_client_confirmed_total") == 1)
        // An end while blocked is not shown as blocked for ever.
        broker.block("low on disk")
        try await eventually { metrics.value("amqp_client_blocked") == 1 }
        inspected.cancel()
        service.cancel()
        _ = await service.result
        #expect(metrics.value("amqp_client_blocked") == 0)
        // The stream of a client that has ended ends.
        var last: AMQPConnectionState?
        for await state in client.states { last = state }
        #expect(last == .closed)
    }

    @Test func `a broker that lives and does not answer is given up`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let topology = AMQPTopology(queues: [AMQPQueue(name: "held", arguments: ["x-queue-type": "classic"])])
        let client = try makeClient(broker, topology, limit: .milliseconds(300))
        let service = Task { try await client.run() }
        for await state in client.states {
            guard case .reconnecting(let error) = state else { continue }
            #expect(error.code == .connectionLost)
            #expect(error.message.contains("Declaring the queue \"held\""))
            break
        }
        service.cancel()
        _ = await service.result
    }

    @Test func `messages that are never confirmed do not keep the window from others`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: .milliseconds(500), window: 2)
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        let lost = AMQPPublishing(exchange: "", routingKey: "lost", body: [1])
        for outcome in await client.publish([lost, lost]) {
            #expect(throws: AMQPError.self) { try outcome.get() }
        }
        let caller = Task { await self.ask(.publish, of: client, limit: .seconds(60)) }
        try await eventually { broker.isHolding("publish") }
        // A confirm that comes late is for the message of its tag, and for no other.
        try broker.confirm(1)
        try broker.confirm(3)
        #expect(await caller.value == .success)
        service.cancel()
        _ = await service.result
    }

    @Test func `what was not declared is not taken for declared`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: .milliseconds(300))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        broker.block("low on memory")
        for await state in client.states where state == .blocked(reason: "low on memory") { break }
        for _ in 0..<2 {
            let answer = await ask(.declare, of: client, limit: .seconds(60))
            #expect(answer == .error(.timeout, replyCode: nil))
        }
        service.cancel()
        _ = await service.result
    }

    @Test func `a declaration that the broker refuses does not stand in the way of the next connect`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: .seconds(60))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        let declared = Task { await self.ask(.declare, of: client, limit: .seconds(60)) }
        try await eventually { broker.isHolding("declare") }
        try broker.closeChannel(of: "declare", code: 403, text: "ACCESS_REFUSED - test")
        #expect(await declared.value == .error(.accessRefused, replyCode: 403))
        broker.cut()
        let caller = Task { await self.ask(.publish, of: client, limit: .seconds(60)) }
        try await eventually { broker.isHolding("publish") }
        caller.cancel()
        service.cancel()
        _ = await service.result
    }

    @Test func `a queue named by the broker is made again only when it is gone`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, AMQPTopology(queues: [.serverNamed("control")]), limit: .seconds(60))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        let consumers = ["control", "consume"].map { queue in
            Task { try await client.consume(queue, prefetch: 1) { deliveries in for await _ in deliveries {} } }
        }
        try await eventually { broker.isHolding("named") && broker.consumes == 1 }
        try broker.closeChannel(of: "consume", code: 541, text: "INTERNAL_ERROR - test")
        try await eventually { broker.consumes == 2 }
        // Another one would fill up with nobody to take from it.
        #expect(broker.namedQueues == 1)
        try broker.closeChannel(of: "named", code: 404, text: "NOT_FOUND - test")
        try await eventually { broker.namedQueues == 2 }
        for consumer in consumers { consumer.cancel() }
        service.cancel()
        _ = await service.result
    }

    @Test func `a broker that does not answer the goodbye holds up no stop`() async throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let client = try makeClient(broker, limit: .seconds(60))
        let service = Task { try await client.run() }
        try await client.waitUntilReady()
        broker.ignoreGoodbyes()
        let start = ContinuousClock.now
        service.cancel()
        // Both connections at once: two seconds and a little.
        try await eventually { client.state == .closed }
        #expect(ContinuousClock.now - start < .seconds(6))
        _ = await service.result
    }

    @Test func `a topology that 4.x refuses ends the service with the reason`() async throws {
        let topology = AMQPTopology(queues: [AMQPQueue(name: "q")])
        let endpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1:1")
        let configuration = AMQPConfiguration(endpoints: [endpoint], connectionName: "refused")
        let client = AMQPClient(configuration: configuration, topology: topology, logger: silent)
        let error = await #expect(throws: AMQPError.self) { try await client.run() }
        #expect(error?.code == .invalidTopology)
        #expect(error?.message.contains("x-queue-type") == true)
    }

    // MARK: -

    private let silent = Logger(label: "amqp.test") { _ in SwiftLogNoOpLogHandler() }

    private func makeClient(
        _ broker: FakeBroker,
        _ topology: AMQPTopology = AMQPTopology(),
        limit: Duration,
        window: Int = 512,
    ) throws -> AMQPClient {
        let configuration = AMQPConfiguration(
            endpoints: [try AMQPEndpoint(uri: "amqp://127.0.0.1:\(broker.port)")],
            connectionName: "pending",
            confirmWindow: window,
            publishTimeout: limit,
            backoff: AMQPConfiguration.Backoff(initial: .milliseconds(10), maximum: .milliseconds(50)),
            requestTimeout: limit,
            drainTimeout: .milliseconds(300),
        )
        return AMQPClient(configuration: configuration, topology: topology, logger: silent)
    }

    private func ask(_ kind: Kind, of client: AMQPClient, limit: Duration) async -> Answer {
        do throws(AMQPError) {
            switch kind {
            case .publish: try await client.publish(AMQPPublishing(exchange: "", routingKey: "publish", body: [1]))
            case .call: _ = try await client.call(AMQPPublishing(exchange: "", routingKey: "call", body: [1]), timeout: limit)
            case .declare:
                try await client.declare(AMQPTopology(queues: [AMQPQueue(name: "held", arguments: ["x-queue-type": "classic"])]))
            case .inspect: _ = try await client.inspect("held")
            case .consume:
                do {
                    try await client.consume("consume", prefetch: 1) { deliveries in
                        for await delivery in deliveries { delivery.ack() }
                    }
                } catch {
                    return .error((error as? AMQPError)?.code ?? .unexpectedFrame, replyCode: nil)
                }
                return .ended
            }
            return .success
        } catch {
            return .error(error.code, replyCode: error.replyCode)
        }
    }

    private func eventually(_ condition: () -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition() {
            try #require(ContinuousClock.now < deadline)
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
