package import Jobs

/// What planning knows of an event.
package struct PlanInput: Sendable, Hashable {
    package var level: ResourceLevel
    /// Upstream's headers, `dcmpath` included, as callbacks get to see them.
    package var headers: JSONValue
    /// The same with all tags: conditions are about the images, whatever callbacks get to see of them.
    package var fullHeaders: JSONValue
    /// How many images a series has, by its id.
    package var instances: [String: Int]

    /// - Parameter fullHeaders: nil when `headers` has all tags.
    package init(level: ResourceLevel, headers: JSONValue, fullHeaders: JSONValue? = nil, instances: [String: Int] = [:]) {
        self.level = level
        self.headers = headers
        self.fullHeaders = fullHeaders ?? headers
        self.instances = instances
    }
}

/// One callback that is to be asked whether its job applies.
package struct CallbackQuestion: Sendable, Hashable {
    package var jobName: String
    /// `package.module.function`, found in the registry's folder.
    package var entry: String
    package var params: JSONValue
    package var stage: Stage

    package init(jobName: String, entry: String, params: JSONValue, stage: Stage) {
        self.jobName = jobName
        self.entry = entry
        self.params = params
        self.stage = stage
    }
}

package struct CallbackAnswer: Sendable, Hashable {
    package enum Verdict: Sendable, Hashable {
        /// With what the callback hands over to its own job and to later callbacks; anything but an object counts as empty.
        case accepted(added: JSONValue)
        case declined
        /// It raised, hung or could not be imported.
        case failed(JobExit.Failure)
    }

    package var verdict: Verdict
    /// Seconds.
    package var duration: Double?
    /// What the callback printed.
    package var output: String?

    package init(_ verdict: Verdict, duration: Double? = nil, output: String? = nil) {
        self.verdict = verdict
        self.duration = duration
        self.output = output
    }
}
