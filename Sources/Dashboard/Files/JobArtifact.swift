import Foundation
import JobStore
import Jobs

/// A file that a job wants people to see.
struct JobArtifact: Sendable, Hashable {
    var job: String
    var name: String
    /// Relative to DATA.
    var path: String
    var kind: String

    /// What all attempts handed over; where two name the same file, the later one counts.
    static func all(of attempts: [LedgerAttempt], job: String) -> [JobArtifact] {
        var artifacts: [JobArtifact] = []
        for artifact in attempts.flatMap({ $0.exit?.artifacts ?? [] }) {
            artifacts.removeAll { $0.path == artifact.path }
            artifacts.append(JobArtifact(job: job, name: artifact.name, path: artifact.path, kind: artifact.kind))
        }
        return artifacts
    }

    var url: String {
        let path = path.split(separator: "/", omittingEmptySubsequences: false)
            .map { $0.addingPercentEncoding(withAllowedCharacters: Self.unreserved) ?? "" }.joined(separator: "/")
        return "/artifacts/\(job)/\(path)"
    }

    /// By the file's own name: what a job says of itself does not decide how a browser treats it.
    var contentType: String {
        let ending = path.lowercased().split(separator: ".").last.map(String.init) ?? ""
        return Self.types[ending] ?? "application/octet-stream"
    }

    var isImage: Bool { contentType.hasPrefix("image/") }
    /// Anything that could run script in our origin is for saving, not for showing.
    var isShownInline: Bool { isImage || contentType.hasPrefix("text/plain") }

    private static let unreserved = CharacterSet(charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
    private static let types = [
        "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
        "txt": "text/plain; charset=utf-8", "log": "text/plain; charset=utf-8", "csv": "text/plain; charset=utf-8",
        "json": "text/plain; charset=utf-8", "tsv": "text/plain; charset=utf-8", "bval": "text/plain; charset=utf-8",
        "bvec": "text/plain; charset=utf-8",
    ]
}

/// A path below a folder, after every symbolic link was followed.
enum ConfinedFile {
    /// - Returns: nil unless `path` names a regular file that lies in `folder` itself, wherever its links point.
    static func resolve(_ path: String, in folder: URL) -> String? {
        guard !path.isEmpty, !path.hasPrefix("/"), !path.contains("\0") else { return nil }
        guard let root = realPath(folder.path), let file = realPath(root + "/" + path), file.hasPrefix(root + "/") else { return nil }
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: file, isDirectory: &isFolder), !isFolder.boolValue else { return nil }
        guard
            let type = try? FileManager.default.attributesOfItem(atPath: file)[.type] as? FileAttributeType, type == .typeRegular
        else { return nil }
        return file
    }

    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
