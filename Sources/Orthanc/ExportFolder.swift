import Foundation

/// File work of the export. Blocking: call it through `ExportFolder.blocking`.
///
/// A name that ends in `.dcm` stands for a complete file: it is checked and synced under a temporary name before it gets that name.
struct ExportFolder: Sendable {
    let url: URL

    private static let queue = DispatchQueue(label: "dcm.export.files", attributes: .concurrent)

    /// Runs `body` away from the threads of async code, which must never wait for a disk.
    static func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result(catching: body)) }
        }
    }

    func create() throws(ExportError) {
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
        } catch let error as CocoaError {
            let cause = (error.userInfo[NSUnderlyingErrorKey] as? NSError)?.localizedDescription ?? "error \(error.errorCode)"
            throw .unwritable(path: url.path, reason: cause)
        } catch {
            throw .unwritable(path: url.path, reason: "\(error)")
        }
    }

    /// Removes what an interrupted export left: temporary files, and images that Orthanc no longer lists.
    func removeLeftovers(keeping instances: Set<OrthancID>) throws(ExportError) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
        for name in names {
            let isTemporary = name.hasPrefix(".") && name.hasSuffix(".part")
            let instance = name.hasSuffix(".dcm") ? OrthancID(rawValue: String(name.dropLast(4))) : nil
            if isTemporary || instance.map({ !instances.contains($0) }) == true {
                guard unlink(url.appending(path: name).path) == 0 || errno == ENOENT else {
                    throw Self.failure(url.appending(path: name).path)
                }
            }
        }
    }

    func path(of instance: OrthancID) -> String {
        url.appending(path: "\(instance).dcm").path
    }

    /// Bytes of the instance's file, or nil when it is not there.
    func size(of instance: OrthancID) -> Int64? {
        var status = stat()
        guard lstat(path(of: instance), &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int64(status.st_size)
    }

    func md5(of instance: OrthancID) -> String? {
        let descriptor = open(path(of: instance), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return try? Self.md5(of: descriptor)
    }

    /// Bytes that this user may still write to the folder's file system.
    func available() throws(ExportError) -> Int64 {
        var status = statvfs()
        guard statvfs(url.path, &status) == 0 else { throw Self.failure(url.path) }
        return Int64(status.f_bavail) * Int64(status.f_frsize)
    }

    /// Makes the new names of the folder durable.
    func sync() throws(ExportError) {
        let descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_DIRECTORY)
        guard descriptor >= 0 else { throw Self.failure(url.path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw Self.failure(url.path) }
    }

    func remove(_ instance: OrthancID) {
        unlink(path(of: instance))
    }

    static func failure(_ path: String, _ number: Int32 = errno) -> ExportError {
        .unwritable(path: path, reason: String(cString: strerror(number)))
    }

    static func md5(of descriptor: Int32) throws -> String {
        var digest = ContentDigest(.md5)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 16)
        defer { buffer.deallocate() }
        var offset: off_t = 0
        while true {
            let count = pread(descriptor, buffer.baseAddress, buffer.count, offset)
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("a downloaded file")
            }
            if count == 0 { return digest.finish() }
            digest.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            offset += off_t(count)
        }
    }
}

/// One image on its way: a temporary file that becomes `<instance>.dcm`, or disappears.
struct ExportedFile: ~Copyable {
    let descriptor: Int32
    private let temporary: String
    private let final: String
    private var isCommitted = false

    init(_ instance: OrthancID, in folder: ExportFolder) throws(ExportError) {
        final = folder.path(of: instance)
        // Random: a worker that was given up for dead may still write the same instance.
        temporary = folder.url.appending(path: ".\(instance).\(String(UInt64.random(in: 0 ... .max), radix: 36)).part").path
        descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw ExportFolder.failure(temporary) }
    }

    deinit {
        close(descriptor)
        if !isCommitted { unlink(temporary) }
    }

    mutating func commit() throws(ExportError) {
        guard rename(temporary, final) == 0 else { throw ExportFolder.failure(final) }
        isCommitted = true
    }
}
