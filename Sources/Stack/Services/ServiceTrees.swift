package import Foundation

/// The two folders that services are installed into.
package struct ServiceTrees: Sendable, Equatable {
    /// The router's: settings and callbacks.
    package let registry: URL
    /// The workers': what does the work.
    package let modules: URL
    /// The pipeline's own settings.
    package let settings: URL

    package init(registry: URL, modules: URL, settings: URL? = nil) {
        self.registry = registry
        self.modules = modules
        self.settings = settings ?? registry.appendingPathComponent("settings.json")
    }

    package init(_ home: StackHome) {
        self.init(registry: home.registry, modules: home.modules)
    }

    func registry(of name: String) -> URL { registry.appendingPathComponent(name) }
    func module(of name: String) -> URL { modules.appendingPathComponent(name) }

    /// Names with a dot in front: neither the router nor a worker looks at them. What a killed installation has left there is removed by
    /// the next one.
    func staged(_ name: String, in tree: URL) -> URL { tree.appendingPathComponent(".dcm-new-\(name)") }

    /// Names of folders that may be services, sorted.
    static func names(in tree: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: tree.path)) ?? [])
            .filter { name in
                var isFolder: ObjCBool = false
                return !name.hasPrefix(".") && name != "__pycache__"
                    && FileManager.default.fileExists(atPath: tree.appendingPathComponent(name).path, isDirectory: &isFolder)
                    && isFolder.boolValue
            }
            .sorted()
    }

    /// One command at a time changes the folders; readers need no lock.
    func lock() async throws -> FileLock {
        try await FileLock.lock(lockFile, within: .seconds(60), orThrow: busy)
    }

    func tryLock() throws -> FileLock {
        guard let lock = try FileLock.tryLock(lockFile) else { throw busy }
        return lock
    }

    private var lockFile: URL { registry.appendingPathComponent(".dcm-services.lock") }

    private var busy: StackError {
        StackError(.timedOut, "Another command is changing the services in \(registry.path) and holds \(lockFile.path).")
    }
}
