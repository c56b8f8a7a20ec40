package import Foundation

/// The folders of a pipeline. The defaults are upstream's places inside a container.
package struct ServiceFolders: Sendable, Hashable {
    /// The ledger and what else the services must remember.
    package var state: URL
    /// Images and results, shared by all workers.
    package var data: URL
    package var logs: URL
    /// `settings.json` and one folder for each service: settings and callbacks.
    package var registry: URL
    /// One folder for each service: the worker functions.
    package var modules: URL
    /// The pipeline's own settings: pre and post services, header fields.
    package var settings: URL

    package init(settings: Settings) {
        state = settings.folder("STATE", default: "/state")
        data = settings.folder("DATA", default: "/data")
        logs = settings.folder("LOGS", default: "/logs")
        registry = settings.folder("REGISTRY", default: "/registry")
        modules = settings.folder("MODULES", default: "/modules")
        self.settings =
            settings.text("SETTINGS").map { URL(filePath: $0, directoryHint: .notDirectory) } ?? registry.appending(path: "settings.json")
    }
}
