import Foundation
import GRDB
import Jobs

/// One transaction of the ledger's writer on SQLite. Every statement is prepared once and kept.
struct SQLiteTransaction: LedgerTransaction {
    let db: Database

    func run(_ sql: String, _ arguments: StatementArguments = StatementArguments()) throws {
        try db.cachedStatement(sql: sql).execute(arguments: arguments)
    }

    func rows(_ sql: String, _ arguments: StatementArguments = StatementArguments()) throws -> [Row] {
        try Row.fetchAll(db.cachedStatement(sql: sql), arguments: arguments)
    }

    func row(_ sql: String, _ arguments: StatementArguments = StatementArguments()) throws -> Row? {
        try Row.fetchOne(db.cachedStatement(sql: sql), arguments: arguments)
    }
}

/// How structured columns are written: JSON text, times as seconds since 1970.
enum LedgerJSON {
    static func text(_ value: some Encodable) -> String {
        do {
            return try String(decoding: JSONCoding.encode(value, sortsKeys: true), as: UTF8.self)
        } catch {
            preconditionFailure("A ledger value cannot be written as JSON: \(error)")
        }
    }

    static func value<Value: Decodable>(_ type: Value.Type, from text: String, column: String) throws -> Value {
        do {
            return try JSONCoding.decode(type, from: [UInt8](text.utf8))
        } catch {
            throw LedgerError(code: .corrupt, message: "The ledger's column \(column) holds something that this version cannot read.")
        }
    }
}

extension Date {
    var ledgerTime: Double { timeIntervalSince1970 }
    init(ledgerTime: Double) { self.init(timeIntervalSince1970: ledgerTime) }
}
