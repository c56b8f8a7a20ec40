import Accounts
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

/// Makes previews, starts and cancels bulk operations. The work itself is ``BulkRunner``'s.
struct BulkDesk: Sendable {
    /// One run or job that an order is about.
    struct Target: Sendable, Hashable {
        var id: String
        /// How it stood.
        var mark: String
    }

    /// What an order is about at one moment.
    struct Findings: Sendable {
        /// What will be done, in the order of the work.
        var wanted: [Target] = []
        /// Some of it, the newest first.
        var examples: [LedgerMatch] = []
        /// What matches and is left out: how many by reason.
        var leftOut: [String: Int] = [:]

        /// Another one as soon as anything of it is another one.
        var fingerprint: String {
            // One buffer: there may be a hundred thousand.
            var text: [UInt8] = []
            for match in wanted { text += "\(match.id) \(match.mark)\n".utf8 }
            return SecretText.digest(text)
        }
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
    /// So many are looked at together.
    var portion = 5000

    /// Finds what the order is about, and changes nothing.
    ///
    /// Portion by portion: there may be a hundred thousand, and of each no more is kept than what is done to it asks for.
    func find(_ order: BulkOrder) async throws -> Findings {
        var findings = Findings()
        var found = 0
        var last: String?
        /// The newest runs of what older ones are about.
        var newer: [String] = []
        var runsFromTheStart: Set<String> = []
        while true {
            let matches = try await matches(order, after: last)
            for match in matches {
                if order.action == .reprocess, let newest = match.newestRun, newest != match.id {
                    newer.append(newest)
                } else if let reason = try await refusal(match, order, &runsFromTheStart) {
                    findings.leftOut[reason, default: 0] += 1
                } else {
                    findings.wanted.append(Target(id: match.id, mark: match.mark))
                    findings.examples.append(match)
                }
            }
            findings.examples.removeFirst(max(0, findings.examples.count - 5))
            found += matches.count
            guard found <= BulkOrder.limit else {
                throw Problem.conflict("More than \(Display.number(BulkOrder.limit)) match. Narrow the filter, for example by time.")
            }
            last = matches.last?.id
            if matches.count < portion { break }
        }
        if let ids = order.ids, ids.count > found {
            findings.leftOut["It is not there any more, or not in this state any more."] = ids.count - found
        }
        for newest in newer { findings.leftOut[Self.superseded(by: newest, findings.wanted), default: 0] += 1 }
        findings.examples.reverse()
        return findings
    }

    private func matches(_ order: BulkOrder, after last: String?) async throws -> [LedgerMatch] {
        switch order.filter {
        case .runs(let filter):
            try await ledger.matches(
                filter, ids: order.ids, isOfResource: order.action == .reprocess, after: last, limit: portion)
        case .jobs(let filter): try await ledger.matches(filter, ids: order.ids, after: last, limit: portion)
        }
    }

    /// A run is done again once for each series, study or patient.
    ///
    /// - Parameter wanted: in the order of their ids. A newest run that matches is one of them.
    private static func superseded(by newest: String, _ wanted: [Target]) -> String {
        var (low, high) = (0, wanted.count)
        while low < high {
            let middle = (low + high) / 2
            if wanted[middle].id < newest { low = middle + 1 } else { high = middle }
        }
        return low < wanted.count && wanted[low].id == newest
            ? "A newer run of the same series, study or patient is among them, and is the one that is done again."
            : "There is a newer run of the same series, study or patient, which does not match."
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
        try await store.addPreview(record, findings.wanted.map { ($0.id, $0.mark) })
        return record
    }

    /// Why the router would refuse it, by the router's own rules.
    private func refusal(_ match: LedgerMatch, _ order: BulkOrder, _ runsFromTheStart: inout Set<String>) async throws -> String? {
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
            guard match.isRunActive, let id = JobID(rawValue: match.id), let run = try await ledger.run(id.run) else { return nil }
            return CommandPreview(.retry(job: id.index, actor: ""), on: run).refusal?.text
        }
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
