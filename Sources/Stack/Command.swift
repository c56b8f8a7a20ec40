package import Foundation

/// A program to start, with all that it gets: nothing is inherited but what is written here.
package struct Command: Sendable, Equatable {
    /// The word people know it by: `broker`, `orthanc`, `worker-2`.
    package var name: String
    package var executable: String
    package var arguments: [String]
    package var environment: [String: String]
    /// stdout and stderr are appended here.
    package var logFile: URL

    package init(
        name: String,
        executable: String,
        arguments: [String] = [],
        environment: [String: String],
        logFile: URL,
    ) {
        self.name = name
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.logFile = logFile
    }

    /// The few variables that programs need to find other programs and to read and write UTF-8, from this process.
    package static var plainEnvironment: [String: String] {
        var plain = ["PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"]
        for name in ["TZ", "TMPDIR"] {
            if let value = ProcessInfo.processInfo.environment[name] { plain[name] = value }
        }
        return plain
    }
}
