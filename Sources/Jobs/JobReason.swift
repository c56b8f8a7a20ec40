/// Why a job is where it is: the codes that a job's ``Reason`` can have. docs/job-lifecycle.md has a line for each.
package enum JobReason: String, Sendable, Hashable, CaseIterable {
    case waitingForDependencies = "waiting-for-dependencies"
    /// A person had it tried again.
    case retried
    /// A person had it, or a job that it comes after, done once more.
    case rerun
    case ready
    case queued
    case hintLost = "hint-lost"
    case channelPaused = "channel-paused"
    case servicePaused = "service-paused"
    /// Ageing.
    case raised
    case prioritySet = "priority-set"
    case running
    /// Runs, and was asked to stop.
    case stopping
    case workerLost = "worker-lost"
    case released
    /// Handed back by a worker that has not what the job needs.
    case notHere = "not-here"
    case retrying
    case succeeded
    case cancelled
    case dependencyFailed = "dependency-failed"
    case dependencyDead = "dependency-dead"
    case dependencyCancelled = "dependency-cancelled"
    case dependencySkipped = "dependency-skipped"
    case dependencyNotAccepted = "dependency-not-accepted"
    case planningFailed = "planning-failed"
    case heldBack = "held-back"
    case crashLimit = "crash-limit"
    // How the last attempt ended: the codes of `JobExit.Kind`.
    case exception
    case timeout
    case killed
    case outOfMemory = "out-of-memory"
    case noResult = "no-result"
    case brokenService = "broken-service"
    case gone
    case resources

    /// How an attempt that failed ended.
    init(failure kind: JobExit.Kind) {
        self =
            switch kind {
            // A worker that calls a failure so contradicts itself; the outcome counts.
            case .exception, .completed, .cancelled, .released: .exception
            case .timeout: .timeout
            case .killed: .killed
            case .outOfMemory: .outOfMemory
            case .noResult: .noResult
            case .brokenService: .brokenService
            case .gone: .gone
            case .resources: .resources
            }
    }

    /// Why a job is skipped whose dependency ended in `state`.
    init?(dependency state: JobState) {
        switch state {
        case .failed: self = .dependencyFailed
        case .dead: self = .dependencyDead
        case .cancelled: self = .dependencyCancelled
        case .skipped: self = .dependencySkipped
        case .succeeded, .waiting, .ready, .dispatched, .running, .retrying: return nil
        }
    }
}

extension JobState {
    /// The reasons that a job in this state can have.
    package var reasons: Set<JobReason> {
        switch self {
        case .waiting: [.waitingForDependencies, .retried, .rerun]
        case .ready:
            [
                .ready, .retried, .rerun, .hintLost, .channelPaused, .servicePaused, .raised, .prioritySet, .workerLost, .released,
                .notHere,
            ]
        case .dispatched: [.queued, .raised, .prioritySet, .notHere]
        case .running: [.running, .stopping]
        case .retrying: [.retrying]
        case .succeeded: [.succeeded]
        case .failed: [.exception, .timeout, .killed, .outOfMemory, .noResult, .brokenService, .gone, .resources]
        case .cancelled: [.cancelled]
        case .skipped:
            [
                .dependencyFailed, .dependencyDead, .dependencyCancelled, .dependencySkipped, .dependencyNotAccepted, .planningFailed,
                .heldBack,
            ]
        case .dead: [.crashLimit, .exception, .timeout, .killed, .outOfMemory, .noResult, .brokenService, .gone, .resources]
        }
    }
}

extension Job {
    /// Why it is in its state; nil for a reason that this version does not know.
    package var cause: JobReason? { JobReason(rawValue: reason.code) }
}

extension Reason {
    init(_ code: JobReason, _ text: String, subject: String? = nil) { self.init(code.rawValue, text, subject: subject) }

    /// The planner's code for a job whose dependency was not accepted.
    package static let notAcceptedCode = JobReason.dependencyNotAccepted.rawValue
    /// Planning failed closed.
    package static let planningFailedCode = JobReason.planningFailed.rawValue

    static let waiting = Reason(.waitingForDependencies, "Waits for the jobs that it depends on.")
    static let ready = Reason(.ready, "Everything that it depends on has ended.")
    static let hintLost = Reason(.hintLost, "Its message to the workers got lost and is sent again.")
    static let planWithoutOrder = Reason(
        "plan-without-order", "The plan has a job that would wait for itself or for one that is not there.")

    static func planningFailed(_ cause: Reason) -> Reason {
        Reason(.planningFailed, "Nothing of this run may start: \(cause.text)", subject: cause.subject)
    }

    static func queued(channel: String) -> Reason {
        Reason(.queued, "Waits in channel \(channel) for a worker.", subject: channel)
    }

    /// - Parameter state: how the dependency ended, and not well.
    static func dependency(_ name: String, ended state: JobState, id: JobID) -> Reason {
        let code = JobReason(dependency: state) ?? .dependencyFailed
        return Reason(code, "Needs job \(name), which \(state.ending).", subject: id.rawValue)
    }

    static func heldBack(by name: String, id: JobID) -> Reason {
        Reason(.heldBack, "Cleaning up is held back: job \(name) did not carry its results out.", subject: id.rawValue)
    }

    static func cancelled(by actor: String?) -> Reason {
        Reason(.cancelled, actor.map { "Cancelled by \($0)." } ?? "Cancelled.", subject: actor)
    }

    /// A run's reason: one of its jobs.
    static func job(_ job: Job, id: JobID) -> Reason {
        Reason("job-\(job.state.rawValue)", "Job \(job.definition.name) \(job.state.ending).", subject: id.rawValue)
    }
}

extension JobState {
    /// What happened to a job that ended so, in a sentence.
    var ending: String {
        switch self {
        case .dead: "died"
        case .cancelled, .skipped: "was \(rawValue)"
        case .waiting, .ready, .dispatched, .running, .retrying, .succeeded, .failed: rawValue
        }
    }
}
