package import Foundation
import GRDB

/// What somebody may do in the monitor. Each role includes those before it.
package enum AccountRole: String, Sendable, Hashable, CaseIterable, Comparable {
    /// Sees everything but what identifies patients.
    case viewer
    /// Retries, cancels, pauses, and may reveal what identifies a patient, which is recorded.
    case `operator`
    /// Also manages users and tokens.
    case admin

    package static func < (left: AccountRole, right: AccountRole) -> Bool { left.rank < right.rank }

    private var rank: Int {
        switch self {
        case .viewer: 0
        case .operator: 1
        case .admin: 2
        }
    }
}

/// Why the monitor's store cannot do what it was asked for.
package struct MonitorStoreError: Error, CustomStringConvertible {
    package struct Code: Sendable, Hashable {
        fileprivate enum Value: String {
            case newer
            case unusable
            case exists
            case missing
            case lastAdmin
            case tooSoon
        }

        fileprivate let value: Value

        /// A newer version of DCM Processor has changed the tables.
        package static let newer = Code(value: .newer)
        /// The file cannot be created or opened.
        package static let unusable = Code(value: .unusable)
        /// There is one of that name already.
        package static let exists = Code(value: .exists)
        /// There is none of that name.
        package static let missing = Code(value: .missing)
        /// Nobody who may manage users would be left.
        package static let lastAdmin = Code(value: .lastAdmin)
        /// What was done before has to have its effect first.
        package static let tooSoon = Code(value: .tooSoon)
    }

    package var code: Code
    package var message: String

    package var description: String { message }
}

/// What the monitor keeps for itself in `STATE/monitor.sqlite`: users, sessions, API tokens, and who did what.
///
/// The command line writes the same file while the monitor runs. Passwords and tokens are never in it, only what they can be checked with.
package final class MonitorStore: Sendable {
    let database: DatabasePool

    /// Opens the store in `folder`, creating or migrating it. The file is readable for its owner alone.
    package init(folder: URL) throws {
        let file = Self.file(in: folder)
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            // SQLite gives the files beside it the same rights.
            let descriptor = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
            close(descriptor)
            var configuration = Configuration()
            configuration.busyMode = .timeout(5)
            configuration.maximumReaderCount = 4
            configuration.label = "monitor"
            database = try DatabasePool(path: file.path, configuration: configuration)
            // What was recorded stays recorded, whatever happens to the machine.
            try database.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
        } catch let error as DatabaseError {
            throw MonitorStoreError(code: .unusable, message: Self.words(error, file.path))
        } catch {
            throw MonitorStoreError(
                code: .unusable,
                message: "\(file.path) cannot be opened for writing: \(error). STATE has to be a folder of the monitor's own user.")
        }
        do {
            let migrator = MonitorSchema.migrator()
            if try database.read(migrator.hasBeenSuperseded) {
                throw MonitorStoreError(
                    code: .newer,
                    message: "\(file.path) was written by a newer version of DCM Processor: use that version, or a copy made before it.")
            }
            try migrator.migrate(database)
        } catch let error as DatabaseError {
            throw MonitorStoreError(code: .unusable, message: Self.words(error, file.path))
        }
    }

    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await database.read(body)
        } catch let error as DatabaseError {
            throw MonitorStoreError(code: .unusable, message: Self.words(error, "monitor.sqlite"))
        }
    }

    func write<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await database.write(body)
        } catch let error as DatabaseError {
            throw MonitorStoreError(code: .unusable, message: Self.words(error, "monitor.sqlite"))
        }
    }

    /// Without the statement and its values.
    private static func words(_ error: DatabaseError, _ file: String) -> String {
        let cure =
            switch error.resultCode {
            case .SQLITE_FULL: "Free space on the disk that STATE lies on."
            case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM: "STATE has to be a folder that the monitor's own user may write."
            case .SQLITE_CORRUPT, .SQLITE_NOTADB: "Stop the monitor and put a backup of the file in its place."
            default: "Try again; if it stays so, look at the disk that STATE lies on."
            }
        return "\(file) cannot be used: \(error.message ?? "\(error.resultCode)"). \(cure)"
    }

    package static func file(in folder: URL) -> URL { folder.appending(path: "monitor.sqlite") }

    /// Random bytes that stay the same for as long as the file exists; made when first asked for.
    package func secret(_ name: String, make: @Sendable () -> [UInt8]) throws -> [UInt8] {
        let fresh = Data(make())
        let kept: Data = try database.write { db in
            try db.execute(sql: "INSERT OR IGNORE INTO secret (name, value) VALUES (?, ?)", arguments: [name, fresh])
            return try Data.fetchOne(db, sql: "SELECT value FROM secret WHERE name = ?", arguments: [name]) ?? fresh
        }
        return [UInt8](kept)
    }
}
