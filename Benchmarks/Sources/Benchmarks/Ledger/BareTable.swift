import Foundation
import GRDB

/// What every ledger on SQLite is held against: one table, and nothing but one UPDATE by key in each commit that reaches the disk.
struct BareTable {
    private static let rows = 1000
    private let database: DatabasePool

    init(folder: URL) throws {
        database = try DatabasePool(path: folder.appending(path: "bare.sqlite").path)
        try database.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA synchronous = FULL")
            try db.execute(sql: "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state TEXT NOT NULL, changes INTEGER NOT NULL)")
            for id in 1...Self.rows {
                try db.execute(sql: "INSERT OR IGNORE INTO job VALUES (?, 'waiting', 0)", arguments: [id])
            }
        }
    }

    /// - Parameter group: updates in one commit.
    /// - Returns: seconds of each commit.
    func commits(_ count: Int, group: Int) async throws -> [Double] {
        var seconds: [Double] = []
        for _ in 0..<count {
            let began = ContinuousClock.now
            try await database.write { db in
                let update = try db.cachedStatement(sql: "UPDATE job SET changes = changes + 1 WHERE id = ?")
                for _ in 0..<group { try update.execute(arguments: [Int.random(in: 1...Self.rows)]) }
            }
            seconds.append((ContinuousClock.now - began).inSeconds)
        }
        return seconds
    }
}
