import Foundation
import JobStore
import Jobs

/// Everything that is counted, read together: what the overview, the metrics and the head of each page show.
struct Overview: Sendable {
    var totals: LedgerTotals
    var channels: [LedgerChannel]
    var workers: [LedgerWorker]
    var services: [LedgerService]

    static func read(_ ledger: LedgerReader) async throws -> Overview {
        let now = Date()
        return Overview(
            totals: try await ledger.totals(at: now),
            channels: try await ledger.channels(at: now),
            workers: try await ledger.workers(),
            services: try await ledger.services(at: now)
        )
    }
}
