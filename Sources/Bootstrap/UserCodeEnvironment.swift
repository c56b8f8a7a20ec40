import Foundation

extension ServiceContext {
    /// The environment of callbacks and jobs: ours, with upstream's folder names, without the secrets that only we need.
    package var userCodeEnvironment: [String: String] {
        Self.userCodeEnvironment(ProcessInfo.processInfo.environment, folders)
    }

    package static func userCodeEnvironment(_ own: [String: String], _ folders: ServiceFolders) -> [String: String] {
        // READY_FILE stays: by it the launcher knows which processes belong to its stack, whatever they have detached from.
        var environment = own.filter { name, _ in
            !["AMQP_URL", "ORTHANC_URLS"].contains(name) && !["INGEST_", "MONITOR_", "RABBITMQ_"].contains { name.hasPrefix($0) }
        }
        environment["DATA"] = folders.data.path
        environment["LOGS"] = folders.logs.path
        environment["MODULES"] = folders.modules.path
        environment["REGISTRY"] = folders.registry.path
        return environment
    }
}
