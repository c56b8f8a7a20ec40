package import Foundation

// The state machine of a run. What can happen to it is in RunInput.swift; the rules are in the files Run+*.swift, by concept.

extension Run {
    /// Applies one input. Deterministic; a repeated, late or stale input changes nothing.
    ///
    /// - Parameter now: the router's wall clock, for display and for retry times only.
    /// - Returns: the effects in the order in which they have to happen, all of them after the commit.
    package mutating func apply(_ input: RunInput, at now: Date) -> [RunEffect] {
        var effects: [RunEffect] = []
        let before = self
        switch input {
        case .start: break
        case .hintConfirmed(let job, let attempt, let dispatch): confirmHint(job, attempt, dispatch, now)
        case .hintLost(let job, let attempt, let dispatch): repairHint(job, attempt, dispatch, now, &effects)
        case .aged(let job, let attempt, let dispatch): age(job, attempt, dispatch, now, &effects)
        case .claim(let job, let attempt, let dispatch, let worker, let id, let paused):
            claim(Claim(job: job, attempt: attempt, dispatch: dispatch, worker: worker, id: id), paused, now, &effects)
        case .renewal(let job, let attempt, let token): renew(job, attempt, token, &effects)
        case .result(let job, let attempt, let token, let exit, _): finish(job, attempt, token, exit, now, &effects)
        case .leaseExpired(let job, let token): expireLease(job, token, now, &effects)
        case .resumed(let paused): resume(paused, now, &effects)
        case .cancel(let job, let actor): cancel([job], actor: actor, now, &effects)
        case .cancelAll(let actor): cancel(jobs.indices.filter { !jobs[$0].definition.isFinalizer }, actor: actor, now, &effects)
        case .retry(let job, let actor, let attempt, let params):
            if isCurrent(attempt, of: job, &effects) { retry([job], actor: actor, params: params, now, &effects) }
        case .retryAll(let actor): retry(jobs.indices.filter { jobs[$0].discarded == nil }, actor: actor, now, &effects)
        case .rerun(let job, let actor): rerun(job, actor: actor, now, &effects)
        case .setPriority(let job, let priority, let actor): setPriority(job, priority, actor: actor, now, &effects)
        case .discard(let job, let actor, let attempt):
            if isCurrent(attempt, of: job, &effects) { discard(job, actor: actor, now, &effects) }
        }
        settleDependencies(now, &effects)
        if case .result(let job, _, _, _, let next?) = input { proceed(next, after: job, now, &effects) }
        settleRun(now)
        for job in jobs.indices where jobs[job].looksDifferent(from: before.jobs[job]) { effects.append(.jobChanged(job: job)) }
        if state != before.state || reason != before.reason || input == .start { effects.append(.runChanged) }
        return effects
    }

    /// The job at `index`, unless the plan has none there: positions come from messages.
    func existing(_ index: Int) -> Job? { jobs.indices.contains(index) ? jobs[index] : nil }

    /// What the job at `index` is given now; nil when there is none.
    package func params(ofJob index: Int) -> JSONValue? { existing(index)?.params }

    mutating func end(_ index: Int, _ state: JobState, _ reason: Reason, _ now: Date) {
        jobs[index].state = state
        jobs[index].reason = reason
        jobs[index].finishedAt = now
        jobs[index].notBefore = nil
    }

    mutating func nextAttempt(_ index: Int) {
        jobs[index].attempt += 1
        jobs[index].dispatch = 0
        jobs[index].worker = nil
        jobs[index].claim = nil
        jobs[index].startedAt = nil
        jobs[index].finishedAt = nil
        jobs[index].dispatchedAt = nil
        jobs[index].queuedAt = nil
    }
}

// MARK: - What follows from a change

extension Run {
    /// One pass is enough: every parent stands before its children.
    mutating func settleDependencies(_ now: Date, _ effects: inout [RunEffect]) {
        for index in jobs.indices where jobs[index].state == .waiting {
            for edge in jobs[index].dependencies.indices { settle(edge, of: index, now) }
            guard jobs[index].state == .waiting, jobs[index].dependencies.allSatisfy({ $0.satisfiedBy != nil }) else { continue }
            if let held = finalizerRefusal(index) {
                end(index, .skipped, held, now)
            } else {
                makeReady(index, jobs[index].cause == .waitingForDependencies ? .ready : jobs[index].reason, now, &effects)
            }
        }
    }

    private mutating func settle(_ edge: Int, of index: Int, _ now: Date) {
        let dependency = jobs[index].dependencies[edge]
        guard jobs[index].state == .waiting, dependency.satisfiedBy == nil else { return }
        let parent = jobs[dependency.parent]
        guard parent.state.isTerminal else { return }
        if parent.state == .succeeded || dependency.condition == .finished {
            jobs[index].dependencies[edge].satisfiedBy = parent.attempt
        } else {
            end(index, .skipped, .dependency(parent.definition.name, ended: parent.state, id: jobID(dependency.parent)), now)
        }
    }

    /// A finalizer deletes. It must not run while results exist that a storing job did not carry out.
    func finalizerRefusal(_ index: Int) -> Reason? {
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
        let old = state
        (state, reason) = standing
        if state == .active {
            finishedAt = nil
        } else if old == .active {
            finishedAt = now
        }
    }

    /// What the jobs make of the run. The first rule that fits counts.
    private var standing: (RunState, Reason?) {
        if !jobs.allSatisfy(\.state.isTerminal) { return (.active, nil) }
        if let culprit = jobs.firstIndex(where: { $0.state == .failed || $0.state == .dead }) {
            return (.failed, .job(jobs[culprit], id: jobID(culprit)))
        }
        if let concern { return (.failed, concern) }
        if let culprit = jobs.firstIndex(where: { $0.state == .cancelled }) {
            return (.cancelled, .job(jobs[culprit], id: jobID(culprit)))
        }
        if jobs.isEmpty { return (.declined, Reason("declined", "No service accepted it.")) }
        return (.succeeded, nil)
    }
}

// MARK: - Questions to a job

extension Job {
    /// Part of the run only to say why it will not run: no retry may start what planning refused.
    var wasNeverPlanned: Bool { state == .skipped && (cause == .dependencyNotAccepted || cause == .planningFailed) }

    func holdsLease(_ attempt: Int, _ token: Int) -> Bool {
        state == .running && self.attempt == attempt && self.token == token
    }

    /// Whether people who watch the job should hear of the change.
    fileprivate func looksDifferent(from old: Job) -> Bool {
        state != old.state || reason.code != old.reason.code || attempt != old.attempt || priority != old.priority
    }
}
