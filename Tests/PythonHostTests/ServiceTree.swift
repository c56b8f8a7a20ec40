import Foundation
import PythonHost

/// A folder of services (REGISTRY or MODULES) for one test, removed with it.
final class ServiceTree: Sendable {
    let folder: URL
    var root: URL { folder.appending(path: "services") }
    var data: URL { folder.appending(path: "data") }
    var logs: URL { folder.appending(path: "logs") }

    init(_ files: [String: String]) throws {
        folder = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-python-tests-\(UUID().uuidString)")
        for place in [root, data, logs] { try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true) }
        for (path, text) in files { try write(path, text) }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func write(_ path: String, _ text: String) throws {
        let file = root.appending(path: path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    func configuration(startLimit: Duration = .seconds(30)) -> PythonHostConfiguration {
        PythonHostConfiguration(
            python: ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3",
            hostPath: Self.package,
            root: root,
            environment: ["PATH": "/usr/bin:/bin", "DATA": data.path],
            startLimit: startLimit
        )
    }

    /// python/ of the checkout that holds this file (and not of the folder that a symlink to it stands in).
    private static let package = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "python")
}

/// Whether a process runs; a zombie does not.
func isAlive(_ pid: Int32) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
    return status.split(separator: ")").last?.split(separator: " ").first != "Z"
}

/// Waits for a condition that something outside brings about.
func eventually(within limit: Duration = .seconds(60), _ condition: () throws -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try condition() { return true }
        try await Task.sleep(for: .milliseconds(10))
    }
    return try condition()
}
