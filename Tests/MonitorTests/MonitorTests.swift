import AMQP
import Bootstrap
import Configuration
import Dashboard
import Foundation
import JobStore
import Logging
import Pipeline
import ServiceLifecycle
import Stack
import Synchronization
import Testing

@testable import Monitor

private func settings(_ values: [String: String]) -> Settings {
    let pairs = values.map { name, value in
        (AbsoluteConfigKey(name.lowercased().split(separator: "_").map(String.init)), ConfigValue(.string(value), isSecret: false))
    }
    return Settings(reader: ConfigReader(provider: InMemoryProvider(values: Dictionary(uniqueKeysWithValues: pairs))))
}

struct MonitorSettingsTests {
    @Test("Defaults: this machine only, port 8080, no token")
    func defaults() throws {
        let settings = settings([:])
        let configuration = try DashboardConfiguration(settings: settings, folders: ServiceFolders(settings: settings))
        #expect(configuration.host == "127.0.0.1")
        #expect(configuration.port == 8080)
        #expect(configuration.token == nil)
        #expect(!configuration.needsSignIn)
    }

    @Test("A proxy that signs people in, and users, make another address possible")
    func others() throws {
        let proxied = settings([
            "MONITOR_HOST": "0.0.0.0", "MONITOR_PROXY_HEADER": "X-Remote-User", "MONITOR_PROXY_ADDRESSES": "127.0.0.1, fd00::/8",
            "MONITOR_PROXY_ROLES": "it=admin",
        ])
        let configuration = try DashboardConfiguration(settings: proxied, folders: ServiceFolders(settings: proxied))
        #expect(configuration.proxy?.header == "X-Remote-User" && configuration.proxy?.addresses.count == 2)
        #expect(configuration.proxy?.roles == ["it": .admin])
        #expect(configuration.needsSignIn)
        let open = settings(["MONITOR_HOST": "0.0.0.0"])
        #expect(try DashboardConfiguration(settings: open, folders: ServiceFolders(settings: open), hasUsers: true).needsSignIn)
    }

    @Test(
        "A bad setting names the variable",
        arguments: [
            (["MONITOR_PORT": "eighty"], "MONITOR_PORT"), (["MONITOR_PORT": "70000"], "MONITOR_PORT"),
            (["MONITOR_HOST": "0.0.0.0"], "MONITOR_TOKEN"), (["MONITOR_SESSION_IDLE": "1"], "MONITOR_SESSION_IDLE"),
            // Believed from everywhere, anybody could be anybody.
            (["MONITOR_PROXY_HEADER": "X-Remote-User"], "MONITOR_PROXY_ADDRESSES"),
            (["MONITOR_PROXY_HEADER": "X-Remote-User", "MONITOR_PROXY_ADDRESSES": "localhost"], "MONITOR_PROXY_ADDRESSES"),
            (["MONITOR_PROXY_HEADER": "X Remote", "MONITOR_PROXY_ADDRESSES": "::1"], "MONITOR_PROXY_HEADER"),
            (["MONITOR_PROXY_HEADER": "X-U", "MONITOR_PROXY_ADDRESSES": "::1", "MONITOR_PROXY_ROLES": "a=king"], "MONITOR_PROXY_ROLES"),
        ])
    func wrong(values: [String: String], variable: String) {
        let settings = settings(values)
        let error = #expect(throws: SettingError.self) {
            try DashboardConfiguration(settings: settings, folders: ServiceFolders(settings: settings))
        }
        #expect(error?.variable == variable)
    }
}

@Suite(.serialized, .timeLimit(.minutes(3)))
struct MonitorBrokerTests {
    @Test("With a real broker: a command is confirmed and waits for the router; a published fact rings the bell")
    func broker() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-monitor-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try await PrivateBroker.start(in: folder.appending(path: "broker"))
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let broker = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: server.amqpURL)], connectionName: "monitor-test"),
            topology: PipelineTopology.monitor(), logger: logger)
        let sender = BrokerCommandSender(broker: broker)
        #expect(!sender.isConnected)
        let rings = Mutex(0)
        let doorbell = FactDoorbell(broker: broker) { rings.withLock { $0 += 1 } }
        let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: [broker, doorbell], logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            try await broker.waitUntilReady()
            #expect(sender.isConnected)
            let command = CommandMessage(id: "c-1", action: .retryRun, target: "r", actor: "api", at: Date(timeIntervalSince1970: 5))
            try await sender.send(command)
            let received = try await broker.consume(PipelineQueue.commands, prefetch: 1) { deliveries -> CommandMessage? in
                for await delivery in deliveries {
                    delivery.ack()
                    return try delivery.decode(CommandMessage.self, type: CommandMessage.type)
                }
                return nil
            }
            #expect(received == command)
            let deadline = ContinuousClock.now + .seconds(60)
            while rings.withLock({ $0 }) == 0, ContinuousClock.now < deadline {
                broker.publishTransient(
                    .pipeline(
                        exchange: PipelineExchange.events, routingKey: "run.created", type: FactMessage.type,
                        body: FactMessage(sequence: 1, at: Date(), kind: "run.created"), persistent: false, mandatory: false))
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(rings.withLock { $0 } > 0)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        #expect(!sender.isConnected)
        await server.stop()
    }
}
