import Foundation
import Jobs
package import Registry

/// What an installation would do, and what speaks against it. Making one changes nothing.
package struct InstallPlan: Sendable {
    package let name: String
    package let source: String
    package let version: String
    package let files: [String]
    package let leftOut: [String]
    package let bytes: Int64
    /// What stands in its place now.
    package let installed: InstallationRecord?
    package let replaces: Bool
    package let jobs: [CatalogEntry]
    /// Names of jobs that wait for the service's, by the name of the latter.
    package let followers: [String: [String]]
    /// It cannot be installed like this at all, or not without `--replace`.
    package let refusals: [String]
    /// What the router would call errors; installing them takes `--force`.
    package let errors: [String]
    package let warnings: [String]

    /// - Parameter listing: with each file.
    package func text(listing: Bool) -> String {
        var lines = ["\(name) \(version) from \(source): \(files.count) files, \(bytes) bytes"]
        if replaces { lines.append("  in the place of \(installed.map { "\($0.version) from \($0.source)" } ?? "what stands there now")") }
        if listing { lines += files.map { "  \($0)" } }
        if !leftOut.isEmpty { lines.append("  not copied: \(leftOut.joined(separator: ", "))") }
        lines += jobs.map(line)
        lines += refusals.map { "  refused: \($0)" } + errors.map { "  \($0)" } + warnings.map { "  \($0)" }
        return lines.joined(separator: "\n")
    }

    private func line(_ job: CatalogEntry) -> String {
        var parts = ["  job \(job.name): \(job.stage.rawValue)", "channel \(job.definition.channel)"]
        if job.isDisabled { parts.append("disabled") }
        switch job.stage {
        case .pre: parts.append("before all services")
        case .post where job.dependsOn.isEmpty: parts.append("after all services")
        default: parts.append(job.dependsOn.isEmpty ? "waits for no other service" : "after \(job.dependsOn.joined(separator: ", "))")
        }
        if let waiting = followers[job.name], !waiting.isEmpty { parts.append("before \(waiting.joined(separator: ", "))") }
        return parts.joined(separator: ", ")
    }
}

extension InstallPlan {
    /// - Throws: ``StackError`` for what cannot be read.
    init(_ name: String, _ package: ServicePackage, source: String, into trees: ServiceTrees, replace: Bool) throws {
        let registry = try FolderListing(of: package.registry)
        let module = try package.module.map { try FolderListing(of: $0) }
        let before = ServiceCatalog.load(registry: trees.registry, settings: trees.settings)
        let after = try RegistryPreview.catalog(trees, replacing: name, with: package.registry)
        let known = Set(before.problems)
        let news = after.problems.filter { !known.contains($0) && ($0.service == name || $0.severity == .error) }
        let jobs = after.entries.filter { $0.service == name }
        let hasRegistry = FileSystem.exists(trees.registry(of: name))
        let hasModule = FileSystem.exists(trees.module(of: name))
        let isOurs = InstallationRecord.read(in: trees.registry(of: name)) ?? InstallationRecord.read(in: trees.module(of: name))

        self.name = name
        self.source = source
        version = try ContentVersion.of(registry: package.registry, module: package.module)
        files = registry.files.map { "registry/\(name)/\($0)" } + (module?.files ?? []).map { "modules/\(name)/\($0)" }
        leftOut = registry.leftOut.map { "registry/\($0)" } + (module?.leftOut ?? []).map { "module/\($0)" }
        bytes = registry.bytes + (module?.bytes ?? 0)
        installed = isOurs
        replaces = hasRegistry || hasModule
        self.jobs = jobs
        followers = Dictionary(
            jobs.map { job in (job.name, after.entries.filter { $0.dependsOn.contains(job.name) }.map(\.name)) },
            uniquingKeysWith: { first, _ in first },
        )
        // One folder of two, with our record, is what an interrupted command has left: nobody's service.
        let isRemains = isOurs != nil && hasRegistry != hasModule && (isOurs?.hasModule ?? true)
        refusals = replace || isRemains ? [] : Self.collisions(name, trees, hasRegistry: hasRegistry, hasModule: hasModule)
        errors =
            news.filter { $0.severity == .error }.map(\.description)
            + Self.strayNames(jobs, name: name, package, trees)
        let isCode = !FileSystem.exists(package.registry.appendingPathComponent("settings.json"))
        warnings =
            news.filter { $0.severity == .warning }.map(\.description) + Self.vanishing(before, jobs, name)
            + (isCode ? ["note: it has no settings.json: its jobs have to be named in the pipeline's settings, or by other services."] : [])
    }

    private static func collisions(_ name: String, _ trees: ServiceTrees, hasRegistry: Bool, hasModule: Bool) -> [String] {
        if hasRegistry {
            return ["a service \(name) is installed already in \(trees.registry(of: name).path); --replace puts this one in its place."]
        }
        if hasModule {
            return ["\(trees.module(of: name).path) exists and belongs to no service; --replace puts this one's code in its place."]
        }
        return []
    }

    /// Dotted names begin with the folder that the service is installed as: under another name nothing would be found.
    private static func strayNames(_ jobs: [CatalogEntry], name: String, _ package: ServicePackage, _ trees: ServiceTrees) -> [String] {
        jobs.flatMap { job -> [String] in
            var found: [String] = []
            let worker = String(job.definition.entry.prefix { $0 != "." })
            if job.definition.command.isEmpty, !exists(worker, in: trees.modules, name, package.module) {
                found.append(
                    "error: job \(job.name), key worker: \(job.definition.entry) is looked for in modules/\(worker), which would not exist: "
                        + "install the service as \(worker), or write \(name). in front of the function.")
            }
            let callback = String(job.callback.prefix { $0 != "." })
            if !callback.isEmpty, !exists(callback, in: trees.registry, name, package.registry) {
                found.append(
                    "error: job \(job.name), key callback: \(job.callback) is looked for in registry/\(callback), which would not exist: "
                        + "install the service as \(callback), or write \(name). in front of the function.")
            }
            return found
        }
    }

    private static func exists(_ top: String, in tree: URL, _ name: String, _ own: URL?) -> Bool {
        if top == name { return own != nil }
        return [top, top + ".py"].contains { FileSystem.exists(tree.appendingPathComponent($0)) }
    }

    /// Runs that were planned before keep their jobs' names of functions.
    private static func vanishing(_ before: ServiceCatalog, _ jobs: [CatalogEntry], _ name: String) -> [String] {
        let now = Set(jobs.map(\.definition.entry))
        return before.entries.filter { $0.service == name && !$0.definition.entry.isEmpty && !now.contains($0.definition.entry) }.map {
            "warning: jobs that wait already call \($0.definition.entry), which the new settings do not name: "
                + "keep that function until those runs have ended, or they fail as broken-service."
        }
    }
}
