import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

/// Makes previews, starts and cancels bulk operations. The work itself is ``BulkRunner``'s.
struct BulkDesk: Sendable {
    /// What an order is about at one moment.
    struct Findings: Sendable {
        /// What will be done, in the order of the work.
        var wanted = BulkTargets()
        /// Some of it, the newest first.
        var examples: [LedgerMatch] = []
        /// What matches and is left out: how many by reason.
        var leftOut: [String: Int] = [:]
    }

    struct Preview: Sendable {
        var record: BulkRecord
        /// Some of what will be done.
        var examples: [LedgerMatch]
        var expiresAt: Date
    }

    let ledger: LedgerReader
    let store: MonitorStore
    let runner: BulkRunner

    /// Finds what the order is about, and changes nothing.
    func find(_ order: BulkOrder) async throws -> Findings {
        let limit = BulkOrder.limit + 1
        let look =
            switch order.filter {
            case .runs(let filter):
                try await ledger.matches(
                    filter, ids: order.ids, isOfResource: order.action == .reprocess, limit: limit, into: Look(order: order)
                ) { try $0.add($1, $2) }
            case .jobs(let filter):
                try await ledger.matches(filter, ids: order.ids, limit: limit, into: Look(order: order)) { try $0.add($1, $2) }
            }
        guard look.found < limit else {
            throw Problem.conflict("More than \(Display.number(BulkOrder.limit)) match. Narrow the filter, for example by time.")
        }
        return look.findings
    }

    /// Finds what the order is about, and pins exactly that.
    func preview(_ order: BulkOrder, by identity: Identity) async throws -> Preview {
        let findings = try await find(order)
        let record = try await pin(findings, of: order, by: identity)
        return Preview(
            record: record, examples: findings.examples,
            expiresAt: record.previewedAt + MonitorStore.previewLifetime)
    }

    /// - Parameter id: of the preview; one that exists already stays as it is.
    @discardableResult
    func pin(
        _ findings: Findings, of order: BulkOrder, id: String = UUID().uuidString.lowercased(), by identity: Identity
    ) async throws -> BulkRecord {
        var record = BulkRecord(
            id: id, kind: order.kind.rawValue, action: order.action.rawValue, filter: order.filterOnRecord, actor: identity.actor,
            previewedAt: Date(), leftOut: findings.leftOut, total: findings.wanted.count)
        record.starter = BulkStarter(identity).onRecord
        try await store.addPreview(record, findings.wanted)
        return record
    }

    /// Starts what was previewed, and nothing else.
    ///
    /// - Returns: the record; of what runs or has run already, that.
    func start(_ id: String, by identity: Identity) async throws -> BulkRecord {
        guard var record = try await store.bulk(id) else {
            throw Problem.notFound("There is no preview '\(id.prefix(60))'. One is kept for 15 minutes.")
        }
        if record.state != .preview { throw Problem.conflict("It has been started already: see /api/v1/bulk/\(record.id).") }
        let now = Date()
        guard now.timeIntervalSince(record.previewedAt) < MonitorStore.previewLifetime else {
            throw Problem.conflict("The preview is older than 15 minutes. Make a new one.")
        }
        let fact = try await ledger.latestFact()
        // The items are pinned: nobody needs any more what was searched for.
        record.filter = BulkOrder.withoutText(record.filter)
        record.actor = identity.actor
        record.starter = BulkStarter(identity).onRecord
        let entry = identity.entry(
            "bulk-\(record.action)", .init("bulk", record.id), .sent,
            detail: ["kind": .string(record.kind), "filter": record.filter, "total": .integer(Int64(record.total))])
        let audit = try await store.record(entry)
        guard try await store.startBulk(record, fact: fact, audit: audit, at: now), let started = try await store.bulk(id)
        else {
            try await store.settle(audit, .refused)
            throw Problem.conflict("It has been started already: see /api/v1/bulk/\(id).")
        }
        runner.wake()
        return started
    }

    func cancel(_ id: String, by identity: Identity) async throws -> BulkRecord {
        guard try await store.bulk(id) != nil else { throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'.") }
        guard try await store.cancelBulk(id, reason: "Cancelled by \(identity.actor).") else { throw Problem.conflict("It does not run.") }
        try await store.record(identity.entry("cancel-bulk", .init("bulk", id)))
        runner.wake()
        guard let record = try await store.bulk(id) else { throw Problem.notFound("There is no bulk operation '\(id.prefix(60))'.") }
        return record
    }
}

/// Goes through what matches an order, the oldest first, and says of each whether it is done.
private struct Look: Sendable {
    let order: BulkOrder
    private(set) var found = 0
    private var done = BulkDesk.Findings()
    /// A run is done again once for each series, study or patient: how many are left to a newer one, by that.
    private var superseded: [String: Int] = [:]
    private var runsFromTheStart: Set<String> = []

    init(order: BulkOrder) { self.order = order }

    mutating func add(_ match: LedgerMatch, _ lookUp: LedgerReader.RunLookup) throws {
        found += 1
        if order.action == .reprocess, let newest = match.newestRun, newest != match.id {
            superseded[newest, default: 0] += 1
        } else if let reason = try refusal(match, lookUp) {
            done.leftOut[reason, default: 0] += 1
        } else {
            if let older = superseded.removeValue(forKey: match.id) {
                let reason = "A newer run of the same series, study or patient is among them, and is the one that is done again."
                done.leftOut[reason, default: 0] += older
            }
            done.wanted.append(match.id, mark: match.mark)
            if done.examples.count == 5 { done.examples.removeFirst() }
            done.examples.append(match)
        }
    }

    var findings: BulkDesk.Findings {
        var findings = done
        findings.examples.reverse()
        if let ids = order.ids, ids.count > found {
            findings.leftOut["It is not there any more, or not in this state any more."] = ids.count - found
        }
        // Newer ones come later, and these did not come.
        if !superseded.isEmpty {
            findings.leftOut["There is a newer run of the same series, study or patient, which does not match."] =
                superseded.values.reduce(0, +)
        }
        return findings
    }

    /// Why the router would refuse it, by the router's own rules.
    private mutating func refusal(_ match: LedgerMatch, _ lookUp: LedgerReader.RunLookup) throws -> String? {
        switch (order.kind, order.action) {
        case (.runs, .reprocess): return nil
        case (.runs, .cancel): return match.isRunActive ? nil : "It has ended already."
        case (.jobs, .discard): return match.state == JobState.dead.rawValue ? nil : "It failed. Only a dead job can be discarded."
        case (.runs, .retry), (.runs, .discard):
            if match.isRunActive { return "It is still active." }
            return match.hasBroken ? nil : "Nothing in it failed or was cancelled."
        case (.jobs, _):
            // With one job of such a run all others begin anew too.
            if match.hasBegunCleaning, !match.isRunActive {
                return runsFromTheStart.insert(match.runID).inserted ? nil : "It comes back with another job of its run."
            }
            // Of the few whose runs are still active, the run itself has to say.
            guard match.isRunActive, let id = JobID(rawValue: match.id), let run = try lookUp(id.run) else { return nil }
            return CommandPreview(.retry(job: id.index, actor: ""), on: run).refusal?.text
        }
    }
}
