import Foundation

/// What tells, without opening a file, whether the settings may have changed: the folders of the registry and the size, time
/// and inode of every settings file.
package struct RegistryFingerprint: Sendable, Hashable {
    private struct Stamp: Sendable, Hashable {
        var size: UInt64
        var modified: Date
        var inode: UInt64
    }

    private var stamps: [String: Stamp] = [:]
    private var folders: [String]
    /// False while a file is so young that a second change could leave the same size and time behind, and when one could not be read.
    private(set) var isSettled = true

    /// The latest change of a settings file.
    private var youngest = Date.distantPast

    private static let settlingTime: TimeInterval = 2

    init(registry: URL, settings: URL, now: Date = Date()) {
        folders = Self.folders(of: registry)
        let files = [settings] + folders.map { registry.appending(path: $0).appending(path: "settings.json") }
        for file in files {
            // Attributes of what a link points to: installing by swapping a link has to show.
            let path = file.resolvingSymlinksInPath().path
            guard let attributes = try? FileManager.default.attributesOfItem(atPath: path) else { continue }
            let modified = attributes[.modificationDate] as? Date ?? .distantPast
            stamps[file.path] = Stamp(
                size: (attributes[.size] as? NSNumber)?.uint64Value ?? 0,
                modified: modified,
                inode: (attributes[.systemFileNumber] as? NSNumber)?.uint64Value ?? 0,
            )
            youngest = max(youngest, modified)
            if abs(now.timeIntervalSince(modified)) < Self.settlingTime { isSettled = false }
        }
    }

    /// To be called when a file could not be read: new permissions, or a file server that is back, change neither size nor time.
    mutating func distrust() { isSettled = false }

    /// Whether somebody may still be writing one of the files.
    func mayBeInTheMaking(at now: Date) -> Bool { abs(now.timeIntervalSince(youngest)) < Self.settlingTime }

    /// Whether nothing has changed since `earlier` was taken.
    func proves(unchangedSince earlier: RegistryFingerprint) -> Bool {
        earlier.isSettled && stamps == earlier.stamps && folders == earlier.folders
    }

    /// The folders that may hold a service, sorted, with what cannot be looked at and may be one. Hidden ones and Python's caches are
    /// none.
    static func folders(of registry: URL) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: registry.path)) ?? []
        return
            names
            .filter { name in
                guard !name.hasPrefix("."), name != "__pycache__" else { return false }
                var isFolder: ObjCBool = false
                return !FileManager.default.fileExists(atPath: registry.appending(path: name).path, isDirectory: &isFolder)
                    || isFolder.boolValue
            }
            .sorted()
    }
}
