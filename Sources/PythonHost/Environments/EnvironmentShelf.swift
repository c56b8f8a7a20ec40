import Foundation
import Glibc
import Jobs

/// The environments of one service on this host: folders, links by content that point to the finished ones, records of failures.
///
///     ENVIRONMENTS/<service>/lock
///     ENVIRONMENTS/<service>/<key>.<random>/   a virtual environment, built where it stays: it cannot be moved
///     ENVIRONMENTS/<service>/<key>             the link to a finished one, made by a rename
///     ENVIRONMENTS/<service>/<key>.failed      why the last build of that content failed
///
/// Everything here blocks.
struct EnvironmentShelf: Sendable {
    /// Finished environments that stay besides what processes run from: the current one, and the one before for jobs that run yet.
    private static let kept = 2

    let folder: URL

    init(_ configuration: EnvironmentsConfiguration, service: String) {
        folder = configuration.folder.appending(path: service, directoryHint: .isDirectory)
    }

    var lockFile: URL { folder.appending(path: "lock") }

    /// The interpreter of a finished environment.
    func interpreter(of key: String) -> String? {
        guard let target = target(of: key) else { return nil }
        let python = folder.appending(path: target).appending(path: "bin/python").path
        return access(python, X_OK) == 0 ? python : nil
    }

    /// A failure that is not older than `pause`.
    func failure(of key: String, within pause: Duration) -> JobExit.Failure? {
        let file = failureFile(key)
        guard let stamp = FileStamp(file.path) else { return nil }
        let age = Date().timeIntervalSince1970 - Double(stamp.modified) / 1e9
        // From the future: the clock has been set, so nobody knows how old it is.
        guard (0...(pause / .seconds(1))).contains(age), let data = try? Data(contentsOf: file) else { return nil }
        return try? JSONDecoder().decode(JobExit.Failure.self, from: data)
    }

    func record(_ failure: JobExit.Failure, of key: String) {
        try? JSONEncoder().encode(failure).write(to: failureFile(key), options: .atomic)
    }

    /// A new place for an environment of that content.
    func place(for key: String) -> URL {
        folder.appending(path: "\(key).\(String(UInt32.random(in: 0 ... .max), radix: 36))", directoryHint: .isDirectory)
    }

    /// Makes what was built at `place` the environment of `key`.
    /// - Returns: why that failed.
    func finish(_ place: URL, as key: String) -> String? {
        let link = folder.appending(path: key).path
        let new = folder.appending(path: "\(place.lastPathComponent).link").path
        guard symlink(place.lastPathComponent, new) == 0, rename(new, link) == 0 else {
            return "\(link): \(String(cString: strerror(errno)))"
        }
        unlink(failureFile(key).path)
        return nil
    }

    /// Notes that the environment is in use, so that others go before it.
    func touch(_ key: String) {
        _ = utimensat(AT_FDCWD, folder.appending(path: key).path, nil, AT_SYMLINK_NOFOLLOW)
    }

    /// Removes what nobody needs: what was built and never finished, and environments beyond the ones used last. Only under the lock.
    func clear() {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        // Keys have no dot.
        let links = names.filter { !$0.contains(".") && target(of: $0) != nil }.sorted { lastUse($0) > lastUse($1) }
        let stays = links.enumerated().filter { $0.offset < Self.kept || isInUse(target(of: $0.element)) }.map(\.element)
        let isNeeded = Set(stays + stays.compactMap(target) + [lockFile.lastPathComponent])
        for name in names where !isNeeded.contains(name) {
            // A record is read for some minutes only.
            if name.hasSuffix(".failed"), age(of: name) < 86_400 { continue }
            if !isInUse(name) { try? FileManager.default.removeItem(at: folder.appending(path: name)) }
        }
    }

    private func failureFile(_ key: String) -> URL { folder.appending(path: "\(key).failed") }

    /// Where a link points, nil for anything else.
    private func target(of name: String) -> String? {
        try? FileManager.default.destinationOfSymbolicLink(atPath: folder.appending(path: name).path)
    }

    private func lastUse(_ link: String) -> Int64 {
        var status = stat()
        guard lstat(folder.appending(path: link).path, &status) == 0 else { return 0 }
        return Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    }

    private func age(of name: String) -> Double {
        guard let stamp = FileStamp(folder.appending(path: name).path) else { return 0 }
        return Date().timeIntervalSince1970 - Double(stamp.modified) / 1e9
    }

    /// Whether a process runs from it, as far as this worker sees processes.
    private func isInUse(_ name: String?) -> Bool {
        guard let name else { return false }
        let prefix = Array((folder.appending(path: name).path + "/").utf8)
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.contains { process in
            guard process.first?.isNumber == true else { return false }
            return FileManager.default.contents(atPath: "/proc/\(process)/cmdline")?.starts(with: prefix) == true
        }
    }
}
