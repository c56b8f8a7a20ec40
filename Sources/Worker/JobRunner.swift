import Foundation
import Jobs
import Pipeline
import PythonHost

/// Carries an attempt out. Never throws: whatever happens is an exit with a reason. Cancelling the task ends the attempt.
protocol JobRunner: Sendable {
    /// - Parameter isStillMine: false once somebody else may have the job: nothing of the run's shared files may be changed any more.
    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit
    func shutdown() async
}

/// Gives each kind of job to whoever knows how.
struct JobDispatcher: JobRunner {
    let export: ExportJob
    let python: PythonJobs

    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        switch order.definition.kind {
        case .export: await export.run(order, isStillMine: isStillMine, onProgress: onProgress)
        case .python, .command: await python.run(order, onProgress: onProgress)
        }
    }

    func shutdown() async {
        await python.hosts.shutdown()
    }
}
