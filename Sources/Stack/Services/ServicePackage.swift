package import Foundation

/// The two folders of a service that is not installed yet.
package struct ServicePackage: Sendable, Equatable {
    package let registry: URL
    /// A service whose jobs are programs of the system has none.
    package let module: URL?

    /// Looks for the service `name` in a folder: there itself (`registry/` and `module/` or `modules/`), in two trees as upstream's
    /// mapped folders (`registry/<name>/`, `modules/<name>/`), or in a folder below, as in an unpacked archive or a repository of services.
    ///
    /// - Throws: ``StackError`` that says what was found instead.
    package static func find(_ name: String, in folder: URL) throws -> ServicePackage {
        if let package = at(folder, name) { return package }
        let found = candidates(in: folder, name, depth: 4)
        let named = found.filter { $0.lastPathComponent == name }
        let chosen = found.count == 1 ? found : named
        if chosen.count == 1, let package = at(chosen[0], name) { return package }
        let shown = found.map { String($0.path.dropFirst(folder.path.count + 1)) }.sorted()
        if shown.isEmpty {
            throw StackError(
                .notFound,
                "There is no service in \(folder.path): a service is a folder with registry/settings.json and module/.",
            )
        }
        throw StackError(
            .notFound,
            "There is not exactly one service \(name) in \(folder.path), but \(shown.joined(separator: ", ")). Name one of them.",
        )
    }

    private static func at(_ folder: URL, _ name: String) -> ServicePackage? {
        let registry = folder.appendingPathComponent("registry")
        // First: beside such folders, settings.json in the registry is the pipeline's.
        let inTree = registry.appendingPathComponent(name)
        if isFolder(inTree), FileSystem.exists(inTree.appendingPathComponent("settings.json")) {
            let module = folder.appendingPathComponent("modules").appendingPathComponent(name)
            return ServicePackage(registry: inTree, module: isFolder(module) ? module : nil)
        }
        guard isFolder(registry) else { return nil }
        let module = ["module", "modules"].map { folder.appendingPathComponent($0) }.first(where: isFolder)
        // Code without settings: its jobs are named by the pipeline's settings, as those of the older project's `base`.
        let isCode = module != nil && FileSystem.exists(registry.appendingPathComponent("__init__.py"))
        guard isCode || FileSystem.exists(registry.appendingPathComponent("settings.json")) else { return nil }
        return ServicePackage(registry: registry, module: module)
    }

    private static func candidates(in folder: URL, _ name: String, depth: Int) -> [URL] {
        guard depth > 0 else { return [] }
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
        return names.flatMap { child -> [URL] in
            let url = folder.appendingPathComponent(child)
            // A link may lead anywhere, and in a circle.
            guard isFolder(url), (try? FileManager.default.destinationOfSymbolicLink(atPath: url.path)) == nil else { return [] }
            return at(url, name) == nil ? candidates(in: url, name, depth: depth - 1) : [url]
        }
    }

    private static func isFolder(_ url: URL) -> Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) && isFolder.boolValue
    }
}
