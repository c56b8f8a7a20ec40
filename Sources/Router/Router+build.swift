import AMQP
import Bootstrap
import Foundation
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
    let broker = AMQPClient(configuration: try context.broker(), topology: PipelineTopology.router(channels: []), logger: context.logger)
    let router = RouterStandby(
        folder: folders.state,
        broker: broker,
        planner: EventPlanner(
            catalog: ServiceCatalogSource(registry: folders.registry, settings: folders.settings, defaults: defaults),
            callbacks: callbacks,
            logger: context.logger),
        configuration: try RouterConfiguration(settings: context.settings, folders: folders),
        readiness: context.readiness,
        logger: context.logger
    )
    return [context.readiness, broker, router]
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
