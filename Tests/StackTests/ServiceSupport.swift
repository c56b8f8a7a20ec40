import Foundation
import Stack
import Synchronization

/// Two empty trees with the pipeline's settings, and packages to install into them.
struct ServiceSite: Sendable {
    let folder: URL
    let trees: ServiceTrees

    init(in folder: URL) throws {
        self.folder = folder
        trees = ServiceTrees(registry: folder.appendingPathComponent("registry"), modules: folder.appendingPathComponent("modules"))
        for tree in [trees.registry, trees.modules] { try FileSystem.makeFolder(tree) }
        try FileSystem.write("{}", to: trees.settings)
    }

    /// A package whose files all tell `mark`.
    func package(
        _ name: String, job: String? = nil, mark: String = "1", in place: String? = nil, extra: [String: String] = [:],
        settings: String? = nil,
    ) throws -> ServicePackage {
        let root = folder.appendingPathComponent("packages/\(place ?? name)-\(mark)")
        let standard = """
            {"jobName": "\(job ?? name)", "worker": "\(name).worker", "callback": "\(name).callback", "description": "\(mark)"}
            """
        let files =
            [
                "registry/settings.json": settings ?? standard,
                "registry/__init__.py": "MARK = '\(mark)'\ndef callback(**kwargs):\n    return True\n",
                "module/__init__.py": "MARK = '\(mark)'\ndef worker(**kwargs):\n    return MARK\n",
            ].merging(extra) { $1 }
        for (path, text) in files {
            let file = root.appendingPathComponent(path)
            try FileSystem.makeFolder(file.deletingLastPathComponent())
            try FileSystem.write(text, to: file)
        }
        return try ServicePackage.find(name, in: root)
    }

    @discardableResult
    func install(_ name: String, job: String? = nil, mark: String = "1", replace: Bool = false) async throws -> InstallPlan {
        try await ServiceInstaller(trees).install(name, package(name, job: job, mark: mark), source: "here", replace: replace)
    }

    /// The mark of a tree's folder, read through one descriptor of the folder: what a reader of that moment has seen; nil without a folder.
    func mark(_ tree: URL, _ name: String) -> String? {
        let text = try? String(contentsOf: tree.appendingPathComponent("\(name)/__init__.py"), encoding: .utf8)
        return text?.split(separator: "'").dropFirst().first.map(String.init)
    }

    /// Every path below both trees, with the contents of files.
    func snapshot() -> [String: String] {
        var found: [String: String] = [:]
        for tree in [trees.registry, trees.modules] {
            for path in (try? FileManager.default.subpathsOfDirectory(atPath: tree.path)) ?? [] {
                let file = tree.appendingPathComponent(path)
                found["\(tree.lastPathComponent)/\(path)"] = (try? String(contentsOf: file, encoding: .utf8)) ?? "folder"
            }
        }
        return found
    }

    /// Names of folders that are no leftovers.
    var visible: [String] {
        [trees.registry, trees.modules].flatMap { tree in
            ((try? FileManager.default.contentsOfDirectory(atPath: tree.path)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
        }
    }

    var leftovers: [String] {
        [trees.registry, trees.modules].flatMap { tree in
            ((try? FileManager.default.contentsOfDirectory(atPath: tree.path)) ?? []).filter { $0.hasPrefix(".dcm-new") }
        }
    }
}

/// Stands for a `kill -9` at a step.
struct Killed: Error {}

func withSite<Value>(_ body: (ServiceSite) async throws -> Value) async throws -> Value {
    try await withTemporaryFolder { try await body(ServiceSite(in: $0)) }
}

/// The message of the ``StackError`` that `body` throws; nil when it throws none.
func refusal(_ body: () async throws -> Void) async throws -> String? {
    do {
        try await body()
        return nil
    } catch let error as StackError {
        return error.message
    }
}
