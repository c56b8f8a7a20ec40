import Foundation

// A claim turns a hint into a lease with a new token; renewals keep the lease; its end without one counts as a lost worker.

struct Claim {
    var job: Int
    var attempt: Int
    var dispatch: Int?
    var worker: String
    var id: String
}

extension Run {
    mutating func claim(_ claim: Claim, _ paused: PausedWork, _ now: Date, _ effects: inout [RunEffect]) {
        let index = claim.job
        guard let job = existing(index) else {
            effects.append(.deny(.noJob(index)))
            return
        }
        if job.state == .running, job.attempt == claim.attempt, job.claim == claim.id {
            // Our first answer did not reach the worker, or it would not ask again.
            effects.append(.grant(job: index, attempt: job.attempt, token: job.token))
            return
        }
        if let refusal = job.refusal(of: claim, now) {
            effects.append(.deny(refusal))
            return
        }
        if let target = paused.holds(job.definition) {
            jobs[index].state = .ready
            jobs[index].reason = .paused(target)
            jobs[index].notBefore = nil
            effects.append(.deny(.paused(target)))
            return
        }
        // Since it became ready, a job that was tried again may have left results that nobody stores.
        if let held = finalizerRefusal(index) {
            end(index, .skipped, held, now)
            effects.append(.deny(held))
            return
        }
        jobs[index].state = .running
        jobs[index].reason = Reason(.running, "Runs on worker \(claim.worker).", subject: claim.worker)
        jobs[index].token += 1
        jobs[index].worker = claim.worker
        jobs[index].claim = claim.id
        jobs[index].startedAt = now
        jobs[index].notBefore = nil
        jobs[index].failure = nil
        if job.definition.isFinalizer { hasBegunCleaning = true }
        let token = jobs[index].token
        effects.append(.attemptStarted(job: index, attempt: job.attempt, token: token, worker: claim.worker))
        effects.append(.grant(job: index, attempt: job.attempt, token: token))
    }

    func renew(_ index: Int, _ attempt: Int, _ token: Int, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.holdsLease(attempt, token) else {
            effects.append(.leaseLost(job: index))
            return
        }
        effects.append(.renewed(job: index))
        if job.cancelRequested { effects.append(.stop(job: index, token: token)) }
    }

    mutating func expireLease(_ index: Int, _ token: Int, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.state == .running, job.token == token else { return }
        let lost = Reason(.workerLost, "Worker \(job.worker ?? "?") stopped renewing its lease.", subject: job.worker)
        effects.append(.attemptEnded(job: index, attempt: job.attempt, token: token, ending: .lost(lost)))
        jobs[index].crashes += 1
        if job.cancelRequested {
            end(index, .cancelled, .cancelled(by: job.reason.subject), now)
        } else if jobs[index].crashes >= Self.crashLimit {
            let text = "Workers were lost \(Self.crashLimit) times while they ran this job. Retry it when the cause is known."
            end(index, .dead, Reason(.crashLimit, text, subject: job.worker), now)
            effects.append(.deadLetter(job: index, attempt: job.attempt))
        } else {
            nextAttempt(index)
            makeReady(index, lost, now, &effects)
        }
    }

    /// How many workers may be lost with a job before it is quarantined.
    package static let crashLimit = 3
}

extension Job {
    fileprivate func refusal(of claim: Claim, _ now: Date) -> Reason? {
        guard attempt == claim.attempt else {
            return Reason("superseded", "Attempt \(claim.attempt) is over: the job is at attempt \(attempt).")
        }
        // A copy of a claim that was answered and has ended since: nobody waits for an answer any more.
        if self.claim == claim.id { return Reason("superseded", "This claim has been answered and its lease has ended.") }
        switch state {
        case .ready, .dispatched:
            // Older hints stand in the queue where the old priority put them.
            if cause == .prioritySet, let dispatch = claim.dispatch, dispatch < self.dispatch {
                return Reason("superseded", "The job's priority was changed: a newer message stands for it.")
            }
            return nil
        case .retrying: return isDue(now) ? nil : Reason("too-early", "The next attempt is not due yet.")
        case .waiting: return Reason("waiting", "A dependency is open again.")
        case .running: return Reason("leased", "Worker \(worker ?? "?") runs it.", subject: worker)
        case .succeeded, .failed, .cancelled, .skipped, .dead: return Reason("done", "The job has ended: \(state.rawValue).")
        }
    }
}
