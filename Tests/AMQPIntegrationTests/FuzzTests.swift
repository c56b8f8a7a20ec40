import AMQP
import Foundation
import Stack
import TestSupport
import Testing

/// Bytes that no broker would send. Whatever comes, the process lives, its memory stays bounded, and the client comes back when the
/// broker behaves again.
///
///     DCM_FUZZ_CASES=100000 swift test --filter FuzzTests     # a soak
///     DCM_SEED=42 DCM_FUZZ_CASES=1 swift test --filter FuzzTests  # case 42 again
@Suite(.serialized, .timeLimit(.minutes(60)))
struct FuzzTests {
    private static var cases: Int {
        ProcessInfo.processInfo.environment["DCM_FUZZ_CASES"].flatMap(Int.init) ?? 1500
    }

    static func configure(_ configuration: inout AMQPConfiguration) {
        configuration.publishTimeout = .seconds(5)
        configuration.connectTimeout = .seconds(2)
        configuration.drainTimeout = .seconds(2)
        configuration.maximumBodySize = 1 << 20
        configuration.backoff = .init(initial: .milliseconds(1), maximum: .milliseconds(2))
    }

    @Test func `whatever comes after the login, the client lives and comes back`() async throws {
        let seed = SeededGenerator.runSeed
        let goes = Counter()
        // Connection n gets case n, so that a seed and a number give the same bytes again.
        let broker = try ScriptedBroker { _ in
            let number = goes.increment()
            guard number <= Self.cases else { return nil }
            var fuzzer = FrameFuzzer(seed: seed &+ UInt64(number - 1))
            return fuzzer.conversation()
        }
        try await survive(broker, "after the login, seed \(seed)") { broker.scripted >= Self.cases }
    }

    @Test func `whatever comes during the login, the client lives and comes back`() async throws {
        let seed = SeededGenerator.runSeed
        let cases = Self.cases / 3
        let broker = try ScriptedBroker { frame, connection in
            guard connection <= cases else { return frame }
            var fuzzer = FrameFuzzer(seed: seed &+ UInt64(connection) &* 3 &+ UInt64(frame[10]))
            var random = SeededGenerator(seed: seed &+ UInt64(connection))
            switch Int.random(in: 0..<6, using: &random) {
            case 0: return fuzzer.conversation()
            case 1: return Self.start(with: fuzzer.table(depth: 0))
            case 2: return Self.tune(&random)
            default: return fuzzer.mutate(frame)
            }
        } script: { _ in
            nil
        }
        // A login that is cut short is waited for as long as this.
        let configure: @Sendable (inout AMQPConfiguration) -> Void = { $0.connectTimeout = .milliseconds(200) }
        try await survive(broker, "during the login, seed \(seed)", configure) { broker.accepted >= cases }
    }

    /// The C library keeps memory for each channel number that it ever sees: 65,535 of them are 8 GB.
    @Test(arguments: [1, 2, 3] as [UInt8])
    func `a frame on a channel that nobody opened ends the connection`(type: UInt8) async throws {
        let broker = try ScriptedBroker { connection in
            guard connection <= 4 else { return nil }
            guard type > 1 else { return FrameWriter.method(1000, 20, 41) }
            var header = FrameWriter()
            header.long(60 << 16)
            header.longLong(0)
            header.short(0)
            return FrameWriter.frame(type, 1000, header.bytes)
        }
        let uri = "amqp://guest:guest@127.0.0.1:\(broker.port)/test"
        try await withClient(uri: uri, ready: false, configure: Self.configure) { client in
            try await client.consume("q", prefetch: 1) { _ in
                let errors = Task {
                    var errors: [AMQPError] = []
                    for await state in client.states {
                        if case .reconnecting(let error) = state { errors.append(error) }
                    }
                    return errors
                }
                try await eventually("The broker behaves") { broker.accepted > 4 && client.state == .open }
                errors.cancel()
                let seen = await errors.value
                #expect(seen.contains { $0.code == .unexpectedFrame }, "\(seen)")
                #expect(!seen.contains { $0.replyCode == 320 }, "The script was heard to its end: \(seen)")
            }
        }
    }

    /// A greeting with these bytes as the table of its properties.
    private static func start(with table: [UInt8]) -> [UInt8] {
        FrameWriter.method(0, 10, 10) {
            $0.octet(0)
            $0.octet(9)
            $0.longString(table)
            $0.longString(Array("PLAIN".utf8))
            $0.longString(Array("en_US".utf8))
        }
    }

    /// Limits that no client can keep.
    private static func tune(_ random: inout SeededGenerator) -> [UInt8] {
        let (channels, frame, heartbeat) = (
            [0, 1, 2, 3, 65_535].randomElement(using: &random)! as UInt16,
            [0, 1, 7, 8, 9, 20, 100, 4095, 4096, .max].randomElement(using: &random)! as UInt32,
            [0, 1, 65_535].randomElement(using: &random)! as UInt16
        )
        return FrameWriter.method(0, 10, 30) {
            $0.short(channels)
            $0.long(frame)
            $0.short(heartbeat)
        }
    }

    /// Runs a client with a consumer and a publisher against the broker until `isOver`; then the broker behaves.
    private func survive(
        _ broker: ScriptedBroker,
        _ name: String,
        _ configure: @Sendable (inout AMQPConfiguration) -> Void = { _ in },
        until isOver: @escaping @Sendable () -> Bool,
    ) async throws {
        let uri = "amqp://guest:guest@127.0.0.1:\(broker.port)/test"
        let start = ContinuousClock.now
        try await withClient(
            AMQPTopology(queues: [classicQueue("q")]),
            uri: uri,
            ready: false,
            configure: {
                Self.configure(&$0)
                configure(&$0)
            }
        ) { client in
            let publisher = Task {
                while !Task.isCancelled {
                    _ = await client.publish((0..<3).map { message(to: "q", "\($0)") })
                    _ = try? await client.call(message(to: "q", "?"), timeout: .milliseconds(50))
                    _ = try? await client.inspect("q")
                }
            }
            let consumed = Counter()
            try await client.consume("q", prefetch: 10) { deliveries in
                let consumer = Task {
                    for await delivery in deliveries {
                        delivery.ack()
                        consumed.increment()
                    }
                }
                let codes = Task {
                    var codes: Set<String> = []
                    for await state in client.states {
                        if case .reconnecting(let error) = state { codes.insert("\(error.code)") }
                    }
                    return codes
                }
                // The pools have grown once every kind of frame was seen.
                try await eventually(within: .seconds(600), "\(name): the first cases") { broker.accepted > 100 }
                let memory = Resources.residentMemory
                try await eventually(within: .seconds(3000), "\(name): the cases") { isOver() }
                let took = ContinuousClock.now - start
                let growth = Resources.residentMemory - memory
                publisher.cancel()
                await publisher.value
                try await eventually("\(name): the client is open again (\(client.state))") { client.state == .open }
                try await client.publish(message(to: "q", "after"))
                let before = consumed.current
                try await eventually("\(name): deliveries go on") { consumed.current > before }
                codes.cancel()
                consumer.cancel()
                let seen = await codes.value
                let summary = "\(broker.accepted) connections in \(took.seconds), memory grew by \(growth.mebibytes)"
                print("  \(name): \(summary), ended with \(seen.sorted())")
                #expect(seen.isSubset(of: ["connectionLost", "connectionFailed", "unexpectedFrame", "channelClosed", "authentication"]))
                #expect(growth < 64 << 20)
            }
        }
    }
}

extension AMQPBrokerTests.Fault {
    /// What a real broker says, damaged on its way: frames of a busy connection, in its own order. Which frame a case meets depends on the
    /// traffic; what it does to it, on the seed.
    @Test func `frames of a real broker damaged on their way: the client lives and comes back`() async throws {
        let seed = SeededGenerator.runSeed
        let node = try #require(Broker.current?.node)
        let (damaged, frames) = (Counter(), Counter())
        let healthy = Counter(1)
        let proxy = try FaultProxy(to: node.port) { frame, _ in
            // One in eight; a login has four, and most connections get through it.
            guard healthy.current == 0, frames.increment() % 8 == 0 else { return frame }
            var fuzzer = FrameFuzzer(seed: seed &+ UInt64(damaged.increment()))
            return damaged.current % 4 == 0 ? fuzzer.conversation() + frame : fuzzer.mutate(frame)
        }
        let uri = "amqp://\(node.user):\(node.password)@127.0.0.1:\(proxy.port)/\(node.virtualHost)"
        let queue = unique("fuzz")
        let topology = AMQPTopology(queues: [classicQueue(queue)])
        try await withClient(topology, uri: uri, configure: { FuzzTests.configure(&$0) }) { client in
            let publisher = Task {
                while !Task.isCancelled { _ = await client.publish((0..<5).map { message(to: queue, "\($0)", headers: ["n": 1]) }) }
            }
            let consumer = Task {
                try await client.consume(queue, prefetch: 10) { deliveries in
                    for await delivery in deliveries { delivery.ack() }
                }
            }
            let memory = Resources.residentMemory
            _ = healthy.decrement()
            var (seen, since) = (0, ContinuousClock.now)
            try await eventually(within: .seconds(60), "The cases, seed \(seed): \(damaged.current), \(client.state)") {
                // A frame that says it is longer than it is swallows what follows, for long: nothing is learned from that.
                if damaged.current > seen { (seen, since) = (damaged.current, .now) }
                if .now - since > .milliseconds(200) {
                    proxy.reset()
                    since = .now
                }
                return damaged.current >= 100
            }
            healthy.increment()
            // The last case may be such a frame too, and would swallow what a healthy broker says.
            proxy.reset()
            publisher.cancel()
            await publisher.value
            try await client.wait(for: "open") { $0 == .open }
            try await client.publish(message(to: queue, "after"))
            consumer.cancel()
            _ = await consumer.result
            let growth = Resources.residentMemory - memory
            let summary = "\(damaged.current) cases, \(proxy.accepted) connections, memory grew by \(growth.mebibytes)"
            print("  real frames damaged, seed \(seed): \(summary)")
            #expect(growth < 64 << 20)
        }
    }
}
