package import Foundation

/// How Python processes are started.
package struct PythonHostConfiguration: Sendable {
    /// The interpreter: an absolute path.
    package var python: String
    /// The folder that holds the package `dcm_processor`.
    package var hostPath: URL
    /// What comes first in `sys.path`: REGISTRY for callbacks, MODULES for jobs.
    package var root: URL
    /// The whole environment of the processes; PYTHONPATH is added.
    package var environment: [String: String]
    /// How long an interpreter may take to start and greet.
    package var startLimit: Duration
    /// How long the import of a service's module may take.
    package var importLimit: Duration

    package init(
        python: String,
        hostPath: URL,
        root: URL,
        environment: [String: String],
        startLimit: Duration = .seconds(30),
        importLimit: Duration = .seconds(300)
    ) {
        self.python = python
        self.hostPath = hostPath
        self.root = root
        self.environment = environment
        self.startLimit = startLimit
        self.importLimit = importLimit
    }

    func command(_ role: HostRole) -> HostCommand {
        var environment = environment
        environment["PYTHONPATH"] = hostPath.path
        // Text files are UTF-8 whatever the machine's locale says.
        environment["PYTHONUTF8"] = environment["PYTHONUTF8"] ?? "1"
        return HostCommand(
            executable: python,
            // -B: a cached .pyc counts as fresh while time stamp (whole seconds) and size agree, so that a quick edit would run
            // the old code.
            arguments: ["-B", "-m", "dcm_processor.host", role.rawValue, "--fd", "3"],
            environment: environment
        )
    }
}

enum HostRole: String, Sendable {
    case callbacks
    case jobs
}
