import Foundation
import GRDB
import Jobs
import Synchronization

/// Why the ledger cannot be read now. Reading again later may work: the router creates the file when it starts.
package struct LedgerReaderError: Error, CustomStringConvertible {
    package struct Code: Sendable, Hashable {
        fileprivate enum Value: String {
            case missing
            case unmigrated
            case newer
            case damaged
        }

        fileprivate let value: Value

        /// The file does not exist yet.
        package static let missing = Code(value: .missing)
        /// The file exists, its tables do not: the router is just making them.
        package static let unmigrated = Code(value: .unmigrated)
        /// A newer version of DCM Processor has changed the tables.
        package static let newer = Code(value: .newer)
        /// A row holds what no version of ours has written.
        package static let damaged = Code(value: .damaged)
    }

    package var code: Code
    package var message: String

    package var description: String { message }
}

/// The read side of the ledger: what the monitor shows.
///
/// Opens the file read-only, when it is first asked and not before the file exists, and stays useful while the router
/// writes. Every list is read in pages by key, every count through an index: the size of the ledger does not matter.
package final class LedgerReader: Sendable {
    package let path: String
    private let pool = Mutex<DatabasePool?>(nil)
    private let onStatement: (@Sendable (String) -> Void)?
    let common = CommonValues()

    /// - Parameters:
    ///   - path: the ledger's file, `STATE/ledger.sqlite`. It need not exist yet.
    ///   - onStatement: hears the SQL of everything that is read, without values.
    package init(path: String, onStatement: (@Sendable (String) -> Void)? = nil) {
        self.path = path
        self.onStatement = onStatement
    }

    /// - Throws: `LedgerReaderError` when there is no ledger that this version can read.
    package func checkReadable() async throws {
        _ = try await read { db in try Int.fetchOne(db, sql: "SELECT 1 FROM fact LIMIT 1") }
    }

    func read<Value: Sendable>(_ query: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        try await open().read(query)
    }

    private func open() throws -> DatabasePool {
        try pool.withLock { opened in
            if let opened { return opened }
            guard FileManager.default.fileExists(atPath: path) else {
                throw LedgerReaderError(code: .missing, message: "No ledger yet at \(path): the router creates it when it starts.")
            }
            var configuration = Configuration()
            configuration.readonly = true
            configuration.busyMode = .timeout(5)
            configuration.label = "ledger.reader"
            configuration.maximumReaderCount = 4
            configuration.hear(onStatement)
            let database = try DatabasePool(path: path, configuration: configuration)
            try database.read(Self.checkSchema)
            opened = database
            return database
        }
    }

    private static func checkSchema(_ db: Database) throws {
        let migrator = LedgerSchema.migrator()
        if try migrator.hasBeenSuperseded(db) {
            throw LedgerReaderError(
                code: .newer, message: "The ledger was written by a newer version of DCM Processor: start the monitor of that version.")
        }
        guard try migrator.hasCompletedMigrations(db) else {
            throw LedgerReaderError(code: .unmigrated, message: "The ledger's tables are not there yet: the router is starting.")
        }
    }
}

extension Configuration {
    /// - Parameter onStatement: hears the SQL of everything that is read or written, without values.
    mutating func hear(_ onStatement: (@Sendable (String) -> Void)?) {
        guard let onStatement else { return }
        prepareDatabase { db in
            db.trace { event in
                if case .statement(let statement) = event { onStatement(statement.sql) }
            }
        }
    }
}

/// One page of a list.
package struct LedgerPage<Element: Sendable>: Sendable {
    package var items: [Element]
    /// What to ask the next page with; nil at the end.
    package var next: String?

    package init(items: [Element], next: String?) {
        self.items = items
        self.next = next
    }

    /// Cuts a query's rows, of which one more than `limit` was asked for, to a page.
    init(_ rows: [Element], limit: Int, key: (Element) -> String) {
        self.init(items: Array(rows.prefix(limit)), next: rows.count > limit ? key(rows[limit - 1]) : nil)
    }
}
