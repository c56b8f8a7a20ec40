package import Foundation

/// Where a service comes from, as typed behind `-p`.
package enum PackageSource: Sendable, Equatable {
    case folder(URL)
    /// .zip, .tar, .tar.gz or .tgz.
    case archive(URL)
    case git(url: String, branch: String?, subfolder: String?)

    package static let archiveSuffixes = [".zip", ".tar.gz", ".tgz", ".tar"]

    /// `URL#BRANCH`, `URL#BRANCH:FOLDER` and `URL#:FOLDER` name a part of a repository.
    ///
    /// - Throws: ``StackError`` that says what would be right.
    package static func parse(_ text: String) throws -> PackageSource {
        if let git = try gitSource(text) { return git }
        if text.contains("://") {
            throw StackError(
                .badSetting,
                "\(text) cannot be fetched: an address has to be a git repository's and end with .git "
                    + "(https://host/name.git#branch:folder). Download an archive first, and name the file.",
            )
        }
        let file = URL(fileURLWithPath: (text as NSString).expandingTildeInPath).standardizedFileURL
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder) else {
            throw StackError(
                .notFound, "\(file.path) does not exist: -p takes a folder with registry/ and module/, an archive, or a git URL.")
        }
        if isFolder.boolValue { return .folder(file) }
        guard archiveSuffixes.contains(where: file.lastPathComponent.lowercased().hasSuffix) else {
            throw StackError(.badSetting, "\(file.path) is no archive that can be read: \(archiveSuffixes.joined(separator: ", ")).")
        }
        return .archive(file)
    }

    private static func gitSource(_ text: String) throws -> PackageSource? {
        let parts = text.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let url = parts[0]
        let isRemote = ["https://", "http://", "ssh://", "git://", "file://"].contains(where: url.hasPrefix)
        // scp's way of writing: user@host:path.
        let isShort = url.range(of: "^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:", options: .regularExpression) != nil
        guard isShort || isRemote && url.hasSuffix(".git") else { return nil }
        guard parts.count > 1 else { return .git(url: url, branch: nil, subfolder: nil) }
        let place = parts[1].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let branch = place[0].isEmpty ? nil : place[0]
        let subfolder = place.count > 1 && !place[1].isEmpty ? place[1] : nil
        if let branch, branch.hasPrefix("-") { throw StackError(.badSetting, "'\(branch)' is no branch: it begins with '-'.") }
        if let subfolder, subfolder.hasPrefix("/") || subfolder.split(separator: "/").contains("..") {
            throw StackError(.badSetting, "'\(subfolder)' is no folder of a repository: it has to be relative, without '..'.")
        }
        return .git(url: url, branch: branch, subfolder: subfolder)
    }

    /// For people and for the record of an installation: without a password that stands in a URL.
    package var text: String {
        switch self {
        case .folder(let url), .archive(let url): return url.path
        case .git(let url, let branch, let subfolder):
            let shown = url.replacingOccurrences(of: "://[^/@]*@", with: "://", options: .regularExpression)
            guard branch != nil || subfolder != nil else { return shown }
            return "\(shown)#\(branch ?? "")\(subfolder.map { ":\($0)" } ?? "")"
        }
    }
}
