import Foundation

// A hint says to a channel that a job may be ready. Any number of them may be on their way, or none: the claim decides, and the
// router's sweep finds what got lost.

extension Run {
    mutating func confirmHint(_ index: Int, _ attempt: Int, _ dispatch: Int, _ now: Date) {
        // A claim that was faster than this confirmation has used the hint up; the state says so.
        guard let job = existing(index), job.attempt == attempt, job.dispatch == dispatch, job.state == .ready, !job.isPaused else {
            return
        }
        jobs[index].state = .dispatched
        jobs[index].dispatchedAt = now
        // How it came by its priority is more than that it waits.
        let told: [JobReason?] = [.raised, .prioritySet, .notHere]
        if !told.contains(job.cause) { jobs[index].reason = .queued(channel: job.definition.channel) }
    }

    mutating func repairHint(_ index: Int, _ attempt: Int, _ dispatch: Int, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.attempt == attempt, job.dispatch == dispatch else { return }
        switch job.state {
        case .dispatched: makeReady(index, .hintLost, now, &effects)
        // It should still be in the outbox; one more does no harm.
        case .ready where !job.isPaused: makeReady(index, .hintLost, now, &effects)
        case .retrying where job.isDue(now): makeReady(index, .hintLost, now, &effects)
        // A paused job gets its hint from the resumption; what is not due yet would come too early.
        case .ready, .retrying, .waiting, .running, .succeeded, .failed, .cancelled, .skipped, .dead: break
        }
    }

    /// Waiting raises a job, so that no stream of more urgent ones can hold it back for ever. Hints on their way stay as good as the new one.
    mutating func age(_ index: Int, _ attempt: Int, _ dispatch: Int, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index), job.attempt == attempt, job.dispatch == dispatch, let raised = job.priority.raised else { return }
        guard job.state == .dispatched || (job.state == .retrying && job.isDue(now)) else { return }
        jobs[index].priority = raised
        let text = "Waited so long in channel \(job.definition.channel) that it was raised from \(job.priority.name) to \(raised.name)."
        makeReady(index, Reason(.raised, text, subject: job.definition.channel), now, &effects)
    }

    mutating func setPriority(_ index: Int, _ priority: Priority, actor: String, _ now: Date, _ effects: inout [RunEffect]) {
        guard let job = existing(index) else {
            effects.append(.refused(.noJob(index)))
            return
        }
        guard job.priority != priority else {
            effects.append(.refused(Reason("nothing-to-change", "Job \(job.definition.name) has priority \(priority.name) already.")))
            return
        }
        let old = job.priority
        switch job.state {
        case .waiting: jobs[index].priority = priority
        case .ready, .dispatched:
            jobs[index].priority = priority
            // Its next hint, at the resumption, carries it.
            if job.isPaused { return }
            let text = "Priority set from \(old.name) to \(priority.name) by \(actor)."
            makeReady(index, Reason(.prioritySet, text, subject: actor), now, &effects)
        case .retrying:
            jobs[index].priority = priority
            sendHint(index, now, &effects)
        case .running:
            effects.append(.refused(Reason("running", "Job \(job.definition.name) runs already: its priority no longer matters.")))
        case .succeeded, .failed, .cancelled, .skipped, .dead:
            effects.append(.refused(Reason("done", "Job \(job.definition.name) has ended: its priority no longer matters.")))
        }
    }

    /// - Parameter pause: how long its message waits before workers see it.
    mutating func makeReady(_ index: Int, _ reason: Reason, _ now: Date, after pause: RetryDelay? = nil, _ effects: inout [RunEffect]) {
        jobs[index].state = .ready
        jobs[index].reason = reason
        jobs[index].worker = nil
        jobs[index].notBefore = nil
        if jobs[index].queuedAt == nil { jobs[index].queuedAt = now }
        guard let pause else { return sendHint(index, now, &effects) }
        sendHint(index, delay: pause, pause: Double(pause.seconds), &effects)
    }

    /// Sends the hint so that it arrives when the job is due.
    mutating func sendHint(_ index: Int, _ now: Date, _ effects: inout [RunEffect]) {
        let left = max(0, jobs[index].notBefore?.timeIntervalSince(now) ?? 0)
        let delay = left > 0 ? RetryDelay(atLeast: Int(left.rounded(.up))) : nil
        sendHint(index, delay: delay, pause: min(left, Double(delay?.seconds ?? 0)), &effects)
    }

    mutating func sendHint(_ index: Int, delay: RetryDelay?, pause: Double, _ effects: inout [RunEffect]) {
        jobs[index].dispatch += 1
        effects.append(
            .hint(job: index, attempt: jobs[index].attempt, dispatch: jobs[index].dispatch, delay: delay, pause: pause))
    }
}

extension Job {
    /// Whether the wait after a failed attempt is over. The delay queue's clock and ours may differ a little.
    func isDue(_ now: Date) -> Bool { (notBefore ?? .distantPast) <= now.addingTimeInterval(1) }
}

extension Reason {
    static func noJob(_ index: Int) -> Reason { Reason("unknown", "The run has no job at position \(index).") }
}
