import Foundation

/// What is left in DATA when the runs are through.
struct LeftFiles: Sendable, CustomStringConvertible {
    private let folder: String
    /// Relative to DATA.
    private let ofTheseRuns: [String]
    private let others: Int

    /// Files of a worker's own, whose folders begin with a dot, do not count.
    static func read(in data: String, runs: [String]) -> LeftFiles {
        let folder = URL(fileURLWithPath: data, isDirectory: true)
        let all = (try? FileManager.default.subpathsOfDirectory(atPath: data)) ?? []
        let files = all.filter { path in
            guard !path.split(separator: "/").contains(where: { $0.hasPrefix(".") }) else { return false }
            var isFolder = ObjCBool(false)
            return FileManager.default.fileExists(atPath: folder.appendingPathComponent(path).path, isDirectory: &isFolder)
                && !isFolder.boolValue
        }
        let ours = files.filter { file in runs.contains { file.contains($0) } }
        return LeftFiles(folder: data, ofTheseRuns: ours.sorted(), others: files.count - ours.count)
    }

    var description: String {
        let other = others == 0 ? "" : "; \(others) \(others == 1 ? "file" : "files") of other runs"
        guard !ofTheseRuns.isEmpty else {
            return others == 0 ? "DATA is empty: \(folder)" : "These runs have left nothing in DATA (\(folder))\(other)."
        }
        let folders = Set(ofTheseRuns.map { $0.split(separator: "/").dropLast().prefix(2).joined(separator: "/") }).sorted()
        return "DATA (\(folder)) holds \(ofTheseRuns.count) files of these runs, in "
            + folders.prefix(6).joined(separator: ", ") + (folders.count > 6 ? ", ..." : "") + other
            + ". The services storageManager and systemcleaner see to that; './dcm service list' says whether they are installed."
    }
}
