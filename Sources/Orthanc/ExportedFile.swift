import CLinux
import Foundation
import Synchronization

/// One image on its way: a temporary file that becomes `<instance>.dcm`, or disappears with this object. Blocking.
final class ExportedFile: Sendable {
    private enum State {
        case open, closed, named
    }

    let descriptor: Int32
    private let folder: ExportFolder
    private let instance: OrthancID
    private let temporary: String
    private let state = Mutex(State.open)

    init(_ instance: OrthancID, in folder: ExportFolder) throws(FileFailure) {
        self.instance = instance
        self.folder = folder
        // Random: a worker that was given up for dead may still write the same instance.
        temporary = ".\(instance).\(String(UInt64.random(in: 0 ... .max), radix: 36)).part"
        descriptor = openat(folder.descriptor, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard descriptor >= 0 else {
            let number = errno
            state.withLock { $0 = .named }
            throw FileFailure(number: number)
        }
    }

    deinit {
        let state = state.withLock { $0 }
        if case .open = state { close(descriptor) }
        if case .named = state { return }
        unlinkat(folder.descriptor, temporary, 0)
    }

    func write(_ bytes: Data) throws(FileFailure) {
        let number: Int32 = bytes.withUnsafeBytes { bytes in
            var rest = bytes
            while !rest.isEmpty {
                let written = Foundation.write(descriptor, rest.baseAddress, rest.count)
                if written < 0 {
                    if errno == EINTR { continue }
                    return errno
                }
                rest = UnsafeRawBufferPointer(rebasing: rest[written...])
            }
            return 0
        }
        if number != 0 { throw FileFailure(number: number) }
    }

    func md5() throws(FileFailure) -> String { try Self.md5(of: descriptor) }

    /// Closes the file and gives it its name. Whether it is on the disk by then, ``InstanceExport`` sees to.
    /// - Parameter size: bytes of the file.
    func commit(size: Int64) throws(FileFailure) {
        // The disk may begin now; the export waits for all files together in the end. For small ones the order costs more than it brings.
        if size >= 256 << 10 { sync_file_range(descriptor, 0, 0, UInt32(DCM_SYNC_FILE_RANGE_WRITE)) }
        state.withLock { $0 = .closed }
        // Network file systems tell only here that a write failed.
        guard close(descriptor) == 0, renameat(folder.descriptor, temporary, folder.descriptor, ExportFolder.name(of: instance)) == 0 else {
            throw FileFailure(number: errno)
        }
        state.withLock { $0 = .named }
    }

    static func md5(of descriptor: Int32) throws(FileFailure) -> String {
        var digest = ContentDigest(.md5)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 16)
        defer { buffer.deallocate() }
        var offset: off_t = 0
        while true {
            let count = pread(descriptor, buffer.baseAddress, buffer.count, offset)
            if count < 0 {
                if errno == EINTR { continue }
                throw FileFailure(number: errno)
            }
            if count == 0 { return digest.finish() }
            digest.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            offset += off_t(count)
        }
    }
}

/// A system call on a file failed: `errno`.
struct FileFailure: Error {
    var number: Int32
    var isFull: Bool { number == ENOSPC || number == EDQUOT }
}
