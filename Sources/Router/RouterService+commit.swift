import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

extension RouterService {
    struct Committed: Sendable {
        /// Those that the batch has worked on.
        var runs: [RunID: StoredRun]
        var after: [AfterCommit]

        func extends(_ lease: LeaseTable.Lease) -> Bool { after.contains { $0.extends(lease) } }
    }

    /// Commits a batch as one transaction; when that fails, input by input, so that one bad input holds nobody else up.
    ///
    /// Nothing is acknowledged before it is on disk: while the disk refuses, this waits and tries again, and the broker keeps the rest.
    func commit(_ batch: [RouterInput], _ cache: RunCache) async -> [Committed] {
        do {
            return [try await transaction(batch, cache)]
        } catch {
            logger.error("a commit failed, its inputs are tried one by one", metadata: ["inputs": "\(batch.count)", "error": "\(error)"])
        }
        var cache = cache
        var committed: [Committed] = []
        for input in batch {
            // A renewal of the same batch came first.
            if case .leaseExpired(let lease) = input, committed.contains(where: { $0.extends(lease) }) { continue }
            guard let done = await commitPersistently(input, cache) else { continue }
            cache.keep(done.runs)
            committed.append(done)
        }
        return committed
    }

    private func transaction(_ batch: [RouterInput], _ cache: RunCache) async throws -> Committed {
        let committed = try await ledger.write { ledger in
            var transaction = RouterTransaction(ledger: ledger, now: Date(), known: cache)
            for input in batch {
                try transaction.handle(input)
                if let point = input.faultPoints.applied { try FaultPoint.check(point) }
            }
            return Committed(runs: transaction.runs, after: transaction.after)
        }
        for input in batch { input.faultPoints.committed.map(FaultPoint.reach) }
        return committed
    }

    /// - Returns: nil when the ledger can never take this input: its message goes to the dead letters.
    private func commitPersistently(_ input: RouterInput, _ cache: RunCache) async -> Committed? {
        var pause = Duration.milliseconds(250)
        while true {
            do {
                return try await transaction([input], cache)
            } catch  where LedgerError.isTemporary(error) {
                logger.critical("the ledger cannot be written: work stands still until it can", metadata: ["error": "\(error)"])
                // At the end of this process the broker still has what was not acknowledged.
                do { try await Task.sleep(for: pause) } catch { return nil }
                pause = min(pause * 2, .seconds(10))
            } catch {
                logger.error("the ledger does not take an input, which is put aside", metadata: ["error": "\(error)"])
                return await refuse(input, error)
            }
        }
    }

    /// Gets rid of an input that would fail for ever.
    private func refuse(_ input: RouterInput, _ error: any Error) async -> Committed? {
        switch input {
        case .claim(_, let delivery):
            // Without an answer the worker would ask for ever, and keep the hint.
            let reason = Reason("unreadable", "The ledger cannot read this job: \(error)")
            return Committed(runs: [:], after: [.answerClaim(delivery, .no(reason)), .acknowledge(delivery)])
        case .renewal(let renewal, let delivery):
            // One lease that cannot be read must not cost the worker its others.
            guard renewal.leases.count > 1 else {
                let lost = RenewReply(lost: renewal.leases.map { .init(job: $0.job, token: $0.token) })
                return Committed(runs: [:], after: [.answerRenewal(delivery, lost), .acknowledge(delivery)])
            }
            return await renewOneByOne(renewal, delivery)
        case .leaseExpired(let lease): return Committed(runs: [:], after: [.releaseLease(lease)])
        default:
            if case .result(let result, let delivery) = input, result.next != nil {
                // The worker would send it again for ever.
                answer(delivery, ClaimReply.type, ClaimReply.no(Reason("unreadable", "The ledger cannot take this result: \(error)")))
            }
            if let delivery = input.delivery, let queue = input.queue {
                await putAside(delivery, queue: queue, reason: "the ledger does not take it: \(error)")
            }
            return nil
        }
    }

    private func renewOneByOne(_ renewal: RenewMessage, _ delivery: AMQPDelivery) async -> Committed? {
        var reply = RenewReply()
        var after: [AfterCommit] = []
        for lease in renewal.leases {
            let single = RenewMessage(worker: renewal.worker, leases: [lease])
            guard let done = await commitPersistently(.renewal(single, delivery), RunCache()) else { return nil }
            for action in done.after {
                switch action {
                case .answerRenewal(_, let part):
                    reply.cancel += part.cancel
                    reply.lost += part.lost
                case .acknowledge: continue
                default: after.append(action)
                }
            }
        }
        return Committed(runs: [:], after: after + [.answerRenewal(delivery, reply), .acknowledge(delivery)])
    }
}
