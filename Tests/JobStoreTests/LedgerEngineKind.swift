import Foundation
import JobStore

/// The engines that have to pass ``LedgerConformance``. A new one is a case here.
enum LedgerEngineKind: String, CaseIterable, Codable, Sendable {
    case sqlite

    /// Opens the ledger in `folder` as its writer; it must not be there before.
    func open(_ folder: URL) throws -> any LedgerEngine {
        switch self {
        case .sqlite: try Ledger(folder: folder)
        }
    }

    /// A ledger in a folder of its own, removed afterwards.
    func withLedger(_ body: (any LedgerEngine, URL) async throws -> Void) async throws {
        try await withFolder { folder in try await body(open(folder), folder) }
    }

    func withFolder(_ body: (URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ledger-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try await body(folder)
    }
}
