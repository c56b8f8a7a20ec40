import CLinux
import Foundation

/// An open folder of a run. Blocking: call it through `ExportFolder.blocking`.
///
/// Jobs write below DATA too, and a symbolic link that one of them left must not lead an export out of it. So each folder is opened relative
/// to the one above, links are refused, and files are named relative to the open folder: nothing can be exchanged for a link in between.
///
/// A name that ends in `.dcm` stands for a file that arrived whole: length and checksum are right before it gets that name.
final class ExportFolder: Sendable {
    /// For messages only.
    let path: String
    let descriptor: Int32

    private static let queue = DispatchQueue(label: "dcm.export.files", attributes: .concurrent)

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// Runs `body` away from the threads of async code, which must never wait for a disk.
    static func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result(catching: body)) }
        }
    }

    // MARK: Folders

    /// Opens DATA, which may itself be a link, and makes it when it is missing.
    static func root(_ url: URL) throws(ExportError) -> ExportFolder {
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
        } catch {
            let cause = (error as? CocoaError)?.userInfo[NSUnderlyingErrorKey] as? NSError
            throw .unwritable(path: url.path, reason: cause?.localizedDescription ?? "\(error)")
        }
        let descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_DIRECTORY)
        guard descriptor >= 0 else { throw failure(url.path) }
        return ExportFolder(path: url.path, descriptor: descriptor)
    }

    /// The names on the way to a folder below this one.
    static func names(of path: String) throws(ExportError) -> [String] {
        let names = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard !path.utf8.contains(0), names.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
            throw .unconfined(path: path, reason: "it is not a path below DATA")
        }
        return names
    }

    /// - Returns: nil when it is not there.
    func existing(_ name: String) throws(ExportError) -> ExportFolder? {
        let below = "\(path)/\(name)"
        let folder = openat(descriptor, name, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW)
        if folder >= 0 { return ExportFolder(path: below, descriptor: folder) }
        switch errno {
        case ENOENT: return nil
        case ELOOP, ENOTDIR: throw .unconfined(path: below, reason: "a link or a file stands where a folder of the run belongs")
        default: throw Self.failure(below)
        }
    }

    func make(_ name: String) throws(ExportError) -> ExportFolder {
        guard mkdirat(descriptor, name, 0o750) == 0 || errno == EEXIST else { throw Self.failure("\(path)/\(name)") }
        guard let folder = try existing(name) else { throw Self.failure("\(path)/\(name)", ENOENT) }
        return folder
    }

    /// Removes an empty folder below this one; one that is not empty stays.
    func removeEmpty(_ name: String) {
        unlinkat(descriptor, name, Int32(AT_REMOVEDIR))
    }

    /// Bytes that this user may still write to the folder's file system, and the unit in which it hands them out.
    func space() throws(ExportError) -> (available: Int64, unit: Int64) {
        var status = statvfs()
        guard fstatvfs(descriptor, &status) == 0 else { throw Self.failure(path) }
        return (Int64(status.f_bavail) * Int64(status.f_frsize), max(1, Int64(status.f_frsize)))
    }

    /// Makes everything that was written to the folder's file system durable, names included.
    /// - Throws: also when any of it could not be written since the folder was opened.
    func sync() throws(FileFailure) {
        guard syncfs(descriptor) == 0 else { throw FileFailure(number: errno) }
    }

    // MARK: Images

    /// The images that are here, with their sizes; what an interrupted export left half done, and images that are not wanted, are removed.
    func tidy(keeping isWanted: (OrthancID) -> Bool) throws(ExportError) -> [OrthancID: Int64] {
        var sizes: [OrthancID: Int64] = [:]
        for name in try fileNames() {
            let isTemporary = name.hasPrefix(".") && name.hasSuffix(".part")
            let instance = name.hasSuffix(".dcm") ? OrthancID(rawValue: String(name.dropLast(4))) : nil
            if let instance, isWanted(instance), let size = size(of: name) {
                sizes[instance] = size
            } else if isTemporary || instance != nil {
                guard unlinkat(descriptor, name, 0) == 0 || errno == ENOENT else { throw Self.failure("\(path)/\(name)") }
            }
        }
        return sizes
    }

    private func fileNames() throws(ExportError) -> [String] {
        // A descriptor of its own: reading moves its position.
        let copy = openat(descriptor, ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY)
        guard copy >= 0 else { throw Self.failure(path) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw Self.failure(path)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) { name in
                    name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names
    }

    /// - Returns: nil unless it is a file.
    private func size(of name: String) -> Int64? {
        var status = stat()
        guard fstatat(descriptor, name, &status, Int32(AT_SYMLINK_NOFOLLOW)) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int64(status.st_size)
    }

    static func name(of instance: OrthancID) -> String { "\(instance).dcm" }

    func path(of instance: OrthancID) -> String { "\(path)/\(Self.name(of: instance))" }

    func md5(of instance: OrthancID) -> String? {
        let file = openat(descriptor, Self.name(of: instance), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { return nil }
        defer { close(file) }
        return try? ExportedFile.md5(of: file)
    }

    func remove(_ instance: OrthancID) {
        unlinkat(descriptor, Self.name(of: instance), 0)
    }

    static func failure(_ path: String, _ number: Int32 = errno) -> ExportError {
        .unwritable(path: path, reason: String(cString: strerror(number)))
    }
}
