package import Foundation

extension Run {
    /// How many workers may be lost with a job before it is quarantined.
    package static let crashLimit = 3

    /// Applies one input. Deterministic; a repeated, late or stale input changes nothing.
    ///
    /// - Parameter now: the router's wall clock, for display and for retry times only.
    /// - Returns: the effects in the order in which they have to happen, all of them after the commit.
    package mutating func apply(_ input: RunInput, at now: Date) -> [RunEffect] {
        var effects: [RunEffect] = []
        let before = (state: state, jobs: jobs.map(\.state))
        switch input {
        case .start: break
        case .hintConfirmed(let job, let attempt, let dispatch): confirmHint(job, attempt, dispatch, now)
        case .hintLost(let job, let attempt, let dispatch): repairHint(job, attempt, dispatch, &effects)
        case .claim(let job, let attempt, let worker, let id, let isPaused):
            claim(job, attempt, worker: worker, id: id, isPaused: isPaused, now, &effects)
        case .renewal(let job, let attempt, let token): renew(job, attempt, token, &effects)
        case .result(let job, let attempt, let token, let exit): finish(job, attempt, token, exit, now, &effects)
        case .leaseExpired(let job, let token): expireLease(job, token, now, &effects)
        case .channelResumed(let channel): resume(channel, now, &effects)
        case .cancel(let job, let actor): cancel([job], actor: actor, now, &effects)
        case .cancelAll(let actor): cancel(jobs.indices.filter { !jobs[$0].definition.isFinalizer }, actor: actor, now, &effects)
        case .retry(let job, let actor): retry([job], actor: actor, &effects)
        case .retryAll(let actor): retry(jobs.indices.filter { jobs[$0].hasEndedWithoutSuccess }, actor: actor, &effects)
        }
        settleDependencies(now, &effects)
        settleRun(now)
        for job in jobs.indices where jobs[job].state != before.jobs[job] { effects.append(.jobChanged(job: job)) }
        if state != before.state || input == .start { effects.append(.runChanged) }
        return effects
    }

    /// The job at `index`, unless the plan has none there: positions come from messages.
    private func existing(_ index: Int) -> Job? { jobs.indices.contains(index) ? jobs[index] : nil }
}

// MARK: - Hints

extension Run {
    private mutating func confirmHint(_ index: Int, _ attempt: Int, _ dispatch: Int, _ now: Date) {
        guard let job = existing(index), job.state == .ready, job.attempt == attempt, job.dispatch == dispatch else { return }
        // A claim that was faster than this confirmation has used the hint up.
        guard job.reason.code != Reason.pausedCode else { return }
        jobs[index].state = .dispatched
        jobs[index].dispatchedAt = now
        jobs[index].reason = .dispatched(channel: job.definition.channel)
    }

    private mutating func repairHint(_ index: Int, _ attempt: Int, _ dispatch: Int, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.attempt == attempt, job.dispatch == dispatch else { return }
        switch job.state {
        case .dispatched, .ready:
            jobs[index].state = .ready
            sendHint(index, &effects)
        case .retrying: sendHint(index, &effects)
        case .waiting, .running, .succeeded, .failed, .cancelled, .skipped, .dead: break
        }
    }

    private mutating func resume(_ channel: String, _ now: Date, _ effects: inout [RunEffect]) {
        for index in jobs.indices
        where jobs[index].state == .ready && jobs[index].definition.channel == channel && jobs[index].reason.code == Reason.pausedCode {
            makeReady(index, .ready, now, &effects)
        }
    }

    private mutating func makeReady(_ index: Int, _ reason: Reason, _ now: Date, _ effects: inout [RunEffect]) {
        jobs[index].state = .ready
        jobs[index].reason = reason
        jobs[index].worker = nil
        jobs[index].notBefore = nil
        if jobs[index].queuedAt == nil { jobs[index].queuedAt = now }
        sendHint(index, &effects)
    }

    private mutating func sendHint(_ index: Int, delay: RetryDelay? = nil, _ effects: inout [RunEffect]) {
        jobs[index].dispatch += 1
        effects.append(.hint(job: index, attempt: jobs[index].attempt, dispatch: jobs[index].dispatch, delay: delay))
    }
}

// MARK: - Claims and leases

extension Run {
    private mutating func claim(
        _ index: Int, _ attempt: Int, worker: String, id: String, isPaused: Bool, _ now: Date, _ effects: inout [RunEffect]
    ) {
        guard let job = existing(index) else {
            effects.append(.deny(Reason("unknown", "The run has no job at position \(index).")))
            return
        }
        guard job.attempt == attempt else {
            effects.append(.deny(Reason("superseded", "Attempt \(attempt) is over: the job is at attempt \(job.attempt).")))
            return
        }
        if job.state == .running, job.claim == id {
            // Our first answer did not reach the worker, or it would not ask again.
            effects.append(.grant(job: index, attempt: attempt, token: job.token))
            return
        }
        if let refusal = job.claimRefusal(now) {
            effects.append(.deny(refusal))
            return
        }
        if isPaused {
            let paused = Reason.paused(channel: job.definition.channel)
            jobs[index].state = .ready
            jobs[index].reason = paused
            jobs[index].notBefore = nil
            effects.append(.deny(paused))
            return
        }
        jobs[index].state = .running
        jobs[index].reason = Reason("running", "Runs on worker \(worker).", subject: worker)
        jobs[index].token += 1
        jobs[index].worker = worker
        jobs[index].claim = id
        jobs[index].startedAt = now
        jobs[index].notBefore = nil
        jobs[index].failure = nil
        let token = jobs[index].token
        effects.append(.attemptStarted(job: index, attempt: attempt, token: token, worker: worker))
        effects.append(.grant(job: index, attempt: attempt, token: token))
    }

    private func renew(_ index: Int, _ attempt: Int, _ token: Int, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.holdsLease(attempt, token) else {
            effects.append(.leaseLost(job: index))
            return
        }
        effects.append(.renewed(job: index))
        if job.cancelRequested { effects.append(.stop(job: index, token: token)) }
    }

    private mutating func expireLease(_ index: Int, _ token: Int, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.state == .running, job.token == token else { return }
        let lost = Reason("worker-lost", "Worker \(job.worker ?? "?") stopped renewing its lease.", subject: job.worker)
        effects.append(.attemptEnded(job: index, attempt: job.attempt, token: token, ending: .lost(lost)))
        jobs[index].crashes += 1
        if job.cancelRequested {
            end(index, .cancelled, Reason("cancelled", "Cancelled; its worker was lost."), now)
        } else if jobs[index].crashes >= Self.crashLimit {
            let text = "Workers were lost \(Self.crashLimit) times while they ran this job. Retry it when the cause is known."
            end(index, .dead, Reason("crash-limit", text, subject: job.worker), now)
            effects.append(.deadLetter(job: index, attempt: job.attempt))
        } else {
            nextAttempt(index)
            makeReady(index, lost, now, &effects)
        }
    }

    private mutating func nextAttempt(_ index: Int) {
        jobs[index].attempt += 1
        jobs[index].dispatch = 0
        jobs[index].worker = nil
        jobs[index].startedAt = nil
        jobs[index].finishedAt = nil
        jobs[index].dispatchedAt = nil
        jobs[index].queuedAt = nil
    }
}

// MARK: - Results

extension Run {
    private mutating func finish(
        _ index: Int, _ attempt: Int, _ token: Int, _ exit: JobExit, _ now: Date, _ effects: inout [RunEffect]
    ) {
        guard let job = existing(index), job.holdsLease(attempt, token) else {
            effects.append(.refused(Reason("stale-result", "The result's token is not the current one.")))
            return
        }
        effects.append(.attemptEnded(job: index, attempt: attempt, token: token, ending: .exit(exit)))
        jobs[index].failure = exit.failure
        switch exit.outcome {
        case .succeeded:
            jobs[index].result = exit.result
            end(index, .succeeded, Reason("succeeded", "Ended well at attempt \(attempt)."), now)
        case .cancelled where job.cancelRequested, .failed where job.cancelRequested:
            end(index, .cancelled, Reason("cancelled", "Cancelled while it ran."), now)
        case .cancelled, .released:
            let reason = Reason("released", "Worker \(job.worker ?? "?") handed it back unfinished.", subject: job.worker)
            if job.cancelRequested {
                end(index, .cancelled, Reason("cancelled", "Cancelled while it ran."), now)
            } else {
                makeReady(index, reason, now, &effects)
            }
        case .failed: fail(index, exit, now, &effects)
        }
    }

    private mutating func fail(_ index: Int, _ exit: JobExit, _ now: Date, _ effects: inout [RunEffect]) {
        let job = jobs[index]
        let retry = job.definition.retry
        let failures = job.failures + 1
        jobs[index].failures = failures
        if exit.isRetriable, retry.allows(attemptAfter: failures) {
            let delay = retry.delay(afterAttempt: failures)
            nextAttempt(index)
            jobs[index].state = .retrying
            jobs[index].notBefore = now.addingTimeInterval(Double(delay.seconds))
            let text =
                "Attempt \(job.attempt) failed (\(exit.kind.rawValue)). Tries again after \(delay.name), \(failures) of \(retry.max)."
            jobs[index].reason = Reason("retrying", text)
            sendHint(index, delay: delay, &effects)
        } else if exit.isRetriable {
            end(index, .failed, Reason(exit.kind.rawValue, "Attempt \(job.attempt) failed and none is left."), now)
        } else {
            end(index, .dead, Reason(exit.kind.rawValue, "Attempt \(job.attempt) failed in a way that trying again cannot mend."), now)
            effects.append(.deadLetter(job: index, attempt: job.attempt))
        }
    }

    private mutating func end(_ index: Int, _ state: JobState, _ reason: Reason, _ now: Date) {
        jobs[index].state = state
        jobs[index].reason = reason
        jobs[index].finishedAt = now
        jobs[index].notBefore = nil
    }
}

// MARK: - Commands

extension Run {
    private mutating func cancel(_ indices: [Int], actor: String, _ now: Date, _ effects: inout [RunEffect]) {
        var changed = false
        for index in indices {
            guard let job = existing(index), !job.state.isTerminal else { continue }
            changed = true
            if job.state == .running {
                jobs[index].cancelRequested = true
                effects.append(.stop(job: index, token: job.token))
            } else {
                end(index, .cancelled, Reason("cancelled", "Cancelled by \(actor).", subject: actor), now)
            }
        }
        if !changed { effects.append(.refused(Reason("nothing-to-cancel", "What was to be cancelled has already ended."))) }
    }

    private mutating func retry(_ indices: [Int], actor: String, _ effects: inout [RunEffect]) {
        let wanted = indices.filter { existing($0)?.hasEndedWithoutSuccess == true && !jobs[$0].wasNeverPlanned }
        guard !wanted.isEmpty else {
            effects.append(.refused(Reason("nothing-to-retry", "Only a failed, dead, cancelled or skipped job can be retried.")))
            return
        }
        switch extent(of: wanted) {
        case .success(let reopened): reopen(reopened, Reason("retried", "Retried by \(actor).", subject: actor))
        case .failure(let refusal): effects.append(.refused(refusal.reason))
        }
    }

    private struct Refusal: Error {
        var reason: Reason
    }

    /// Which jobs a retry of `wanted` takes back. What runs is never pulled away from under a worker: then the retry is refused.
    private func extent(of wanted: [Int]) -> Result<Set<Int>, Refusal> {
        // Cleaning up again needs nothing but itself.
        if wanted.allSatisfy({ jobs[$0].definition.isFinalizer }) { return .success(Set(wanted)) }
        if jobs.contains(where: { $0.definition.isFinalizer && $0.startedAt != nil }) {
            // The files that every job works on have been deleted, or are being: nothing less than the whole run helps, and it must
            // not start while anything still works in the run's folder.
            guard jobs.allSatisfy(\.state.isTerminal) else {
                let text = "The run's files are being cleaned up: retry it when all its jobs have ended."
                return .failure(Refusal(reason: Reason("run-active", text)))
            }
            return .success(Set(jobs.indices.filter { !jobs[$0].wasNeverPlanned }))
        }
        var reopened = Set(wanted)
        for index in jobs.indices where !reopened.contains(index) {
            let job = jobs[index]
            guard job.dependencies.contains(where: { reopened.contains($0.parent) }), !job.wasNeverPlanned else { continue }
            switch job.state {
            // It shall wait for the new attempt, whether it was skipped or about to start.
            case .skipped, .ready, .dispatched, .retrying, .waiting: reopened.insert(index)
            case .running:
                let text = "Job \(job.definition.name), which comes after it, is running: retry when it has ended."
                return .failure(Refusal(reason: Reason("descendant-running", text, subject: jobID(index).rawValue)))
            case .succeeded, .failed, .dead, .cancelled: continue
            }
        }
        return .success(reopened)
    }

    private mutating func reopen(_ reopened: Set<Int>, _ reason: Reason) {
        for index in jobs.indices {
            if reopened.contains(index) { reopen(index, reason) }
            guard jobs[index].state == .waiting else { continue }
            for edge in jobs[index].dependencies.indices where reopened.contains(jobs[index].dependencies[edge].parent) {
                jobs[index].dependencies[edge].satisfiedBy = nil
            }
        }
    }

    private mutating func reopen(_ index: Int, _ reason: Reason) {
        if jobs[index].startedAt != nil || jobs[index].state.isTerminal, jobs[index].token > 0 { nextAttempt(index) }
        jobs[index].state = .waiting
        jobs[index].reason = reason
        jobs[index].crashes = 0
        jobs[index].failures = 0
        jobs[index].cancelRequested = false
        jobs[index].failure = nil
        jobs[index].result = nil
        jobs[index].finishedAt = nil
        jobs[index].notBefore = nil
    }
}

// MARK: - What follows from a change

extension Run {
    /// One pass is enough: every parent stands before its children.
    private mutating func settleDependencies(_ now: Date, _ effects: inout [RunEffect]) {
        for index in jobs.indices where jobs[index].state == .waiting {
            for edge in jobs[index].dependencies.indices { settle(edge, of: index, now) }
            guard jobs[index].state == .waiting, jobs[index].dependencies.allSatisfy({ $0.satisfiedBy != nil }) else { continue }
            if let held = finalizerRefusal(index) {
                end(index, .skipped, held, now)
            } else {
                makeReady(index, jobs[index].reason.code == "retried" ? jobs[index].reason : .ready, now, &effects)
            }
        }
    }

    private mutating func settle(_ edge: Int, of index: Int, _ now: Date) {
        let dependency = jobs[index].dependencies[edge]
        let parent = jobs[dependency.parent]
        guard jobs[index].state == .waiting, dependency.satisfiedBy == nil, parent.state.isTerminal else { return }
        if parent.state == .succeeded || dependency.condition == .finished {
            jobs[index].dependencies[edge].satisfiedBy = parent.attempt
        } else {
            end(index, .skipped, .dependency(parent.definition.name, ended: parent.state, id: jobID(dependency.parent)), now)
        }
    }

    /// A finalizer deletes. It must not run while results exist that a storing job did not carry out.
    private func finalizerRefusal(_ index: Int) -> Reason? {
        guard jobs[index].definition.isFinalizer else { return nil }
        let hasResults = jobs.contains { $0.definition.stage == .services && $0.state == .succeeded }
        let culprit = jobs.indices.first { candidate in
            let job = jobs[candidate]
            guard job.definition.isStoring, !job.wasNeverPlanned else { return false }
            return switch job.state {
            case .failed, .dead: true
            case .skipped, .cancelled: hasResults
            case .succeeded, .waiting, .ready, .dispatched, .running, .retrying: false
            }
        }
        return culprit.map { .heldBack(by: jobs[$0].definition.name, id: jobID($0)) }
    }

    private mutating func settleRun(_ now: Date) {
        guard jobs.allSatisfy(\.state.isTerminal) else {
            state = .active
            finishedAt = nil
            reason = nil
            return
        }
        guard state == .active else { return }
        finishedAt = now
        if let culprit = jobs.firstIndex(where: { $0.state == .failed || $0.state == .dead }) {
            state = .failed
            reason = .job(jobs[culprit], id: jobID(culprit))
        } else if let concern {
            state = .failed
            reason = concern
        } else if jobs.contains(where: { $0.state == .cancelled }) {
            state = .cancelled
        } else if jobs.isEmpty {
            state = .declined
            reason = Reason("declined", "No service accepted it.")
        } else {
            state = .succeeded
        }
    }
}

// MARK: - Questions to a job

extension Job {
    /// Part of the run only to say why it will not run: no retry may start what planning refused.
    var wasNeverPlanned: Bool {
        state == .skipped && (reason.code == Reason.notAcceptedCode || reason.code == Reason.planningFailedCode)
    }

    fileprivate var hasEndedWithoutSuccess: Bool { state.isTerminal && state != .succeeded }

    fileprivate func holdsLease(_ attempt: Int, _ token: Int) -> Bool {
        state == .running && self.attempt == attempt && self.token == token
    }

    fileprivate func claimRefusal(_ now: Date) -> Reason? {
        switch state {
        case .ready, .dispatched: nil
        case .retrying:
            // The delay queue's clock and ours may differ a little.
            if let notBefore, notBefore > now.addingTimeInterval(1) {
                Reason("too-early", "The next attempt is not due yet.")
            } else {
                nil
            }
        case .waiting: Reason("waiting", "A dependency is open again.")
        case .running: Reason("leased", "Worker \(worker ?? "?") runs it.", subject: worker)
        case .succeeded, .failed, .cancelled, .skipped, .dead: Reason("done", "The job has ended: \(state.rawValue).")
        }
    }
}

extension Reason {
    static let pausedCode = "channel-paused"
    /// The planner's code for a job whose dependency was not accepted.
    package static let notAcceptedCode = "dependency-not-accepted"

    /// Planning failed closed.
    package static let planningFailedCode = "planning-failed"

    static let waiting = Reason("waiting-for-dependencies", "Waits for the jobs that it depends on.")
    static let ready = Reason("ready", "Everything that it depends on has ended.")

    static func planningFailed(_ cause: Reason) -> Reason {
        Reason(planningFailedCode, "Nothing of this run may start: \(cause.text)", subject: cause.subject)
    }

    static func dispatched(channel: String) -> Reason {
        Reason("queued", "Waits in channel \(channel) for a worker.", subject: channel)
    }

    static func paused(channel: String) -> Reason {
        Reason(pausedCode, "Channel \(channel) is paused.", subject: channel)
    }

    static func dependency(_ name: String, ended state: JobState, id: JobID) -> Reason {
        Reason("dependency-\(state.rawValue)", "Needs job \(name), which ended \(state.rawValue).", subject: id.rawValue)
    }

    static func job(_ job: Job, id: JobID) -> Reason {
        Reason("job-\(job.state.rawValue)", "Job \(job.definition.name) ended \(job.state.rawValue).", subject: id.rawValue)
    }

    static func heldBack(by name: String, id: JobID) -> Reason {
        Reason("held-back", "Cleaning up is held back: job \(name) did not carry its results out.", subject: id.rawValue)
    }
}
