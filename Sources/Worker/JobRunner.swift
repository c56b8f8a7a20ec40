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
    /// Ends what still runs, at once.
    func shutdown() async
}

/// Gives each kind of job to whoever knows how, once what it needs is free.
struct JobDispatcher: JobRunner {
    let export: ExportJob
    let python: PythonJobs
    let resources: ResourceTokens

    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        let startedAt = Date()
        if let lack = resources.lack(for: order.definition.resources) { return .notHere(lack, startedAt: startedAt) }
        let grant = await resources.take(order.definition.resources) { onProgress(RenewMessage.Progress(fraction: 0, text: $0)) }
        guard let grant else { return JobExit(outcome: .cancelled, kind: .cancelled, startedAt: startedAt, finishedAt: Date()) }
        defer { resources.release(grant) }
        return switch order.definition.kind {
        case .export: await export.run(order, isStillMine: isStillMine, onProgress: onProgress)
        case .python, .command:
            await python.run(
                order,
                variables: resources.environment(grant).merging(export.servers.environment(order.source.server)) { own, _ in own },
                isStillMine: isStillMine,
                onProgress: onProgress
            )
        }
    }

    func shutdown() async {
        await python.shutdown()
    }
}

extension JobExit {
    /// Handed back, because no waiting would help here. The router lets some time pass before it offers the job again.
    fileprivate static func notHere(_ lack: String, startedAt: Date) -> JobExit {
        JobExit(
            outcome: .released, kind: .resources, failure: Failure(type: "NotHere", message: lack), startedAt: startedAt, finishedAt: Date()
        )
    }
}
