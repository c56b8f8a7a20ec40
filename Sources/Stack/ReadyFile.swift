package import Foundation

/// The file by which a service says that it works: `{"pid": n}`, touched every 5 seconds, removed at its end.
package enum ReadyFile {
    /// Older than this it says nothing any more.
    private static let freshFor: TimeInterval = 30

    package static func readiness(of file: URL, pid: Int32, now: Date = Date()) -> Readiness {
        struct Content: Decodable { let pid: Int32 }
        guard
            let attributes = try? FileManager.default.attributesOfItem(atPath: file.path),
            let touched = attributes[.modificationDate] as? Date,
            now.timeIntervalSince(touched) < freshFor,
            let data = try? Data(contentsOf: file),
            let content = try? JSONDecoder().decode(Content.self, from: data),
            content.pid == pid
        else { return .notYet }
        return .ready
    }
}
