package import Foundation

/// Who took a dead job off the list of the dead, and when.
package struct Discard: Sendable, Hashable {
    package var actor: String
    package var at: Date

    package init(actor: String, at: Date) {
        self.actor = actor
        self.at = at
    }
}

/// One job of a run: its fixed definition and where it stands.
package struct Job: Sendable, Hashable {
    package var definition: JobDefinition
    package var dependencies: [Dependency]
    /// How urgent its next hint is: as planned at first, raised by ageing, set by people.
    package var priority: Priority
    package var state: JobState
    package var reason: Reason
    /// 1 for the first attempt. The attempt that is due or going on.
    package var attempt: Int
    /// Counts the hints of this attempt.
    package var dispatch: Int
    /// Counts the attempts that a worker was allowed to start; the current value fences results and renewals.
    package var token: Int
    /// How many workers were lost with this job.
    package var crashes: Int
    /// How many attempts failed since the job was planned or retried by a person.
    package var failures: Int
    package var cancelRequested: Bool
    package var worker: String?
    /// The claim that was granted.
    package var claim: String?
    package var notBefore: Date?
    package var queuedAt: Date?
    package var dispatchedAt: Date?
    package var startedAt: Date?
    package var finishedAt: Date?
    package var failure: JobExit.Failure?
    package var result: JSONValue?
    /// What a person had it retried with instead of the definition's; nil while those count. The next attempt runs with it, and all after.
    package var changedParams: JSONValue?
    /// Only of a dead job.
    package var discarded: Discard?

    package init(
        definition: JobDefinition,
        dependencies: [Dependency],
        priority: Priority? = nil,
        state: JobState = .waiting,
        reason: Reason,
        attempt: Int = 1,
        dispatch: Int = 0,
        token: Int = 0,
        crashes: Int = 0,
        failures: Int = 0,
        cancelRequested: Bool = false,
        worker: String? = nil,
        claim: String? = nil,
        notBefore: Date? = nil,
        queuedAt: Date? = nil,
        dispatchedAt: Date? = nil,
        startedAt: Date? = nil,
        finishedAt: Date? = nil,
        failure: JobExit.Failure? = nil,
        result: JSONValue? = nil,
        changedParams: JSONValue? = nil,
        discarded: Discard? = nil
    ) {
        self.definition = definition
        self.dependencies = dependencies
        self.priority = priority ?? definition.priority
        self.state = state
        self.reason = reason
        self.attempt = attempt
        self.dispatch = dispatch
        self.token = token
        self.crashes = crashes
        self.failures = failures
        self.cancelRequested = cancelRequested
        self.worker = worker
        self.claim = claim
        self.notBefore = notBefore
        self.queuedAt = queuedAt
        self.dispatchedAt = dispatchedAt
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.failure = failure
        self.result = result
        self.changedParams = changedParams
        self.discarded = discarded
    }

    /// What the next attempt, or the one that runs, is given.
    package var params: JSONValue { changedParams ?? definition.params }

    /// What a worker carries out: the definition with the params that count now.
    package var order: JobDefinition {
        guard let changedParams else { return definition }
        var order = definition
        order.params = changedParams
        return order
    }
}

/// What the router made of one event: jobs, their order, and where each stands.
///
/// A value without I/O and without a clock. `apply` is the only way to change it, and says what has to be done about it.
package struct Run: Sendable, Hashable {
    package let id: RunID
    package internal(set) var state: RunState
    package internal(set) var reason: Reason?
    package internal(set) var finishedAt: Date?
    /// Why the run cannot end better than failed, whatever its jobs do: planning met trouble.
    package let concern: Reason?
    /// A finalizer has been started since the run, as a whole, was last begun: the files that its jobs work on may be gone.
    package internal(set) var hasBegunCleaning: Bool
    /// Every parent stands before its children.
    package internal(set) var jobs: [Job]

    /// As the ledger holds it.
    package init(
        id: RunID, state: RunState, reason: Reason?, finishedAt: Date?, concern: Reason?, hasBegunCleaning: Bool = false, jobs: [Job]
    ) {
        self.id = id
        self.hasBegunCleaning = hasBegunCleaning
        self.concern = concern
        self.state = state
        self.reason = reason
        self.finishedAt = finishedAt
        self.jobs = jobs
    }

    /// A new run. Nothing of it is on its way until `.start` is applied.
    package init(id: RunID, plan: RunPlan) {
        self.id = id
        self.state = .active
        self.reason = nil
        self.finishedAt = nil
        self.hasBegunCleaning = false
        // Whoever made such a plan, a run that could wait for itself must not begin.
        let isOrdered = plan.isOrdered
        let failure = plan.failure ?? (isOrdered ? nil : .planWithoutOrder)
        self.concern = failure ?? plan.concern
        self.jobs = plan.jobs.map { entry in
            let dependencies = isOrdered ? entry.dependencies : []
            if let skipped = failure.map(Reason.planningFailed) ?? entry.skipped {
                return Job(definition: entry.definition, dependencies: dependencies, state: .skipped, reason: skipped)
            } else {
                return Job(definition: entry.definition, dependencies: dependencies, reason: .waiting)
            }
        }
    }

    package func jobID(_ index: Int) -> JobID { JobID(run: id, index: index) }
}
