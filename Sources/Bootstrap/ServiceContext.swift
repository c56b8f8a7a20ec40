package import AMQP
package import Foundation
package import Logging

/// What every service is built from.
package struct ServiceContext: Sendable {
    /// `ingest`, `router`, `worker` or `monitor`.
    package var name: String
    package var settings: Settings
    package var folders: ServiceFolders
    package var logger: Logger
    package var readiness: ReadinessFile

    package init(name: String, settings: Settings, logger: Logger) {
        self.name = name
        self.settings = settings
        self.logger = logger
        folders = ServiceFolders(settings: settings)
        readiness = ReadinessFile(
            file: settings.text("READY_FILE").map { URL(filePath: $0, directoryHint: .notDirectory) }, service: name, logger: logger)
    }

    /// The broker of AMQP_URL (several, separated by commas, are tried in turn), with a connection name that tells this process apart
    /// in the RabbitMQ management UI.
    package func broker(connectionName: String? = nil) throws -> AMQPConfiguration {
        let urls = settings.list("AMQP_URL", default: ["amqp://guest:guest@localhost:5672/"])
        let endpoints = try urls.map { url in
            do {
                return try AMQPEndpoint(uri: url)
            } catch {
                throw SettingError(variable: "AMQP_URL", value: nil, allowed: "amqp://user:password@host:port/vhost (\(error))")
            }
        }
        let name = connectionName ?? "dcm-\(self.name)@\(ProcessInfo.processInfo.hostName)#\(ProcessInfo.processInfo.processIdentifier)"
        // A broker that falls silent must be noticed before a lease ends: two heartbeats are less than its 30 seconds.
        // And whoever lost the connection must be back before a lease of one who came back first ends.
        let backoff = AMQPConfiguration.Backoff(maximum: Pace.scaled(.seconds(10)))
        return AMQPConfiguration(endpoints: endpoints, connectionName: name, heartbeat: .seconds(10), backoff: backoff)
    }

    /// The Python interpreter of the services.
    package var python: String { settings.text("PYTHON") ?? "/usr/bin/python3" }

    /// The folder that holds the package `dcm_processor`.
    package var pythonPath: URL { settings.folder("PYTHONHOST_PATH", default: "/usr/share/dcm-processor/python") }
}

/// The version that services report; one place for all of them.
package enum ProductVersion {
    package static let current = "0.1.0"
}
