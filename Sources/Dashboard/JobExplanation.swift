import Foundation
import JobStore
import Jobs

/// One sentence or two that say why a job is where it is, and what it is waiting for.
struct JobExplanation: Sendable {
    var text: String

    init(_ detail: LedgerJobDetail, at now: Date) {
        let job = detail.job
        let reason = job.reason.text
        switch job.state {
        case .waiting:
            let open = detail.parents.filter { $0.edge.satisfiedBy == nil }
            if open.isEmpty {
                text = reason
            } else {
                let names = open.map { "\($0.name) (\($0.state.rawValue))" }
                text = "Waits for \(Self.list(names))."
            }
        case .ready, .dispatched:
            text = Self.queued(detail, at: now)
        case .running:
            let since = job.startedAt.map { " for \(Display.duration(now.timeIntervalSince($0)))" } ?? ""
            text = "Runs on worker \(job.worker ?? "?")\(since), attempt \(job.attempt)."
            if job.cancelRequested { text += " It was asked to stop." }
        case .retrying:
            let due = job.notBefore.map { max(0, $0.timeIntervalSince(now)) } ?? 0
            text = reason + (due > 0 ? " The next attempt is due in \(Display.duration(due))." : " The next attempt is due now.")
        case .succeeded, .failed, .cancelled, .skipped, .dead:
            text = reason
        }
    }

    private static func queued(_ detail: LedgerJobDetail, at now: Date) -> String {
        let job = detail.job
        if detail.pausedBy != nil || job.reason.code == "channel-paused" {
            return "Channel \(job.channel) is paused\(detail.pausedBy.map { " by \($0)" } ?? ""): it starts when the channel is resumed."
        }
        if detail.channelWorkers == 0 {
            return "No worker serves channel \(job.channel) now: start one, or add the channel to a worker's WORKER_CHANNELS."
        }
        let waited = job.queuedAt.map { " for \(Display.duration(now.timeIntervalSince($0)))" } ?? ""
        let workers = detail.channelWorkers == 1 ? "the one worker" : "one of \(detail.channelWorkers) workers"
        return "Queued\(waited) for \(workers) of channel \(job.channel), priority \(job.priority.name). \(job.reason.text)"
    }

    private static func list(_ names: [String]) -> String {
        guard names.count > 1, let last = names.last else { return names.first ?? "" }
        return names.dropLast().joined(separator: ", ") + " and " + last
    }
}
