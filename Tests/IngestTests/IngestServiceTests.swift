import AMQP
import Bootstrap
import Configuration
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Stack
import Testing

@testable import Ingest

/// The whole process but for its entry point, with a real broker.
@Suite(.timeLimit(.minutes(5)))
struct IngestServiceTests {
    @Test func eventsWaitForABrokerThatIsNotThereYet() async throws {
        try await OrthancFixture.with { fixture in
            let broker = try await PrivateBroker.start(in: fixture.folder.appending(path: "broker", directoryHint: .isDirectory))
            await broker.stop()
            do {
                try await check(fixture, broker)
                await broker.stop()
            } catch {
                await broker.stop()
                throw error
            }
        }
    }

    private func check(_ fixture: OrthancFixture, _ broker: PrivateBroker) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let state = fixture.folder.appending(path: "service-state", directoryHint: .isDirectory)
        let ready = fixture.folder.appending(path: "ready.json")
        let settings = Settings(
            reader: ConfigReader(
                provider: EnvironmentVariablesProvider(environmentVariables: [
                    "AMQP_URL": broker.amqpURL, "STATE": state.path, "READY_FILE": ready.path, "ORTHANC_STABLE_AGE": "1",
                    "POLL_INTERVAL": "0.1",
                    "ORTHANC_REST_URL": fixture.orthanc.url, "ORTHANC_REST_USERNAME": fixture.orthanc.user,
                    "ORTHANC_REST_PASSWORD": fixture.orthanc.password,
                ])
            )
        )
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: try buildIngest(ServiceContext(name: "ingest", settings: settings, logger: logger)).map {
                    ServiceGroupConfiguration.ServiceConfiguration(service: $0)
                },
                logger: logger
            )
        )
        let running = Task { try await group.run() }
        try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "never ready")) {
            FileManager.default.fileExists(atPath: ready.path) ? true : nil
        }
        try await fixture.send([OrthancFixture.Slice(instance: 1)])
        let journal = IngestJournal.readOnly(at: state)
        let blocked = try await poll(for: .seconds(40), orThrow: StackError(.timedOut, "never blocked")) {
            try await journal.sources().first { $0.state == .blocked }
        }
        #expect(blocked.error?.code.hasPrefix("broker-") == true && blocked.lag > 0)

        try await broker.restart()
        let (delivery, event) = try await receive(from: broker)
        #expect(delivery.routingKey == "study.stable" && delivery.exchange == PipelineExchange.ingest)
        #expect(delivery.properties.messageID == event.snapshot && delivery.properties.type == EventMessage.type)
        #expect(event.series.map(\.instances) == [1])
        try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "never following")) {
            try await journal.sources().first { $0.state == .following && $0.lag == 0 }
        }

        await group.triggerGracefulShutdown()
        try await running.value
        #expect(!FileManager.default.fileExists(atPath: ready.path))
    }

    private func receive(from broker: PrivateBroker) async throws -> (AMQPDelivery, EventMessage) {
        let client = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: broker.amqpURL)], connectionName: "test"),
            topology: PipelineTopology.ingest(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let running = Task { try await client.run() }
        defer { running.cancel() }
        return try await client.consume(PipelineQueue.ingest, prefetch: 1) { deliveries in
            for try await delivery in deliveries {
                return (delivery, try delivery.decode(EventMessage.self, type: EventMessage.type))
            }
            throw AMQPError(.shutdown, "The queue ended without a message.")
        }
    }
}
