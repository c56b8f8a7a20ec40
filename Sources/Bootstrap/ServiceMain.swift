import Foundation
import Logging
package import ServiceLifecycle
import UnixSignals

/// How every executable starts: settings, logging, services, signals.
package enum ServiceMain {
    /// Builds the services and runs them until SIGTERM or SIGINT. Does not return.
    ///
    /// Services are listed dependencies first; they stop in reverse. A setting that is not allowed ends the process with status 78 (EX_CONFIG).
    package static func run(
        _ name: String, shutdown: Duration = .seconds(30), build: (ServiceContext) async throws -> [any Service]
    ) async -> Never {
        signal(SIGPIPE, SIG_IGN)
        let settings = Settings.environment()
        let level = settings.text("LOG_LEVEL")
        LoggingSystem.bootstrap(StreamLogHandler.standardError)
        var logger = Logger(label: "dcm.\(name)")
        do {
            if let level {
                guard let known = Logger.Level(rawValue: level.lowercased()) else {
                    let allowed = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
                    throw SettingError(variable: "LOG_LEVEL", value: level, allowed: allowed)
                }
                logger.logLevel = known
            }
            let context = ServiceContext(name: name, settings: settings, logger: logger)
            var configuration = ServiceGroupConfiguration(
                services: try await build(context).map {
                    ServiceGroupConfiguration.ServiceConfiguration(
                        service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .gracefullyShutdownGroup)
                },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
            configuration.maximumGracefulShutdownDuration = shutdown
            try await ServiceGroup(configuration: configuration).run()
            exit(0)
        } catch let error as SettingError {
            logger.critical("this setting stops the service: \(error)")
            exit(78)
        } catch {
            logger.critical("the service ends", metadata: ["error": "\(error)"])
            exit(1)
        }
    }
}
