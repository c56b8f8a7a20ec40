import AMQP
import Foundation
import Logging
import ServiceLifecycle
import Testing

/// A name that no other test and no other run uses.
func unique(_ name: String) -> String {
    "test.\(name).\(String(UInt64.random(in: .min ... .max), radix: 36))"
}

func classicQueue(_ name: String, _ arguments: AMQPTable = [:]) -> AMQPQueue {
    // The broker drops what a broken-off run leaves behind.
    AMQPQueue(name: name, arguments: arguments.merging(["x-queue-type": "classic", "x-expires": 600_000]) { $1 })
}

func message(to queue: String, _ text: String, mandatory: Bool = true, headers: AMQPTable = [:]) -> AMQPPublishing {
    AMQPPublishing(
        exchange: "",
        routingKey: queue,
        mandatory: mandatory,
        properties: AMQPProperties(headers: headers),
        body: Array(text.utf8),
    )
}

extension AMQPDelivery {
    var text: String { String(decoding: body, as: UTF8.self) }
}

/// Runs a client around `body` and shuts it down gracefully.
func withClient<R: Sendable>(
    _ topology: AMQPTopology = AMQPTopology(),
    uri: String? = nil,
    ready: Bool = true,
    log: LogBook? = nil,
    configure: (inout AMQPConfiguration) -> Void = { _ in },
    _ body: (AMQPClient) async throws -> R,
) async throws -> R {
    let uri = try uri ?? #require(Broker.current).uri
    var configuration = AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: uri)], connectionName: "amqp-tests")
    configure(&configuration)
    let logger = Logger(label: "amqp.test") { _ in log.map { $0 as any LogHandler } ?? SwiftLogNoOpLogHandler() }
    let client = AMQPClient(configuration: configuration, topology: topology, logger: logger)
    let group = ServiceGroup(configuration: .init(services: [.init(service: client)], logger: logger))
    return try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await group.run() }
        let result: Result<R, any Error>
        do {
            if ready { try await within(.seconds(60), "Connecting") { try await client.waitUntilReady() } }
            result = .success(try await body(client))
        } catch {
            result = .failure(error)
        }
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
        return try result.get()
    }
}

struct Late: Error, CustomStringConvertible {
    var description: String
}

/// Runs `body` with a deadline.
func within<R: Sendable>(
    _ limit: Duration,
    _ what: String,
    _ body: @escaping @Sendable () async throws -> R,
) async throws -> R {
    try await withThrowingTaskGroup(of: R.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            throw Late(description: "\(what) took more than \(limit)")
        }
        defer { group.cancelAll() }
        return try await group.next()!
    }
}

/// Polls until `condition` holds.
func eventually(
    within limit: Duration = .seconds(60),
    _ what: String,
    _ condition: () async throws -> Bool,
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw Late(description: "\(what): not after \(limit)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}

extension AMQPClient {
    /// Takes and acknowledges `count` messages.
    func take(_ count: Int, from queue: String, within limit: Duration = .seconds(60)) async throws -> [AMQPDelivery] {
        try await AMQPIntegrationTests.within(limit, "Taking \(count) messages") {
            try await self.consume(queue, prefetch: 1000) { deliveries in
                var taken: [AMQPDelivery] = []
                for await delivery in deliveries {
                    delivery.ack()
                    taken.append(delivery)
                    if taken.count == count { break }
                }
                return taken
            }
        }
    }

    /// Waits for a state of the connections.
    func wait(
        within limit: Duration = .seconds(60),
        for what: String,
        _ matches: @escaping @Sendable (AMQPConnectionState) -> Bool,
    ) async throws {
        try await eventually(within: limit, "The state \(what)") { matches(self.state) }
    }
}
