import Foundation

// A worker that tells how a job ended can be given the next job of the run in the same breath: no hint, no claim of its own.

/// A worker that has a slot free and asks, with the result of a job, for what becomes ready by it.
package struct NextClaim: Sendable, Hashable {
    package var worker: String
    /// Unique to the question, as that of a claim: however often it is asked, the answer is the same.
    package var id: String
    /// The channels that it serves and that jobs behind the finished one want, each with the priority of the most urgent job that waits
    /// there: what is less urgent than that shall not overtake it.
    package var floors: [String: Priority]
    /// Nothing of it is given away.
    package var paused: PausedWork
    /// The worker waits for the answer no longer: a job that it was given is nobody's.
    package var isWithdrawn: Bool

    package init(worker: String, id: String, floors: [String: Priority], paused: PausedWork = .none, isWithdrawn: Bool = false) {
        self.worker = worker
        self.id = id
        self.floors = floors
        self.paused = paused
        self.isWithdrawn = isWithdrawn
    }

    /// A job with wishes of its own goes through the queue, where a worker that cannot fulfil them hands it on.
    fileprivate func takes(_ job: Job) -> Bool {
        guard let floor = floors[job.definition.channel], job.definition.resources == .none else { return false }
        return job.priority >= floor && paused.holds(job.definition) == nil
    }
}

extension Run {
    /// Gives one of the jobs that the end of `finished` has just made ready to the worker that asks. It takes the place of the hint.
    mutating func proceed(_ next: NextClaim, after finished: Int, _ now: Date, _ effects: inout [RunEffect]) {
        if let index = jobs.firstIndex(where: { $0.state == .running && $0.claim == next.id }) {
            let job = jobs[index]
            guard !next.isWithdrawn else {
                // Its lease would run out, and count as a worker that was lost.
                let unused = JobExit(outcome: .released, kind: .released, startedAt: now, finishedAt: now)
                finish(index, job.attempt, job.token, unused, now, &effects)
                return settleDependencies(now, &effects)
            }
            // Our first answer did not reach the worker, or it would not ask again.
            effects.append(.grant(job: index, attempt: job.attempt, token: job.token))
            return
        }
        if next.isWithdrawn { return }
        let ready = effects.compactMap { effect -> Int? in
            guard case .hint(let index, _, _, nil, _) = effect, index != finished else { return nil }
            return next.takes(jobs[index]) && finalizerRefusal(index) == nil ? index : nil
        }
        // The first of the most urgent ones.
        guard let index = ready.max(by: { (jobs[$0].priority, $1) < (jobs[$1].priority, $0) }) else { return }
        effects.removeAll {
            if case .hint(index, _, _, _, _) = $0 { true } else { false }
        }
        let attempt = jobs[index].attempt
        claim(Claim(job: index, attempt: attempt, worker: next.worker, id: next.id), .none, now, &effects)
    }

    /// The channels of the jobs that the end of this one can make ready, or rather of a few more: every parent stands before its children.
    package func channelsWaiting(behind index: Int) -> Set<String> {
        var channels: Set<String> = []
        guard jobs.indices.contains(index) else { return channels }
        for job in jobs.dropFirst(index + 1) where job.state == .waiting { channels.insert(job.definition.channel) }
        return channels
    }

    /// Whether jobs of the run still wait for this one to end.
    package func leadsOn(_ index: Int) -> Bool {
        jobs.contains { job in
            job.state == .waiting && job.dependencies.contains { $0.parent == index && $0.satisfiedBy == nil }
        }
    }
}
