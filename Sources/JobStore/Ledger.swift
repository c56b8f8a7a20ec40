package import Foundation
import GRDB
import Jobs

/// The pipeline's truth: one SQLite file, `STATE/ledger.sqlite`, with one writer.
///
/// Whoever opens a `Ledger` is that writer; a lock file keeps a second one out. Readers use ``LedgerReader``.
package final class Ledger: Sendable {
    private let database: DatabasePool
    private let lock: WriterLock

    /// Opens the ledger in `folder`, creating or migrating it.
    /// - Throws: ``LedgerError`` when another process is the writer, or SQLite's error when the file cannot be used.
    package init(folder: URL) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        lock = try WriterLock(file: folder.appending(path: "ledger.lock"))
        database = try DatabasePool(path: Self.file(in: folder).path, configuration: Self.configuration())
        // The pool's own default trades the last commits for speed; an acknowledged message must not come back undone.
        try database.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
        try LedgerSchema.migrator().migrate(database)
    }

    package static func file(in folder: URL) -> URL { folder.appending(path: "ledger.sqlite") }

    /// Runs `body` as one transaction. When this returns, what it wrote is on disk; when it throws, nothing was written.
    package func write<Value: Sendable>(_ body: @Sendable @escaping (LedgerTransaction) throws -> Value) async throws -> Value {
        try await database.write { db in try body(LedgerTransaction(db: db)) }
    }

    private static func configuration() -> Configuration {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = true
        configuration.busyMode = .timeout(10)
        configuration.maximumReaderCount = 1
        configuration.label = "ledger"
        configuration.prepareDatabase { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
        return configuration
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
