import Foundation
import Glibc

/// Copies folders of services, so that what is there afterwards is on the disk, and no link was followed.
enum FolderCopy {
    /// Makes `target`, which must not exist, and fills it with what is listed of `source`.
    static func copy(_ listing: FolderListing, from source: URL, to target: URL) throws {
        try make(target.path)
        var folders = [target.path]
        for item in listing.items {
            let from = "\(source.path)/\(item.path)"
            let to = "\(target.path)/\(item.path)"
            switch item.kind {
            case .folder:
                try make(to)
                folders.append(to)
            case .file(_, let isProgram): try copyFile(from, to, mode: isProgram ? 0o755 : 0o644)
            case .link(let link):
                guard symlink(link, to) == 0 else { throw failure("The link \(to) could not be made") }
            }
        }
        for folder in folders.reversed() { try sync(folder) }
    }

    /// Waits until the names in a folder are on the disk.
    static func sync(_ folder: String) throws {
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("\(folder) could not be opened") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("\(folder) could not be written to the disk") }
    }

    /// Removes a folder that nobody needs; one that is not there is fine.
    static func remove(_ folder: URL) throws {
        do {
            try FileManager.default.removeItem(at: folder)
        } catch CocoaError.fileNoSuchFile {
            return
        } catch {
            throw StackError(.fileSystem, "\(folder.path) could not be removed: \((error as NSError).localizedDescription)")
        }
    }

    private static func make(_ folder: String) throws {
        guard mkdir(folder, 0o755) == 0 else { throw failure("The folder \(folder) could not be made") }
        // Whatever the umask says: services may run as another user than who installs.
        chmod(folder, 0o755)
    }

    private static func copyFile(_ from: String, _ to: String, mode: mode_t) throws {
        let source = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard source >= 0 else { throw failure("\(from) could not be opened") }
        defer { close(source) }
        let target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
        guard target >= 0 else { throw failure("\(to) could not be made") }
        defer { close(target) }
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = read(source, &buffer, buffer.count)
            if count < 0 { throw failure("\(from) could not be read") }
            if count == 0 { break }
            var done = 0
            while done < count {
                let written = buffer.withUnsafeBytes { write(target, $0.baseAddress! + done, count - done) }
                guard written > 0 else { throw failure("\(to) could not be written") }
                done += written
            }
        }
        guard fchmod(target, mode) == 0, fsync(target) == 0 else { throw failure("\(to) could not be written to the disk") }
    }

    static func failure(_ what: String) -> StackError {
        StackError(.fileSystem, "\(what): \(String(cString: strerror(errno))).")
    }
}
