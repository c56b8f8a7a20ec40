import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

/// Makes previews, starts and cancels bulk operations. The work itself is ``BulkRunner``'s.
struct BulkDesk: Sendable {
    struct Preview: Sendable {
        var record: BulkRecord
        /// Some of what will be done.
        var examples: [LedgerMatch]
        var expiresAt: Date
    }

    let ledger: LedgerReader
    let store: MonitorStore
    let runner: BulkRunner

    /// Finds what the order is about, and pins exactly that.
    func preview(_ order: BulkOrder, by identity: Identity) async throws -> Preview {
        let found: [LedgerMatch] =
            switch order.filter {
            case .runs(let filter): try await ledger.matches(filter, limit: BulkOrder.limit + 1)
            case .jobs(let filter): try await ledger.matches(filter, limit: BulkOrder.limit + 1)
            }
        guard found.count <= BulkOrder.limit else {
            throw Problem.conflict("More than \(Display.number(BulkOrder.limit)) match. Narrow the filter, for example by time.")
        }
        var wanted: [LedgerMatch] = []
        var leftOut: [String: Int] = [:]
        var runsFromTheStart: Set<String> = []
        for match in found {
            if let reason = try await refusal(match, order, &runsFromTheStart) {
                leftOut[reason, default: 0] += 1
            } else {
                wanted.append(match)
            }
        }
        let now = Date()
        let record = BulkRecord(
            id: UUID().uuidString.lowercased(), kind: order.kind.rawValue, action: order.action.rawValue,
            filter: .object(order.fields.mapValues(JSONValue.string)), actor: identity.actor, previewedAt: now, leftOut: leftOut,
            total: wanted.count)
        try await store.addPreview(record, wanted.map { ($0.id, $0.mark) })
        return Preview(record: record, examples: Array(wanted.suffix(5).reversed()), expiresAt: now + MonitorStore.previewLifetime)
    }

    /// Why the router would refuse it, by the router's own rules.
    private func refusal(_ match: LedgerMatch, _ order: BulkOrder, _ runsFromTheStart: inout Set<String>) async throws -> String? {
        switch (order.kind, order.action) {
        case (.runs, .reprocess): return nil
        case (.runs, .cancel): return match.isRunActive ? nil : "It has ended already."
        case (.runs, .retry):
            if match.isRunActive { return "It is still active." }
            return match.hasBroken ? nil : "Nothing in it failed or was cancelled."
        case (.jobs, _):
            // With one job of such a run all others begin anew too.
            if match.hasBegunCleaning, !match.isRunActive {
                return runsFromTheStart.insert(match.runID).inserted ? nil : "It comes back with another job of its run."
            }
            // Of the few whose runs are still active, the run itself has to say.
            guard match.isRunActive, let id = JobID(rawValue: match.id), let run = try await ledger.run(id.run) else { return nil }
            return CommandPreview(.retry(job: id.index, actor: ""), on: run).refusal?.text
        }
    }

    /// Starts what was previewed, and nothing else.
    ///
    /// - Returns: the record; of what runs or has run already, that.
    func start(_ id: String, by identity: Identity) async throws -> BulkRecord {
        guard let record = try await store.bulk(id) else {
            throw Problem.notFound("There is no preview '\(id.prefix(60))'. One is kept for 15 minutes.")
        }
        if record.state != .preview { throw Problem.conflict("It has been started already: see /api/v1/bulk/\(record.id).") }
        let now = Date()
        guard now.timeIntervalSince(record.previewedAt) < MonitorStore.previewLifetime else {
            throw Problem.conflict("The preview is older than 15 minutes. Make a new one.")
        }
        let fact = try await ledger.latestFact()
        let entry = identity.entry(
            "bulk-\(record.action)", .init("bulk", record.id), .sent,
            detail: ["kind": .string(record.kind), "filter": record.filter, "total": .integer(Int64(record.total))])
        let audit = try await store.record(entry)
        guard try await store.startBulk(id, actor: identity.actor, fact: fact, audit: audit, at: now),
            let started = try await store.bulk(id)
        else {
            try await store.settle(audit, .refused)
            throw Problem.conflict("It has been started already: see /api/v1/bulk/\(id).")
        }
        runner.wake()
        return started
    }

    func cancel(_ id: String, by identity: Identity) async throws -> BulkRecord {
        guard try await store.bulk(id) != nil else { throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'.") }
        guard try await store.cancelBulk(id) else { throw Problem.conflict("It does not run.") }
        try await store.record(identity.entry("cancel-bulk", .init("bulk", id)))
        runner.wake()
        guard let record = try await store.bulk(id) else { throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'.") }
        return record
    }
}
