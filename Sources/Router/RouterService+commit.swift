import Foundation
import JobStore
import Jobs
import Logging
import Pipeline

extension RouterService {
    struct Committed: Sendable {
        var runs: [RunID: StoredRun]
        var after: [AfterCommit]
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
            guard let done = await commitPersistently(input, cache) else { continue }
            cache.keep(done.runs)
            committed.append(done)
        }
        return committed
    }

    private func transaction(_ batch: [RouterInput], _ cache: RunCache) async throws -> Committed {
        try await ledger.write { [runs = cache.runs] ledger in
            var transaction = RouterTransaction(ledger: ledger, now: Date(), runs: runs)
            for input in batch { try transaction.handle(input) }
            return Committed(runs: transaction.runs, after: transaction.after)
        }
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
                if let delivery = input.delivery, let queue = input.queue {
                    await putAside(delivery, queue: queue, reason: "the ledger does not take it: \(error)")
                }
                return nil
            }
        }
    }
}

/// Active runs as they were committed last. Only the writer changes runs, so a copy in memory cannot be stale.
struct RunCache: Sendable {
    private static let limit = 1000
    private(set) var runs: [RunID: StoredRun] = [:]

    mutating func keep(_ changed: [RunID: StoredRun]) {
        runs = changed.filter { !$0.value.run.state.isTerminal }
        while runs.count > Self.limit, let oldest = runs.keys.min() { runs[oldest] = nil }
    }
}
