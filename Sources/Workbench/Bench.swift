package import Foundation
package import Logging
import PythonHost

/// Where services are tried out: their folders and interpreters as in production; DATA, LOGS and STATE of its own, which nobody else sees.
package struct Bench: Sendable {
    package var registry: URL
    package var modules: URL
    /// The interpreter of callbacks and of services without an environment.
    package var python: String
    /// The folder that holds the package `dcm_processor`.
    package var library: URL
    /// The environment of callbacks and jobs, without the folders.
    package var variables: [String: String]
    /// Where environments of services are built; the stack's, so that its workers find them.
    package var environments: URL
    /// The private folder; made when it is missing. Whoever made the bench removes it.
    package var folder: URL
    /// How long the import of a module may take.
    package var importLimit: Duration
    package var callbackLimit: Duration
    package var logger: Logger

    package init(
        registry: URL,
        modules: URL,
        python: String,
        library: URL,
        variables: [String: String],
        environments: URL,
        folder: URL,
        importLimit: Duration = .seconds(300),
        callbackLimit: Duration = .seconds(10),
        logger: Logger = Logger(label: "dcm.workbench", factory: { _ in SwiftLogNoOpLogHandler() })
    ) {
        self.registry = registry
        self.modules = modules
        self.python = python
        self.library = library
        self.variables = variables
        self.environments = environments
        self.folder = folder
        self.importLimit = importLimit
        self.callbackLimit = callbackLimit
        self.logger = logger
    }

    package var data: URL { folder.appending(path: "data", directoryHint: .isDirectory) }
    package var logs: URL { folder.appending(path: "logs", directoryHint: .isDirectory) }
    var state: URL { folder.appending(path: "state", directoryHint: .isDirectory) }

    func makeFolders() throws {
        for folder in [data, logs, key.deletingLastPathComponent()] {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
        guard !FileManager.default.fileExists(atPath: key.path) else { return }
        var random = SystemRandomNumberGenerator()
        let bytes = Data((0..<64).map { _ in UInt8.random(in: 0...255, using: &random) })
        guard FileManager.default.createFile(atPath: key.path, contents: bytes, attributes: [.posixPermissions: 0o600]) else {
            throw CocoaError(.fileWriteUnknown, userInfo: [NSFilePathErrorKey: key.path])
        }
    }

    /// The anonymizer's: pseudonyms of a trial are nobody's elsewhere.
    private var key: URL { state.appending(path: "secrets/anonymizer.key") }

    /// What is left of the stack's variables: nothing by which a job could reach a broker, the monitor or the stack's folders.
    private var environment: [String: String] {
        let kept = variables.filter { name, _ in
            !["AMQP_URL", "ORTHANC_URLS", "READY_FILE", "BASEDIR"].contains(name)
                && !["INGEST_", "MONITOR_", "RABBITMQ_"].contains { name.hasPrefix($0) }
        }
        let own = [
            "DATA": data.path, "LOGS": logs.path, "STATE": state.path, "MODULES": modules.path, "REGISTRY": registry.path,
            "ANONYMIZER_KEY_FILE": key.path,
        ]
        return kept.merging(own) { _, own in own }
    }

    var callbackHost: PythonHostConfiguration { host(registry) }
    var jobHost: PythonHostConfiguration { host(modules) }

    private func host(_ root: URL) -> PythonHostConfiguration {
        PythonHostConfiguration(python: python, hostPath: library, root: root, environment: environment, importLimit: importLimit)
    }

    func serviceEnvironments() -> ServiceEnvironments {
        ServiceEnvironments(
            configuration: EnvironmentsConfiguration(
                folder: environments,
                modules: modules,
                logs: logs,
                python: python,
                variables: environment,
                prepared: EnvironmentsConfiguration.prepared(in: variables),
                seesSystemPackages: ["true", "1", "yes", "on"].contains(variables["ENVIRONMENTS_SYSTEM_PACKAGES"]?.lowercased()),
                // Whoever tries a service out has just changed something.
                pause: .zero
            ),
            logger: logger
        )
    }

    /// A program of a service: one that stands in its folder is meant before one of that name in PATH.
    func program(_ name: String, of service: String) -> String {
        guard !name.hasPrefix("/") else { return name }
        let own = modules.appending(path: "\(service)/\(name)", directoryHint: .notDirectory).standardizedFileURL.path
        return name.contains("/") || FileManager.default.fileExists(atPath: own) ? own : name
    }

    /// The executable that `name` is, looked for in PATH where it has no slash.
    func executable(_ name: String) -> String? {
        let path = variables["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        let candidates = name.contains("/") ? [name] : path.split(separator: ":").map { "\($0)/\(name)" }
        return candidates.first { candidate in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: candidate, isDirectory: &isFolder) && !isFolder.boolValue
                && FileManager.default.isExecutableFile(atPath: candidate)
        }
    }
}
