import Foundation
import Registry
import Testing

/// A registry of its own for one test, removed when the test ends.
final class RegistryFolder {
    let url: URL
    var settings: URL { url.appending(path: "settings.json") }

    init(pipeline: String? = "{}") throws {
        url = FileManager.default.temporaryDirectory.appending(path: "registry-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        if let pipeline { try write(pipeline, to: "settings.json") }
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func write(_ text: String, to path: String) throws {
        let file = url.appending(path: path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    /// Writes the settings of a service whose entry has the given further members, such as `"timeout": "1x"`.
    func service(_ name: String, _ members: String = "") throws {
        try write("{" + Self.entry(name, members) + "}", to: "\(name)/settings.json")
    }

    static func entry(_ name: String, _ members: String = "") -> String {
        "\"jobName\": \"\(name)\", \"worker\": \"\(name).worker\", \"callback\": \"\(name).callback\""
            + (members.isEmpty ? "" : ", " + members)
    }

    func load(_ defaults: CatalogDefaults = CatalogDefaults()) -> ServiceCatalog {
        ServiceCatalog.load(registry: url, settings: settings, defaults: defaults)
    }
}

extension ServiceCatalog {
    var names: [String] { entries.filter { !$0.isDisabled }.map(\.name) }
    var errors: [ServiceProblem] { problems.filter { $0.severity == .error } }
    var warnings: [ServiceProblem] { problems.filter { $0.severity == .warning } }

    func entry(_ name: String) throws -> CatalogEntry {
        try #require(entries.first { $0.name == name })
    }
}
