import Foundation
package import Jobs
package import Registry

/// The services that are installed, with what is known of each.
package struct ServiceInventory: Sendable {
    package struct Item: Sendable {
        package let name: String
        package let jobs: [CatalogEntry]
        /// Of the files as they are now.
        package let version: String?
        package let record: InstallationRecord?
        package let problems: [String]
        package let hasErrors: Bool

        /// Its files are no longer those that were installed.
        package var isChanged: Bool { record.map { $0.version != version } ?? false }

        package var state: String {
            if hasErrors { return "error" }
            if !jobs.isEmpty, jobs.allSatisfy(\.isDisabled) { return "disabled" }
            return problems.isEmpty ? "ok" : "warning"
        }
    }

    package let items: [Item]

    package init(_ trees: ServiceTrees) {
        let catalog = ServiceCatalog.load(registry: trees.registry, settings: trees.settings)
        let services = Dictionary(catalog.services.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        let registered = ServiceTrees.names(in: trees.registry)
        // Folders of modules alone may be shared code, unless a command of ours has put them there.
        let remains = ServiceTrees.names(in: trees.modules)
            .filter { !registered.contains($0) && InstallationRecord.read(in: trees.module(of: $0)) != nil }
        items = (registered + remains).sorted().compactMap { name in
            let service = services[name]
            let module = trees.module(of: name)
            let hasModule = FileSystem.exists(module)
            let registry = trees.registry(of: name)
            let record = InstallationRecord.read(in: registry) ?? InstallationRecord.read(in: module)
            // Without settings and without our record it is code that services share.
            guard service != nil || record != nil else { return nil }
            let torn = Self.interruption(name, registry, module, hasModule: hasModule)
            return Item(
                name: name,
                jobs: catalog.entries.filter { $0.service == name },
                version: FileSystem.exists(registry) ? try? ContentVersion.of(registry: registry, module: hasModule ? module : nil) : nil,
                record: record,
                problems: [torn.map { "error: \($0)" }].compactMap(\.self) + (service?.problems.map(\.description) ?? []),
                hasErrors: torn != nil || service?.hasErrors ?? false,
            )
        }
    }

    /// What a command that was killed in the middle has left behind, if so.
    private static func interruption(_ name: String, _ registry: URL, _ module: URL, hasModule: Bool) -> String? {
        let settings = InstallationRecord.read(in: registry)
        let code = InstallationRecord.read(in: module)
        let cure = "'install \(name) --replace' or 'remove \(name)' puts it in order."
        if !FileSystem.exists(registry) { return "its code is there without its settings: a command was interrupted. \(cure)" }
        if let settings, settings.hasModule, !hasModule {
            return "its settings are there without its code: a command was interrupted. \(cure)"
        }
        if let settings, let code, settings.id != code.id {
            return "its settings and its code come from two installations: a command was interrupted. \(cure)"
        }
        return nil
    }

    /// `[{"name", "state", "version", "changed", "source", "installedAt", "jobs": [{"name", "stage", "enabled"}], "problems": [...]}]`
    package var json: JSONValue {
        .array(
            items.map { item in
                [
                    "name": .string(item.name),
                    "state": .string(item.state),
                    "version": item.version.map(JSONValue.string) ?? .null,
                    "changed": .bool(item.isChanged),
                    "source": item.record.map { .string($0.source) } ?? .null,
                    "installedAt": item.record.map { .string($0.installedAt.ISO8601Format()) } ?? .null,
                    "jobs": .array(
                        item.jobs.map {
                            ["name": .string($0.name), "stage": .string($0.stage.rawValue), "enabled": .bool(!$0.isDisabled)]
                        }),
                    "problems": .array(item.problems.map(JSONValue.string)),
                ]
            })
    }
}
