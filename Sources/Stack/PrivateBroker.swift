package import Foundation
import Synchronization

/// A RabbitMQ node for one test or one person: own folder, ports, cookie, user; loopback only.
///
///     let broker = try await PrivateBroker.start(in: folder)
///     defer { await broker.stop() }
///     connect(to: broker.amqpURL)
///
/// Addresses and credentials stay the same over `kill()`, `stop()` and `restart()`; what the node has stored as durable does too.
package final class PrivateBroker: Sendable {
    package let node: BrokerNode
    private let processes = Mutex<(portMapper: ManagedProcess?, server: ManagedProcess?)>((nil, nil))

    package var amqpURL: String { node.amqpURL }
    package var port: UInt16 { node.ports.amqp }
    package var user: String { node.user }
    package var password: String { node.password }
    package var virtualHost: String { node.virtualHost }
    /// Nil unless started with `management: true`.
    package var managementURL: String? { node.management ? node.managementURL : nil }
    /// The Erlang machine while it runs.
    package var pid: pid_t? { processes.withLock { $0.server }?.isRunning == true ? node.nodePid : nil }

    private init(node: BrokerNode) {
        self.node = node
    }

    /// Starts a node and returns when it logs its user in: 3 to 8 seconds, some more with `management`.
    ///
    /// - Parameters:
    ///   - folder: made when missing; holds rabbitmq.conf, broker.log and the node's data.
    ///   - configuration: more lines for rabbitmq.conf, such as `heartbeat = 5`.
    /// - Throws: ``StackError``, with the last lines of broker.log.
    package static func start(
        in folder: URL,
        management: Bool = false,
        virtualHost: String = "dcm",
        configuration: [String] = [],
        within limit: Duration = .seconds(90),
    ) async throws -> PrivateBroker {
        let node = BrokerNode(
            folder: folder,
            ports: try .free(),
            virtualHost: virtualHost,
            management: management,
            extraConfiguration: configuration,
        )
        let broker = PrivateBroker(node: node)
        do {
            try await broker.launch(within: limit)
        } catch {
            await broker.stop()
            throw error
        }
        return broker
    }

    /// Runs `body` with a node in a temporary folder of its own; afterwards both are gone.
    ///
    /// - Parameter name: the beginning of the folder's name, for who finds it.
    package static func withTemporary<Value>(
        _ name: String, management: Bool = false, _ body: (PrivateBroker) async throws -> Value
    ) async throws -> Value {
        let folder = FileManager.default.temporaryDirectory.appending(path: "\(name)-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let broker = try await start(in: folder, management: management)
        do {
            let value = try await body(broker)
            await broker.stop()
            return value
        } catch {
            await broker.stop()
            throw error
        }
    }

    private func launch(within limit: Duration) async throws {
        try node.writeFiles()
        FileSystem.remove(node.pidFile)
        if processes.withLock({ $0.portMapper })?.isRunning != true {
            let portMapper = try ManagedProcess(node.portMapper())
            processes.withLock { $0.portMapper = portMapper }
        }
        let server = try ManagedProcess(node.server())
        processes.withLock { $0.server = server }
        try await poll(
            for: limit,
            orThrow: StackError(.timedOut, "RabbitMQ was not ready after \(limit.components.seconds) s.", logFile: node.logFile),
        ) {
            try server.checkIsRunning()
            do {
                try await node.logIn()
                return true
            } catch let error as StackError where error.code == .unreachable || error.code == .refused {
                return nil
            }
        }
    }

    /// A clean stop: SIGTERM, and SIGKILL after 30 seconds. Also ends the port mapper.
    package func stop() async {
        let (portMapper, server) = processes.withLock { processes in
            defer { processes = (nil, nil) }
            return processes
        }
        await server?.terminate(grace: .seconds(30))
        await portMapper?.terminate(grace: .seconds(2))
    }

    /// The power cut: SIGKILL, connections torn down, nothing said.
    package func kill() async {
        await processes.withLock { $0.server }?.kill()
    }

    /// Stops the node when it runs and starts it again with the same addresses and data.
    package func restart(within limit: Duration = .seconds(90)) async throws {
        let server = processes.withLock { $0.server }
        await server?.terminate(grace: .seconds(30))
        try await launch(within: limit)
    }

    /// Runs `rabbitmqctl`, about a second each.
    ///
    /// - Returns: what it printed.
    /// - Throws: ``StackError`` `.refused` with its output when it does not end with status 0.
    @discardableResult
    package func rabbitmqctl(_ arguments: String...) async throws -> String {
        let command = try node.control(arguments)
        defer { FileSystem.remove(command.logFile) }
        let process = try ManagedProcess(command)
        let failure = StackError(.timedOut, "rabbitmqctl \(arguments.joined(separator: " ")) did not end in 60 s.")
        let exit: ProcessExit
        do {
            exit = try await poll(for: .seconds(60), every: .milliseconds(20), orThrow: failure) { process.exit }
        } catch {
            await process.kill()
            throw error
        }
        let output = (try? String(contentsOf: command.logFile, encoding: .utf8)) ?? ""
        guard exit == .status(0) else {
            throw StackError(.refused, "rabbitmqctl \(arguments.joined(separator: " ")) failed (\(exit)): \(output)")
        }
        return output
    }
}
