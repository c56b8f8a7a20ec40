package import Foundation

/// Where a stack keeps things: everything under one folder.
package struct StackHome: Sendable, Equatable {
    package let folder: URL

    /// - Parameter path: as typed, relative to the current folder.
    package init(path: String) {
        folder = URL(fileURLWithPath: (path as NSString).expandingTildeInPath).standardizedFileURL
    }

    private func part(_ name: String) -> URL { folder.appendingPathComponent(name) }

    package var environmentFile: URL { part(".env") }
    package var endpointsFile: URL { part("endpoints.json") }
    package var portsFile: URL { part("ports.json") }
    package var broker: URL { part("broker") }
    package var orthanc: URL { part("orthanc") }
    package var data: URL { part("data") }
    package var logs: URL { part("logs") }
    package var modules: URL { part("modules") }
    package var registry: URL { part("registry") }
    package var state: URL { part("state") }
    /// What pseudonyms are made from: who has it can link de-identified images to patients. Lost, the same patients get new pseudonyms.
    package var anonymizerKey: URL { part("state/secrets/anonymizer.key") }
    /// The environments of services. A folder outside of the stack's own, shared by stacks, saves building them again: `ENVIRONMENTS`.
    package var environments: URL { part("environments") }
    package var cache: URL { part("cache") }
    private var run: URL { part("run") }
    package var lockFile: URL { run.appendingPathComponent("supervisor.lock") }
    package var startLockFile: URL { run.appendingPathComponent("up.lock") }
    package var desiredFile: URL { run.appendingPathComponent("desired.json") }
    package var statusFile: URL { run.appendingPathComponent("status.json") }

    package func logFile(_ name: String) -> URL { logs.appendingPathComponent("\(name).log") }
    package func readyFile(_ name: String) -> URL { run.appendingPathComponent("\(name).ready") }

    package func makeFolders() throws {
        for folder in [folder, data, logs, state, run] { try FileSystem.makeFolder(folder) }
    }

    /// Gives a home that has no services yet bundled ones; one that has some keeps them.
    ///
    /// - Parameters:
    ///   - setting: their names, with commas; see ``BundledServices``.
    ///   - pipeline: the pipeline's settings to begin with.
    package func fillServices(from bundled: BundledServices?, setting: String?, pipeline: URL?) throws {
        for folder in [registry, modules] { try FileSystem.makeFolder(folder) }
        try bundled?.fill(ServiceTrees(self), setting: setting, pipeline: pipeline)
    }
}
