import Foundation
import Jobs
import Pipeline
import PythonHost

/// Carries an attempt out. Never throws: whatever happens is an exit with a reason. Cancelling the task ends the attempt.
protocol JobRunner: Sendable {
    func run(_ order: JobOrder, onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void) async -> JobExit
    func shutdown() async
}

/// Gives each kind of job to whoever knows how.
struct JobDispatcher: JobRunner {
    let export: ExportJob
    let python: PythonJobs

    func run(_ order: JobOrder, onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void) async -> JobExit {
        switch order.definition.kind {
        case .export: await export.run(order, onProgress: onProgress)
        case .python: await python.run(order, onProgress: onProgress)
        }
    }

    func shutdown() async {
        await python.hosts.shutdown()
    }
}
