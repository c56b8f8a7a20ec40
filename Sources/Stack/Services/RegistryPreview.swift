import Foundation
import Registry

/// What the router would read if a service were installed, or were gone: found out with the router's own loader, on links.
enum RegistryPreview {
    /// - Parameters:
    ///   - name: the service that comes or goes.
    ///   - candidate: its registry folder; nil when it goes.
    static func catalog(_ trees: ServiceTrees, replacing name: String, with candidate: URL?) throws -> ServiceCatalog {
        let view = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-registry-\(Secret.generate(length: 12))")
        defer { FileSystem.remove(view) }
        try FileSystem.makeFolder(view, mode: 0o700)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: trees.registry.path)) ?? []
        for other in names where other != name && !other.hasPrefix(".") {
            try link(view.appendingPathComponent(other), to: trees.registry.appendingPathComponent(other))
        }
        if let candidate { try link(view.appendingPathComponent(name), to: candidate) }
        let isOwn = trees.settings.standardizedFileURL == trees.registry.appendingPathComponent("settings.json").standardizedFileURL
        return ServiceCatalog.load(registry: view, settings: isOwn ? view.appendingPathComponent("settings.json") : trees.settings)
    }

    private static func link(_ link: URL, to target: URL) throws {
        do {
            try FileManager.default.createSymbolicLink(at: link, withDestinationURL: target)
        } catch {
            throw StackError(.fileSystem, "The link \(link.path) could not be made: \((error as NSError).localizedDescription)")
        }
    }
}
