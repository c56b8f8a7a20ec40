import Bootstrap
import Foundation
import Jobs
import Pipeline
import PythonHost

/// Python functions of MODULES, each attempt in a process of its own.
struct PythonJobs: Sendable {
    let hosts: WarmHosts
    let folders: ServiceFolders
    let killGrace: Duration

    func run(_ order: JobOrder, onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void) async -> JobExit {
        let job = job(order)
        let exit = await hosts.run(job) { onProgress(RenewMessage.Progress(fraction: $0, text: $1)) }
        // A job may have left gigabytes there.
        await FileWork.run { try? FileManager.default.removeItem(at: job.workdir) }
        return exit
    }

    func job(_ order: JobOrder) -> PythonJob {
        let attempt = "\(order.job.index)-\(order.attempt)-\(order.token)"
        return PythonJob(
            job: order.job,
            attempt: order.attempt,
            token: order.token,
            service: order.definition.service,
            entry: order.definition.entry,
            jobName: order.definition.name,
            headers: order.headers,
            params: order.definition.params,
            addedParams: order.addedParams,
            data: folders.data,
            // No folder of the run between: whoever removed it with the run's last attempt would take it from under the next one.
            workdir: folders.data.appending(path: ".work/\(order.job.run).\(attempt)", directoryHint: .isDirectory),
            logs: folders.logs,
            log: "runs/\(order.job.run)/\(attempt).log",
            timeout: order.definition.timeout,
            grace: killGrace
        )
    }
}
