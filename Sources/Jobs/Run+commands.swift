import Foundation

// What people ask for: cancel, retry, rerun, discard. A command that does not fit changes nothing and is refused with the reason.

extension Run {
    mutating func cancel(_ indices: [Int], actor: String, _ now: Date, _ effects: inout [RunEffect]) {
        var changed = false
        for index in indices {
            guard let job = existing(index), !job.state.isTerminal else { continue }
            changed = true
            if job.state == .running {
                jobs[index].cancelRequested = true
                let text = "\(actor) asked to cancel it, and worker \(job.worker ?? "?") has not reported its end yet."
                if job.cause != .stopping { jobs[index].reason = Reason(.stopping, text, subject: actor) }
                effects.append(.stop(job: index, token: job.token))
            } else {
                end(index, .cancelled, .cancelled(by: actor), now)
            }
        }
        if !changed { effects.append(.refused(Reason("nothing-to-cancel", "What was to be cancelled has already ended."))) }
    }

    /// - Parameter params: what `indices`, one job then, runs with from now on; nil for what it has.
    mutating func retry(_ indices: [Int], actor: String, params: JSONValue? = nil, _ now: Date, _ effects: inout [RunEffect]) {
        let wanted = indices.filter { existing($0)?.canBeRetried == true }
        guard !wanted.isEmpty else {
            effects.append(.refused(Reason("nothing-to-retry", "Only a failed, dead, cancelled or skipped job can be retried.")))
            return
        }
        if params != nil, let built = wanted.first(where: { jobs[$0].definition.kind == .export }) {
            let text = "Job \(jobs[built].definition.name) is built in and takes no params: retry it without."
            effects.append(.refused(Reason("no-params", text, subject: jobID(built).rawValue)))
            return
        }
        let how = params == nil ? "" : " with other params"
        let reason = Reason(.retried, "Retried\(how) by \(actor).", subject: actor)
        guard reopen(wanted, extent(of: wanted, includesWhatEnded: false), reason, now, &effects) else { return }
        guard let params else { return }
        // Back to what was planned is no change.
        for index in wanted { jobs[index].changedParams = params == jobs[index].definition.params ? nil : params }
    }

    /// Whether `attempt` is the one that the job is at; nil is any.
    func isCurrent(_ attempt: Int?, of index: Int, _ effects: inout [RunEffect]) -> Bool {
        guard let attempt, let job = existing(index), job.attempt != attempt else { return true }
        let text = "Job \(job.definition.name) is at attempt \(job.attempt) by now, not at \(attempt): look at it again."
        effects.append(.refused(Reason("superseded", text, subject: jobID(index).rawValue)))
        return false
    }

    mutating func discard(_ index: Int, actor: String, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.state == .dead else {
            effects.append(.refused(Reason("nothing-to-discard", "Only a dead job can be discarded.")))
            return
        }
        if let earlier = job.discarded {
            effects.append(
                .refused(Reason("nothing-to-discard", "The job was discarded by \(earlier.actor) already.", subject: earlier.actor)))
            return
        }
        jobs[index].discarded = Discard(actor: actor, at: now)
        effects.append(.discarded(job: index))
    }

    mutating func rerun(_ index: Int, actor: String, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.state.isTerminal, !job.wasNeverPlanned else {
            let text = "Only a job that has ended, and that planning did not refuse, can be done once more."
            effects.append(.refused(Reason("nothing-to-rerun", text)))
            return
        }
        let reason = Reason(.rerun, "\(actor) had it done once more, from job \(job.definition.name) on.", subject: actor)
        reopen([index], extent(of: [index], includesWhatEnded: true), reason, now, &effects)
    }
}

// MARK: - How far it reaches

extension Run {
    private struct Refusal: Error {
        var reason: Reason
    }

    private struct Extent {
        var jobs: Set<Int>
        /// The files are made again.
        var isWholeRun = false
    }

    /// Which jobs begin anew with `wanted`. What runs is never pulled away from under a worker: then it is refused.
    ///
    /// - Parameter includesWhatEnded: dependents that ended by themselves too; without it only those that were skipped or have not begun.
    private func extent(of wanted: [Int], includesWhatEnded: Bool) -> Result<Extent, Refusal> {
        // Cleaning up, and what comes after it, needs nothing of what has been cleaned away.
        let afterwards = cleaningAndAfter
        if hasBegunCleaning, !wanted.allSatisfy(afterwards.contains) {
            // The files that every job works on have been deleted, or are being: nothing less than the whole run helps, and it must
            // not start while anything still works in the run's folder.
            guard jobs.allSatisfy(\.state.isTerminal) else {
                let text = "The run's files are being cleaned up: ask again when all its jobs have ended."
                return .failure(Refusal(reason: Reason("run-active", text)))
            }
            // What somebody discarded comes back by a retry of its own, not by one of the others. Only a finalizer always does: the files
            // that are made again have to be deleted again.
            let all = jobs.indices.filter { index in
                let job = jobs[index]
                let mayStay = job.discarded != nil && !job.definition.isFinalizer && !includesWhatEnded && !wanted.contains(index)
                return !job.wasNeverPlanned && !mayStay
            }
            return .success(Extent(jobs: Set(all), isWholeRun: true))
        }
        var reopened = Set(wanted)
        for index in jobs.indices where !reopened.contains(index) {
            let job = jobs[index]
            guard job.dependencies.contains(where: { reopened.contains($0.parent) }), !job.wasNeverPlanned else { continue }
            switch job.state {
            // It shall wait for the new attempt, whether it was skipped or about to start.
            case .skipped, .ready, .dispatched, .retrying, .waiting: reopened.insert(index)
            case .running:
                let text = "Job \(job.definition.name), which comes after it, is running: ask again when it has ended."
                return .failure(Refusal(reason: Reason("descendant-running", text, subject: jobID(index).rawValue)))
            case .succeeded, .failed, .dead, .cancelled: if includesWhatEnded { reopened.insert(index) }
            }
        }
        return .success(Extent(jobs: reopened))
    }

    /// Finalizers and all that comes after one.
    private var cleaningAndAfter: Set<Int> {
        var found: Set<Int> = []
        for index in jobs.indices
        where jobs[index].definition.isFinalizer || jobs[index].dependencies.contains(where: { found.contains($0.parent) }) {
            found.insert(index)
        }
        return found
    }
}

// MARK: - Beginning anew

extension Run {
    /// - Returns: whether anything begins anew; when not, it is refused.
    @discardableResult
    private mutating func reopen(
        _ wanted: [Int], _ extent: Result<Extent, Refusal>, _ reason: Reason, _ now: Date, _ effects: inout [RunEffect]
    ) -> Bool {
        switch extent {
        case .success(let extent):
            var tried = self
            for index in extent.jobs { tried.reopen(index, reason) }
            if extent.isWholeRun { tried.hasBegunCleaning = false }
            // Would anything come of it? A job whose dependency failed is skipped again at once.
            var settled = tried
            var ignored: [RunEffect] = []
            settled.settleDependencies(now, &ignored)
            if let first = wanted.first, wanted.allSatisfy({ settled.jobs[$0].state == .skipped }) {
                let again = settled.jobs[first].reason
                let text = "Job \(jobs[first].definition.name) would be skipped again. \(again.text) Retry that one."
                effects.append(.refused(Reason("skipped-again", text, subject: again.subject)))
                return false
            }
            self = tried
            return true
        case .failure(let refusal):
            effects.append(.refused(refusal.reason))
            return false
        }
    }

    private mutating func reopen(_ index: Int, _ reason: Reason) {
        let job = jobs[index]
        // An attempt that a worker was once given is over; one that never began is still to come.
        if job.token > 0, job.startedAt != nil || job.state.isTerminal { nextAttempt(index) }
        jobs[index].state = .waiting
        jobs[index].reason = reason
        jobs[index].crashes = 0
        jobs[index].failures = 0
        jobs[index].cancelRequested = false
        jobs[index].worker = nil
        jobs[index].failure = nil
        jobs[index].result = nil
        jobs[index].queuedAt = nil
        jobs[index].dispatchedAt = nil
        jobs[index].finishedAt = nil
        jobs[index].notBefore = nil
        jobs[index].discarded = nil
        // All of them: a dependency may have begun anew since it satisfied this job.
        for edge in jobs[index].dependencies.indices { jobs[index].dependencies[edge].satisfiedBy = nil }
    }
}

extension Job {
    fileprivate var canBeRetried: Bool { state.isTerminal && state != .succeeded && !wasNeverPlanned }
}
