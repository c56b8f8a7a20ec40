import AMQP
import Bootstrap
import Dashboard
import Foundation
import JobStore
import Logging
import Pipeline
import ServiceLifecycle

/// The monitor's services, dependencies first.
func buildMonitor(_ context: ServiceContext) throws -> [any Service] {
    let folders = context.folders
    let configuration = try DashboardConfiguration(settings: context.settings, folders: folders)
    let ledger = LedgerReader(path: Ledger.file(in: folders.state).path)
    let feed = FactFeed(ledger: ledger, logger: context.logger)
    var connection = try context.broker()
    // Somebody waits in front of a page for the answer.
    connection.publishTimeout = .seconds(5)
    let broker = AMQPClient(configuration: connection, topology: PipelineTopology.monitor(), logger: context.logger)
    let server = DashboardServer(
        configuration: configuration,
        ledger: ledger,
        journal: IngestJournalReader(path: IngestJournal.file(in: folders.state).path),
        sender: BrokerCommandSender(broker: broker),
        feed: feed,
        logger: context.logger
    ) { _ in context.readiness.markReady() }
    return [context.readiness, broker, feed, FactDoorbell(broker: broker) { feed.ring() }, server]
}

extension DashboardConfiguration {
    /// - `MONITOR_HOST` (address, default `127.0.0.1`): what to listen on. Anything but this machine itself needs MONITOR_TOKEN.
    /// - `MONITOR_PORT` (0 to 65535, default 8080): 0 takes any free port.
    /// - `MONITOR_TOKEN` (text, secret, default none): who has it is an operator.
    init(settings: Settings, folders: ServiceFolders) throws {
        do {
            try self.init(
                host: settings.text("MONITOR_HOST") ?? "127.0.0.1",
                port: try settings.integer("MONITOR_PORT", default: 8080, in: 0...65535),
                token: settings.text("MONITOR_TOKEN", isSecret: true),
                data: folders.data,
                logs: folders.logs
            )
        } catch let error as DashboardError where error.code == .noToken {
            throw SettingError(
                variable: "MONITOR_TOKEN", value: nil,
                allowed: "a long secret, because MONITOR_HOST is an address that other machines can reach (127.0.0.1 needs none)")
        }
    }
}
