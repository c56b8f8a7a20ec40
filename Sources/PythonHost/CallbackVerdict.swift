package import Jobs

/// One callback to ask.
package struct CallbackCall: Sendable, Hashable {
    package var jobName: String
    /// `package.function` below REGISTRY.
    package var entry: String
    package var params: JSONValue
    /// Only imports the function and looks whether it can be called so: the verdict is then "declined", or why not.
    package var isCheck: Bool

    package init(jobName: String, entry: String, params: JSONValue, isCheck: Bool = false) {
        self.jobName = jobName
        self.entry = entry
        self.params = params
        self.isCheck = isCheck
    }
}

/// What a callback said.
package struct CallbackVerdict: Sendable, Hashable {
    package enum Outcome: Sendable, Hashable {
        /// The job is part of the run; `added` is its entry in `added_params`.
        case accepted(added: [String: JSONValue])
        case declined
        /// It raised, hung, ended its process, or is not there. Types of our own: `CallbackTimeout`, `CallbackHostEnded`.
        case failed(JobExit.Failure)
    }

    package var jobName: String
    package var outcome: Outcome
    /// Seconds.
    package var duration: Double
    /// The last 16 KiB of what it printed.
    package var output: String

    package init(jobName: String, outcome: Outcome, duration: Double, output: String) {
        self.jobName = jobName
        self.outcome = outcome
        self.duration = duration
        self.output = output
    }
}
