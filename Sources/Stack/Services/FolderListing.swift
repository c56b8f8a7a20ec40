package import Foundation
import Glibc

/// What of a folder belongs to a service: its files, without caches, tests and what version control keeps.
package struct FolderListing: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        case folder
        case file(size: Int64, isProgram: Bool)
        /// A relative link to something in the same folder.
        case link(to: String)
    }

    package struct Item: Sendable, Equatable {
        /// Relative to the folder.
        package let path: String
        package let kind: Kind
    }

    /// Folders stand before what is in them.
    package private(set) var items: [Item] = []
    /// What is not copied, relative to the folder.
    package private(set) var leftOut: [String] = []

    package var files: [String] { items.filter { $0.kind != .folder }.map(\.path) }
    package var bytes: Int64 {
        items.reduce(0) { if case .file(let size, _) = $1.kind { $0 + size } else { $0 } }
    }

    private static let caches: Set<String> = [
        "__pycache__", ".git", ".hg", ".svn", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".venv", ".DS_Store",
        InstallationRecord.fileName,
    ]
    /// More than this is no service but a mistake, the folder of all studies for example.
    private static let fileLimit = 100_000

    /// - Throws: ``StackError`` for what cannot be part of a service: a link that leads out of the folder, a device, a name that is no UTF-8.
    package init(of folder: URL) throws {
        try list(folder.path, "")
    }

    private mutating func list(_ root: String, _ path: String) throws {
        let folder = path.isEmpty ? root : "\(root)/\(path)"
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        } catch {
            throw StackError(.fileSystem, "The folder \(folder) cannot be read: \((error as NSError).localizedDescription)")
        }
        for name in names {
            let child = path.isEmpty ? name : "\(path)/\(name)"
            if Self.caches.contains(name) || name.hasSuffix(".pyc") {
                leftOut.append(child)
                continue
            }
            guard items.count < Self.fileLimit else {
                throw StackError(.badSetting, "\(root) has more than \(Self.fileLimit) files: that is no service.")
            }
            try add(name, child, root)
        }
    }

    private mutating func add(_ name: String, _ child: String, _ root: String) throws {
        var info = stat()
        guard lstat("\(root)/\(child)", &info) == 0 else {
            throw StackError(.fileSystem, "\(root)/\(child) cannot be read: \(String(cString: strerror(errno))).")
        }
        switch info.st_mode & S_IFMT {
        case S_IFDIR:
            if isLeftOut(name, child, root) {
                leftOut.append(child)
                return
            }
            items.append(Item(path: child, kind: .folder))
            try list(root, child)
        case S_IFREG:
            items.append(Item(path: child, kind: .file(size: Int64(info.st_size), isProgram: info.st_mode & 0o111 != 0)))
        case S_IFLNK:
            let target = (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(root)/\(child)")) ?? ""
            guard Self.staysInside(target, from: child) else {
                throw StackError(
                    .refused,
                    "\(root)/\(child) is a link to \(target), out of its folder. A service may only link to files of its own; "
                        + "copy the file instead.",
                )
            }
            items.append(Item(path: child, kind: .link(to: target)))
        default:
            throw StackError(.refused, "\(root)/\(child) is neither a file nor a folder (a device, a socket or a pipe): remove it.")
        }
    }

    /// Environments, and tests that stand beside the code.
    private func isLeftOut(_ name: String, _ child: String, _ root: String) -> Bool {
        if FileManager.default.fileExists(atPath: "\(root)/\(child)/pyvenv.cfg") { return true }
        guard child == "tests" else { return false }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(root)/\(child)")) ?? []
        return names.contains { $0 == "conftest.py" || $0.hasPrefix("test_") && $0.hasSuffix(".py") }
    }

    /// Whether a link in `path` with this target leads to a place in the same folder, by its text alone.
    static func staysInside(_ target: String, from path: String) -> Bool {
        guard !target.isEmpty, !target.hasPrefix("/") else { return false }
        var depth = path.split(separator: "/").count - 1
        for part in target.split(separator: "/") where part != "." {
            depth += part == ".." ? -1 : 1
            if depth < 0 { return false }
        }
        return true
    }
}
