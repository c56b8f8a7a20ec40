import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry
import ServiceLifecycle

/// The router's services, dependencies first.
func buildRouter(_ context: ServiceContext) async throws -> [any Service] {
    let folders = context.folders
    let defaults = try catalogDefaults(context.settings)
    let configuration = PythonHostConfiguration(
        python: context.python, hostPath: context.pythonPath, root: folders.registry, environment: context.userCodeEnvironment)
    let timeout = try context.settings.seconds("CALLBACK_TIMEOUT", default: 10, in: 0.1...3600)
    let callbacks = CallbackHost(configuration: configuration, timeout: .seconds(timeout), logger: context.logger)
    let ledger = try await openLedger(folders.state, context.logger)
    let channels = try await ledger.write { try $0.channels() }
    let broker = AMQPClient(
        configuration: try context.broker(), topology: PipelineTopology.router(channels: channels), logger: context.logger)
    let router = RouterService(
        broker: broker,
        ledger: ledger,
        planner: EventPlanner(
            catalog: ServiceCatalogSource(registry: folders.registry, settings: folders.settings, defaults: defaults),
            callbacks: callbacks,
            logger: context.logger),
        readiness: context.readiness,
        logger: context.logger
    )
    return [context.readiness, broker, router]
}

/// Waits while another router holds the ledger: a standby that takes over when the first one ends.
private func openLedger(_ folder: URL, _ logger: Logger) async throws -> Ledger {
    var isTold = false
    while true {
        do {
            return try Ledger(folder: folder)
        } catch let error as LedgerError where error.code == .locked {
            if !isTold { logger.warning("stands by: \(error)") }
            isTold = true
            try await Task.sleep(for: .seconds(1))
        }
    }
}

private func catalogDefaults(_ settings: Settings) throws -> CatalogDefaults {
    var defaults = CatalogDefaults()
    if let text = settings.text("DEFUALT_PRIORITY", "DEFAULT_PRIORITY") {
        guard let priority = Priority(text) else {
            throw SettingError(
                variable: "DEFUALT_PRIORITY", value: text, allowed: "urgent, high, default, medium, low, or a number from 0 to 4")
        }
        defaults.priority = priority
    }
    if let channel = settings.text("DEFUALT_CHANNEL", "DEFAULT_CHANNEL") {
        guard ChannelName.isValid(channel) else {
            throw SettingError(variable: "DEFUALT_CHANNEL", value: channel, allowed: "1 to 64 characters of a-z, 0-9, - and _")
        }
        defaults.channel = channel
    }
    return defaults
}
