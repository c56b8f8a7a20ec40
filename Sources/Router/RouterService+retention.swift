import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging

extension RouterService {
    private static let rowsOfAStep = 500
    /// Between two steps the writer does its work: forgetting is never in a hurry.
    private static let breath = Pace.scaled(.milliseconds(200))
    private static let interval = Pace.scaled(.seconds(3600))

    /// Deletes what ended longer ago than `RETENTION`: first the rows, in small steps, then the files of the deleted runs. The ledger
    /// remembers which folders have to follow, so a router that ends in between forgets none.
    func forgetTheOld() async {
        while !Task.isCancelled {
            do {
                if let retention = configuration.retention { try await forgetRows(olderThan: retention) }
                try await forgetFiles()
            } catch  where Task.isCancelled {
                return
            } catch {
                logger.error("what is older than RETENTION could not be deleted", metadata: ["error": "\(error)"])
            }
            do { try await Task.sleep(for: Self.interval) } catch { return }
        }
    }

    private func forgetRows(olderThan age: TimeInterval) async throws {
        let cutoff = Date().addingTimeInterval(-age)
        let cutoffs = RetentionCutoffs(
            runs: cutoff,
            // A command that is repeated after a year has had other hindrances.
            messages: Date().addingTimeInterval(-max(age, 365 * RouterConfiguration.day)),
            audit: cutoff, deadMessages: cutoff)
        var runs = 0
        while true {
            let step = try await ledger.write { try $0.purge(cutoffs, rows: Self.rowsOfAStep) }
            runs += step.runs
            if step.runs > 0 { FaultPoint.reach(.routerRunPurged) }
            if step.isDone { break }
            try await Task.sleep(for: Self.breath)
        }
        if runs > 0 { logger.info("old runs were deleted", metadata: ["runs": "\(runs)"]) }
    }

    private func forgetFiles() async throws {
        let data = ConfinedFolder(configuration.data)
        let logs = ConfinedFolder(configuration.logs)
        while true {
            let expired = try await ledger.write { try $0.expiredRuns(limit: 20) }
            guard !expired.isEmpty else { return }
            for run in expired {
                // Outside of the run's folder, a later run may have written its own result under the same name: what is young stays.
                let cutoff = configuration.retention.map { Date().addingTimeInterval(-$0) } ?? .distantPast
                for artifact in run.artifacts { forgetting(run.id) { try data.removeFile(artifact, unchangedSince: cutoff) } }
                forgetting(run.id) { try data.remove(run.dcmpath) }
                forgetting(run.id) { try data.remove("outputs/\(run.id)") }
                // Scratch of attempts whose worker died, and checkpoints of jobs that never succeeded: folders of no common parent.
                for folder in [".work", ".checkpoints"] {
                    forgetting(run.id) { try data.removeAll(in: folder, startingWith: "\(run.id).") }
                }
                forgetting(run.id) { try logs.remove("runs/\(run.id)") }
            }
            try await ledger.write { try $0.forgetExpiredRuns(expired.map(\.id)) }
            try await Task.sleep(for: Self.breath)
        }
    }

    /// What cannot be deleted now is not tried for ever: an operator finds it in the log.
    private func forgetting(_ run: RunID, _ remove: () throws -> Void) {
        do {
            try remove()
        } catch {
            logger.warning("files of a deleted run stay", metadata: ["run.id": "\(run)", "error": "\(error)"])
        }
    }
}
