package import Foundation

/// The services that come with DCM Processor: a folder each, in the shape that `install -p` takes.
package struct BundledServices: Sendable {
    package static let variable = "SERVICES"
    /// They run on the packages of the distribution: no network is needed.
    package static let standard = "temp,dcm2nii,preview"

    package let folder: URL

    /// - Returns: nil when there is no such folder.
    package init?(_ folder: URL?) {
        guard let folder, FileSystem.exists(folder) else { return nil }
        self.folder = folder
    }

    package var names: [String] {
        ServiceTrees.names(in: folder).filter {
            FileSystem.exists(folder.appendingPathComponent("\($0)/registry/settings.json"))
        }
    }

    package func package(_ name: String) throws -> ServicePackage {
        guard names.contains(name) else {
            throw StackError(.notFound, "There is no bundled service '\(name)': there are \(names.joined(separator: ", ")).")
        }
        return try ServicePackage.find(name, in: folder.appendingPathComponent(name))
    }

    /// Names out of a setting with commas; `all` for all, `none` for none.
    ///
    /// - Throws: ``StackError`` `.badSetting` for a name that is not there.
    package func chosen(_ setting: String) throws -> [String] {
        switch setting.trimmingCharacters(in: .whitespaces) {
        case "all": return names
        case "none": return []
        default: break
        }
        let chosen = setting.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        for name in chosen where !names.contains(name) {
            throw StackError(
                .badSetting,
                "\(Self.variable) names '\(name)', which is no bundled service: there are \(names.joined(separator: ", ")), and 'all' and 'none'.",
            )
        }
        return chosen
    }

    /// Gives trees that are empty the services that `setting` names, and the pipeline's own settings. Trees that have something keep it.
    ///
    /// A start that is killed in between goes on at the next one.
    /// - Parameter pipeline: the pipeline's settings to begin with; `{}` without.
    /// - Returns: what was installed; nil when there was something already.
    @discardableResult
    package func fill(_ trees: ServiceTrees, setting: String?, pipeline: URL?) throws -> [String]? {
        for tree in [trees.registry, trees.modules] { try FileSystem.makeFolder(tree) }
        let mark = trees.registry.appendingPathComponent(".dcm-filling")
        let isEmpty = [trees.registry, trees.modules].allSatisfy { tree in
            ((try? FileManager.default.contentsOfDirectory(atPath: tree.path)) ?? []).allSatisfy { $0.hasPrefix(".") }
        }
        guard isEmpty || FileSystem.exists(mark) else { return nil }
        let chosen = try chosen(setting ?? Self.standard)
        let turn = try trees.tryLock()
        defer { withExtendedLifetime(turn) {} }
        try FileSystem.write("", to: mark)
        let installer = ServiceInstaller(trees)
        // Unlike other installations, without a look at their settings: some depend on one that comes later in the list.
        for name in chosen { try installer.put(name, package(name), source: "bundled") }
        let file = trees.registry.appendingPathComponent("settings.json")
        if !FileSystem.exists(file) {
            let text = pipeline.flatMap { FileManager.default.contents(atPath: $0.path) }
            try FileSystem.write(text ?? Data("{}\n".utf8), to: file, mode: 0o644)
        }
        FileSystem.remove(mark)
        return chosen
    }
}
