import Foundation

extension Job {
    /// Why a job is failed or dead; nil in any other state. It says nothing of the rest of the run, so nobody has to read that.
    package var explainedFailure: Explanation? {
        switch state {
        case .failed: failed ?? Explanation(.unexpected, reason.text)
        case .dead: dead ?? Explanation(.unexpected, reason.text)
        default: nil
        }
    }

    private var failed: Explanation? {
        guard let how = howItFailed else { return nil }
        let retries = definition.retry.max
        let none = retries == 0 ? "its settings allow no retry" : "all \(retries) retries are used up"
        return Explanation(
            .failed, "Attempt \(attempt) \(how) on worker \(lastWorker.name)\(endedAt), and \(none).", [lastWorker], since: finishedAt)
    }

    private var dead: Explanation? {
        if cause == .crashLimit {
            return Explanation(
                .crashLimit,
                "\(crashes) workers were lost while they ran it, the last one \(lastWorker.name)\(endedAt): retry it when the cause is known.",
                [lastWorker], since: finishedAt)
        }
        guard let how = howItFailed else { return nil }
        return Explanation(
            .cannotSucceed, "Attempt \(attempt) \(how) on worker \(lastWorker.name)\(endedAt) in a way that trying again cannot mend.",
            [lastWorker],
            since: finishedAt)
    }

    private var howItFailed: String? {
        switch cause {
        case .exception: "raised an exception\(failureType)"
        case .timeout: "ran longer than its timeout\(definition.timeout.seconds.map { " of \($0) s" } ?? "") and was ended"
        case .killed: "was killed by a signal\(failureType)"
        case .outOfMemory: "ran out of memory"
        case .noResult: "ended its process without a result"
        case .brokenService: "met a service that cannot be loaded\(failureType)"
        case .gone: "did not find what it works on any more"
        case .resources: "\(shortage)\(failureType)"
        default: nil
        }
    }

    /// What the machine around the job did not give.
    private var shortage: String {
        switch failure?.type.split(separator: ".").first {
        case "ProcessLimit": "had more processes than a job may have and was ended"
        case "HostSilent": "was ended, because the process that watches over it no longer answered"
        case "OrthancError": "could not get its images from Orthanc"
        case "UnknownServer": "wants images of an Orthanc server that the worker does not know"
        default: "found no room or no right to write"
        }
    }

    // MARK: Words

    /// The worker that has it, or had it last.
    var lastWorker: Explanation.Subject { Explanation.Subject(kind: .worker, id: worker ?? reason.subject ?? "unknown") }
    var endedAt: String { finishedAt.map { " at \($0.inSentences)" } ?? "" }
    var failureType: String { failure.map { " (\($0.type))" } ?? "" }
}

extension Date {
    /// `2026-11-22 16:20:00 UTC`
    var inSentences: String {
        formatted(Date.ISO8601FormatStyle(dateSeparator: .dash, dateTimeSeparator: .space, timeZone: .gmt)).replacing("Z", with: " UTC")
    }
}
