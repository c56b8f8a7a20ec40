package import Foundation
import Jobs
package import Registry

/// Installs, removes and copies services, under the eyes of a running router and its workers.
package struct ServiceInstaller: Sendable {
    package let trees: ServiceTrees
    private let reached: @Sendable (FolderSwap.Step) throws -> Void

    /// - Parameter reached: for tests, see ``FolderSwap``.
    package init(_ trees: ServiceTrees, reached: @escaping @Sendable (FolderSwap.Step) throws -> Void = { _ in }) {
        self.trees = trees
        self.reached = reached
    }

    // MARK: Installing

    /// What ``install`` would do.
    package func plan(_ name: String, _ package: ServicePackage, source: String, replace: Bool) throws -> InstallPlan {
        try ServiceName.check(name)
        return try InstallPlan(name, package, source: source, into: trees, replace: replace)
    }

    /// - Parameter force: also with errors in the settings; never over what stands in its place.
    /// - Throws: ``StackError`` `.refused` with all reasons; nothing has changed then.
    package func install(
        _ name: String, _ package: ServicePackage, source: String, replace: Bool = false, force: Bool = false,
    ) async throws -> InstallPlan {
        try ServiceName.check(name)
        let turn = try await lock()
        defer { withExtendedLifetime(turn) {} }
        let plan = try plan(name, package, source: source, replace: replace)
        let reasons = plan.refusals + (force ? [] : plan.errors)
        guard reasons.isEmpty else {
            let cure = plan.refusals.isEmpty ? "\nNothing was changed; --force installs it all the same." : "\nNothing was changed."
            throw StackError(.refused, "\(name) is not installed:\n" + reasons.map { "  \($0)" }.joined(separator: "\n") + cure)
        }
        try put(name, package, source: source)
        return plan
    }

    private func lock() async throws -> FileLock {
        for tree in [trees.registry, trees.modules] { try FileSystem.makeFolder(tree) }
        return try await trees.lock()
    }

    /// The lock has to be held.
    func put(_ name: String, _ package: ServicePackage, source: String) throws {
        let record = InstallationRecord(
            id: Secret.generate(length: 16),
            name: name,
            version: try ContentVersion.of(registry: package.registry, module: package.module),
            source: source,
            installedAt: Date(timeIntervalSince1970: Date().timeIntervalSince1970.rounded(.down)),
            hasModule: package.module != nil,
            hasSettings: FileSystem.exists(package.registry.appendingPathComponent("settings.json")),
        )
        let swap = FolderSwap(trees: trees, name: name, reached: reached)
        try swap.removeLeftovers()
        try swap.stage(package, record: record)
        try swap.commit()
    }

    // MARK: Removing

    /// Who would miss a service: sentences, empty when nobody would.
    package func dependents(of name: String) throws -> [String] {
        let before = ServiceCatalog.load(registry: trees.registry, settings: trees.settings)
        let after = try RegistryPreview.catalog(trees, replacing: name, with: nil)
        let known = Set(before.problems)
        let own = Set(before.entries.filter { $0.service == name }.map(\.name))
        let others = before.entries.filter { $0.service != name && !$0.isDisabled }
        let waiting = others.filter { !own.isDisjoint(with: $0.dependsOn) }.map { "job \($0.name) of \($0.service) depends on it." }
        let using = others.filter { [$0.definition.entry, $0.callback].contains { $0.hasPrefix("\(name).") } }
            .map { "job \($0.name) of \($0.service) uses its code." }
        let broken = after.problems.filter { problem in
            problem.severity == .error && problem.service != name && !known.contains(problem)
                && !waiting.contains { $0.hasPrefix("job \(problem.entry ?? "") ") }
        }
        return waiting + using + broken.map(\.description)
    }

    /// Jobs that the service has now, disabled ones included.
    package func jobs(of name: String) -> [CatalogEntry] {
        ServiceCatalog.load(registry: trees.registry, settings: trees.settings).entries.filter { $0.service == name }
    }

    /// - Parameters:
    ///   - backup: gets `<backup>/<name>/{registry,module}` first.
    ///   - force: although other services need it.
    package func remove(_ name: String, backup: URL?, force: Bool) async throws {
        try ServiceName.check(name)
        try checkIsThere(name)
        let turn = try await lock()
        defer { withExtendedLifetime(turn) {} }
        let dependents = try dependents(of: name)
        guard force || dependents.isEmpty else {
            throw StackError(
                .refused,
                "\(name) is not removed, because others need it:\n" + dependents.map { "  \($0)" }.joined(separator: "\n")
                    + "\nNothing was changed; --force removes it all the same.",
            )
        }
        if let backup { try copy(name, to: backup, replace: false) }
        let swap = FolderSwap(trees: trees, name: name, reached: reached)
        try swap.removeLeftovers()
        try swap.commit()
    }

    // MARK: Backup

    /// Copies `<name>` to `<folder>/<name>/{registry,module}`, from where `install -p` brings it back.
    package func backup(_ name: String, to folder: URL, replace: Bool) async throws {
        try ServiceName.check(name)
        try checkIsThere(name)
        let turn = try await lock()
        defer { withExtendedLifetime(turn) {} }
        try copy(name, to: folder, replace: replace)
    }

    private func copy(_ name: String, to folder: URL, replace: Bool) throws {
        let target = folder.appendingPathComponent(name)
        guard replace || !FileSystem.exists(target) else {
            throw StackError(.refused, "\(target.path) exists already: choose another folder\(replace ? "" : ", or --replace").")
        }
        try FileSystem.makeFolder(folder)
        let staged = folder.appendingPathComponent(".dcm-new-\(name)")
        try FolderCopy.remove(staged)
        do {
            try FileSystem.makeFolder(staged)
            for (source, part) in [(trees.registry(of: name), "registry"), (trees.module(of: name), "module")]
            where FileSystem.exists(source) {
                try FolderCopy.copy(FolderListing(of: source), from: source, to: staged.appendingPathComponent(part))
            }
            try FolderCopy.sync(staged.path)
            try FolderCopy.remove(target)
            guard rename(staged.path, target.path) == 0 else { throw FolderCopy.failure("\(target.path) could not be made") }
            try FolderCopy.sync(folder.path)
        } catch {
            FileSystem.remove(staged)
            throw error
        }
    }

    private func checkIsThere(_ name: String) throws {
        guard !FileSystem.exists(trees.registry(of: name)), !FileSystem.exists(trees.module(of: name)) else { return }
        let known = ServiceTrees.names(in: trees.registry)
        throw StackError(
            .notFound,
            "There is no service \(name) in \(trees.registry.path)"
                + (known.isEmpty ? ", nor any other." : "; there are \(known.joined(separator: ", "))."),
        )
    }
}
