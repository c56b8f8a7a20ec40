import Foundation
import Jobs

/// What a command would do to a run, by the rules that the router decides by.
struct CommandPreview: Sendable {
    /// Why it would be refused.
    var refusal: Reason?
    /// Positions of the jobs that it changes.
    var jobs: [Int]

    init(_ input: RunInput, on run: Run) {
        var after = run
        let effects = after.apply(input, at: Date())
        refusal = effects.lazy.compactMap { if case .refused(let reason) = $0 { reason } else { nil } }.first
        jobs = run.jobs.indices.filter { run.jobs[$0] != after.jobs[$0] }
    }

    /// `this job`, or `this job and the 3 after it`.
    func words(from job: Int) -> String {
        let before = jobs.count { $0 < job }
        let others = jobs.count { $0 != job }
        if others == 0 { return "this job" }
        // Its files have been cleaned up: all of the run comes back.
        if before > 0 { return "this job and the \(others) others of the run, the download first" }
        return others == 1 ? "this job and the one after it" : "this job and the \(others) after it"
    }
}
