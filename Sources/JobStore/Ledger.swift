package import Foundation
import GRDB
import Synchronization

/// The pipeline's truth on SQLite: one file, `STATE/ledger.sqlite`, with one writer.
///
/// Whoever opens a `Ledger` is that writer; a lock file keeps a second one out. Readers use ``LedgerReader``.
package final class Ledger: LedgerEngine {
    private let database: DatabasePool
    private let lock: WriterLock
    private let log: Mutex<LogWatch>

    /// Opens the ledger in `folder`, creating or migrating it.
    ///
    /// - Parameter logLimit: bytes that the write-ahead log may grow to before the writer waits for readers to let it be emptied.
    /// - Throws: ``LedgerError`` when another process is the writer, or SQLite's error when the file cannot be used.
    package init(folder: URL, logLimit: Int = 64 << 20) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        lock = try WriterLock(file: folder.appending(path: "ledger.lock"))
        let file = Self.file(in: folder)
        database = try DatabasePool(path: file.path, configuration: Self.configuration())
        log = Mutex(LogWatch(path: file.path + "-wal", limit: logLimit))
        // The pool's own default trades the last commits for speed; an acknowledged message must not come back undone.
        try database.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
        try LedgerSchema.migrator().migrate(database)
    }

    package static func file(in folder: URL) -> URL { folder.appending(path: "ledger.sqlite") }

    package func write<Value: Sendable>(_ body: @Sendable @escaping (any LedgerTransaction) throws -> Value) async throws -> Value {
        let value = try await database.write { db in try body(SQLiteTransaction(db: db)) }
        if log.withLock({ $0.isDue() }) { await emptyLog() }
        return value
    }

    /// SQLite empties the log by itself, but never while anybody reads: with readers who take turns, the log would grow for ever.
    ///
    /// This waits for the readers that are there; those that come meanwhile no longer need the log.
    private func emptyLog() async {
        _ = try? await database.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA busy_timeout = 1000")
            defer { try? db.execute(sql: "PRAGMA busy_timeout = \(Self.patience * 1000)") }
            try db.checkpoint(.truncate)
        }
        log.withLock { $0.noteTry() }
    }

    /// Seconds that a statement waits for a lock of another process.
    private static let patience = 10

    private static func configuration() -> Configuration {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = true
        configuration.busyMode = .timeout(TimeInterval(patience))
        configuration.maximumReaderCount = 1
        configuration.label = "ledger"
        configuration.prepareDatabase { db in
            // Takes effect in a new file only, and there before anything else is written.
            if !db.configuration.readonly { try db.execute(sql: "PRAGMA auto_vacuum = INCREMENTAL") }
            try db.execute(sql: "PRAGMA synchronous = FULL")
        }
        return configuration
    }
}

/// When the write-ahead log has grown too long.
private struct LogWatch {
    let path: String
    let limit: Int
    /// A reader that does not end keeps the log; then it is tried again only after further growth, since each try holds up the writer.
    private var next: Int
    private var commits = 0

    init(path: String, limit: Int) {
        self.path = path
        self.limit = limit
        next = limit
    }

    mutating func isDue() -> Bool {
        commits += 1
        guard commits.isMultiple(of: 32) else { return false }
        return size > next
    }

    mutating func noteTry() { next = max(limit, size + limit / 2) }

    private var size: Int {
        (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
    }
}

package struct LedgerError: Error, CustomStringConvertible {
    package struct Code: Sendable, Hashable {
        private enum Known: Hashable { case locked, unusable, corrupt }
        private let known: Known
        /// Another process holds the ledger.
        package static let locked = Code(known: .locked)
        /// The folder or the file cannot be used.
        package static let unusable = Code(known: .unusable)
        /// A row holds what this version cannot read.
        package static let corrupt = Code(known: .corrupt)
    }

    package let code: Code
    package let message: String
    package var description: String { message }

    static func unusable(_ file: URL, _ reason: Int32) -> LedgerError {
        let text = String(cString: strerror(reason))
        return LedgerError(
            code: .unusable,
            message: "\(file.path) cannot be used (\(text)): STATE must be a writable folder on a disk that can lock files.")
    }

    /// Whether the same write may succeed later without anybody changing the program or the data: a full disk, a busy file.
    package static func isTemporary(_ error: any Error) -> Bool {
        guard let error = error as? DatabaseError else { return false }
        return switch error.resultCode {
        case .SQLITE_FULL, .SQLITE_IOERR, .SQLITE_BUSY, .SQLITE_LOCKED, .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_NOMEM,
            .SQLITE_INTERRUPT, .SQLITE_ABORT:
            true
        default: false
        }
    }
}
