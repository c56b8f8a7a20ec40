import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Deletes below a folder and nowhere else: jobs write there, and a symbolic link that one of them left must not lead out.
///
/// Each step opens the next folder relative to the last one and refuses links, so that nothing can be exchanged for a link in between.
struct ConfinedFolder: Sendable {
    private let root: URL

    init(_ root: URL) { self.root = root }

    struct Refusal: Error, CustomStringConvertible {
        var description: String
    }

    /// Deletes a file or a folder with all that is in it; links are deleted, never followed. What is not there is fine.
    ///
    /// - Parameters:
    ///   - path: relative to the folder, with slashes.
    func remove(_ path: String) throws {
        guard let (folder, name) = try resolve(path) else { return }
        try folder.remove(name)
    }

    /// Deletes a file, unless it was changed at `cutoff` or later; leaves folders and links alone.
    func removeFile(_ path: String, unchangedSince cutoff: Date) throws {
        guard let (folder, name) = try resolve(path), let change = try folder.lastChange(ofFile: name), change < cutoff else { return }
        try folder.remove(name)
    }

    /// Deletes what stands in the folder `path` under a name that starts with `prefix`.
    func removeAll(in path: String, startingWith prefix: String) throws {
        guard !prefix.isEmpty, let (parent, name) = try resolve(path), let folder = try parent.folder(name) else { return }
        for entry in try folder.entries() where entry.hasPrefix(prefix) { try folder.remove(entry) }
    }

    /// - Returns: the folder that holds what the path names; nil when there is none.
    private func resolve(_ path: String) throws -> (Folder, name: String)? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard !path.isEmpty, !path.utf8.contains(0), parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
            throw Refusal(description: "a path that does not stay below its folder is not deleted")
        }
        guard var folder = try Folder(path: root.path) else { return nil }
        for part in parts.dropLast() {
            guard let next = try folder.folder(part) else { return nil }
            folder = next
        }
        return (folder, parts[parts.count - 1])
    }

    /// An open folder. A class, because it is closed exactly once, however it is left.
    private final class Folder {
        private let descriptor: Int32

        private init(descriptor: Int32) { self.descriptor = descriptor }

        deinit { close(descriptor) }

        /// - Returns: nil when it is not there.
        convenience init?(path: String) throws {
            let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if descriptor < 0, errno == ENOENT { return nil }
            guard descriptor >= 0 else { throw Self.failure("opened") }
            self.init(descriptor: descriptor)
        }

        /// - Returns: nil when it is not there.
        func folder(_ name: String) throws -> Folder? {
            let next = openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if next < 0, errno == ENOENT { return nil }
            if next < 0, errno == ELOOP || errno == ENOTDIR { throw Refusal(description: "a link stands where a folder should be") }
            guard next >= 0 else { throw Self.failure("opened") }
            return Folder(descriptor: next)
        }

        /// - Returns: nil when it is no file, or not there.
        func lastChange(ofFile name: String) throws -> Date? {
            var status = stat()
            guard fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
                if errno == ENOENT { return nil }
                throw Self.failure("read")
            }
            guard status.st_mode & S_IFMT == S_IFREG else { return nil }
            #if canImport(Darwin)
            return Date(timeIntervalSince1970: TimeInterval(status.st_mtimespec.tv_sec))
            #else
            return Date(timeIntervalSince1970: TimeInterval(status.st_mtim.tv_sec))
            #endif
        }

        func remove(_ name: String) throws {
            if unlinkat(descriptor, name, 0) == 0 || errno == ENOENT { return }
            // Linux says EISDIR for a folder, POSIX EPERM.
            guard errno == EISDIR || errno == EPERM else { throw Self.failure("deleted") }
            guard let folder = try folder(name) else { return }
            for entry in try folder.entries() { try folder.remove(entry) }
            guard unlinkat(descriptor, name, AT_REMOVEDIR) == 0 || errno == ENOENT else { throw Self.failure("deleted") }
        }

        func entries() throws -> [String] {
            // Its own descriptor: closedir closes it.
            let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard copy >= 0 else { throw Self.failure("opened") }
            guard let stream = fdopendir(copy) else {
                close(copy)
                throw Self.failure("read")
            }
            defer { closedir(stream) }
            var names: [String] = []
            while let entry = readdir(stream) {
                // Bytes that are no UTF-8 cannot be named by a String, so such a file stays, and its folder.
                let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != ".", name != ".." { names.append(name) }
            }
            return names
        }

        private static func failure(_ act: String) -> Refusal {
            Refusal(description: "a file or folder cannot be \(act): \(String(cString: strerror(errno)))")
        }
    }
}
