/// What can happen to a run. `job` is the job's position in the run.
package enum RunInput: Sendable, Hashable {
    /// The run has just been planned.
    case start
    /// The broker has confirmed a hint.
    case hintConfirmed(job: Int, attempt: Int, dispatch: Int)
    /// No claim followed a hint for so long that it must be presumed lost.
    case hintLost(job: Int, attempt: Int, dispatch: Int)
    /// A dispatched job has waited so long that it shall overtake others: one level up, with another hint.
    case aged(job: Int, attempt: Int, dispatch: Int)
    /// A worker asks to start an attempt. The same claim gets the same answer however often it is sent; `id` tells claims apart.
    /// `dispatch` is the hint that the claim follows, when that is known.
    /// `paused` is all that is paused now.
    case claim(job: Int, attempt: Int, dispatch: Int? = nil, worker: String, id: String, paused: PausedWork = .none)
    /// A worker says that it still runs an attempt.
    case renewal(job: Int, attempt: Int, token: Int)
    /// How an attempt ended. With `next`, the worker asks for one of the jobs that become ready by it.
    case result(job: Int, attempt: Int, token: Int, exit: JobExit, next: NextClaim? = nil)
    /// No renewal came for the whole time of the lease, while the router could have heard one.
    case leaseExpired(job: Int, token: Int)
    /// A channel or a service was resumed; `paused` is what still is.
    case resumed(paused: PausedWork)
    case cancel(job: Int, actor: String)
    /// Cancels everything but finalizers: they still clean up.
    case cancelAll(actor: String)
    /// With `params`, an object, it runs with these from now on instead of those that it has. With `attempt`, only when that is still
    /// the job's attempt.
    case retry(job: Int, actor: String, attempt: Int? = nil, params: JSONValue? = nil)
    /// Leaves out what a person has discarded.
    case retryAll(actor: String)
    /// This job and everything after it once more, whatever became of it.
    case rerun(job: Int, actor: String)
    case setPriority(job: Int, priority: Priority, actor: String)
    /// A person has looked at a dead job and wants it off the list of the dead. It stays what it is. `attempt` is the one that they saw.
    case discard(job: Int, actor: String, attempt: Int? = nil)
}

/// What has to be done about a change. Nothing of it may happen before the change is committed.
package enum RunEffect: Sendable, Hashable {
    /// Tell the job's channel that this attempt may be ready, with the job's current priority.
    ///
    /// At once without `delay`; otherwise by way of that delay queue, where the message stays for `pause` seconds, which is never more
    /// than the queue's own delay.
    case hint(job: Int, attempt: Int, dispatch: Int, delay: RetryDelay?, pause: Double)
    /// The answer to a claim, or to a result that asks for the next job: start, fenced by `token`.
    case grant(job: Int, attempt: Int, token: Int)
    /// The claim's answer: forget the hint.
    case deny(Reason)
    /// The renewal's answer.
    case renewed(job: Int)
    case leaseLost(job: Int)
    /// Tell the worker to stop an attempt.
    case stop(job: Int, token: Int)
    case attemptStarted(job: Int, attempt: Int, token: Int, worker: String)
    case attemptEnded(job: Int, attempt: Int, token: Int, ending: AttemptEnding)
    /// Put the job where an operator sees it in the broker.
    case deadLetter(job: Int, attempt: Int)
    /// What people see of the job changed: a fact for those who watch.
    case jobChanged(job: Int)
    /// The run's state changed.
    case runChanged
    /// A person took a dead job off the list.
    case discarded(job: Int)
    /// The input changed nothing, and why: a stale result, a command that does not fit.
    case refused(Reason)
}

package enum AttemptEnding: Sendable, Hashable {
    case exit(JobExit)
    /// The worker was lost.
    case lost(Reason)
}
