/// The part of a pipeline in which a job stands. Each stage waits for the one before it.
package enum Stage: String, Sendable, Hashable, Codable, CaseIterable {
    /// The built-in download of the images.
    case export
    case pre
    case services
    case post
}

/// What carries a job out.
package enum JobKind: String, Sendable, Hashable, Codable {
    /// The worker itself downloads the run's images.
    case export
    /// A Python function of `modules/`.
    case python
    /// Any program.
    case command
}

/// What a worker does with an attempt whose lease it could not renew: another worker may have the job by now.
package enum OnLeaseLoss: String, Sendable, Hashable, Codable, CaseIterable {
    /// The process goes on; its late result is refused. Work is wasted at most.
    case keep
    /// The process is ended before the lease is: for jobs that change something outside, such as sending to a PACS.
    case kill
}

/// One dependency of a job: which earlier job, and what must have become of it.
package struct Dependency: Sendable, Hashable, Codable {
    package enum Condition: String, Sendable, Codable {
        case succeeded
        /// Ended in whatever way.
        case finished
    }

    package enum Origin: String, Sendable, Codable {
        /// Written in `dependsOn`.
        case declared
        /// The rule that a stage waits for the stages before it.
        case stage
    }

    /// The parent's position in the plan; always smaller than the child's own.
    package var parent: Int
    package var condition: Condition
    package var origin: Origin
    /// The parent's attempt that satisfied this edge; nil while it is open. A set of edges, never a counter.
    package var satisfiedBy: Int?

    package init(parent: Int, condition: Condition = .succeeded, origin: Origin, satisfiedBy: Int? = nil) {
        self.parent = parent
        self.condition = condition
        self.origin = origin
        self.satisfiedBy = satisfiedBy
    }
}

/// What a job is, fixed when its run is planned: later changes of the service's settings do not touch it.
package struct JobDefinition: Sendable, Hashable, Codable {
    package var name: String
    /// The folder in `modules/` (and `registry/`) that the job comes from; empty for built-in jobs.
    package var service: String
    package var stage: Stage
    package var kind: JobKind
    /// The worker function, `package.module.function`; empty for built-in jobs and commands.
    package var entry: String
    /// The program and its arguments; empty unless `kind` is `command`. A path that is not absolute and has a slash is below the
    /// service's folder in `modules/`.
    package var command: [String]
    package var params: JSONValue
    package var channel: String
    /// As planned; where the job stands now is in ``Job/priority``.
    package var priority: Priority
    package var timeout: JobTimeout
    package var retry: RetryPolicy
    /// Runs after failures too (cleaning up), but is held back when a storing job did not succeed.
    package var isFinalizer: Bool
    /// Carries results out of the pipeline: a finalizer must not delete what it failed to store.
    package var isStoring: Bool
    package var onLeaseLoss: OnLeaseLoss
    package var resources: JobResources
    /// The name of a prepared interpreter; nil for that of the service.
    package var environment: String?
    /// Whether the module may be imported once for many jobs; otherwise each job imports it anew.
    package var preload: Bool

    package init(
        name: String,
        service: String,
        stage: Stage,
        kind: JobKind = .python,
        entry: String,
        command: [String] = [],
        params: JSONValue = .null,
        channel: String = "default",
        priority: Priority = .default,
        timeout: JobTimeout = .standard,
        retry: RetryPolicy = .never,
        isFinalizer: Bool = false,
        isStoring: Bool = false,
        onLeaseLoss: OnLeaseLoss = .keep,
        resources: JobResources = .none,
        environment: String? = nil,
        preload: Bool = true
    ) {
        self.name = name
        self.service = service
        self.stage = stage
        self.kind = kind
        self.entry = entry
        self.command = command
        self.params = params
        self.channel = channel
        self.priority = priority
        self.timeout = timeout
        self.retry = retry
        self.isFinalizer = isFinalizer
        self.isStoring = isStoring
        self.onLeaseLoss = onLeaseLoss
        self.resources = resources
        self.environment = environment
        self.preload = preload
    }

    /// A definition that was stored before a key existed means the key's default.
    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            name: try values.decode(String.self, forKey: .name),
            service: try values.decode(String.self, forKey: .service),
            stage: try values.decode(Stage.self, forKey: .stage),
            kind: try values.decode(JobKind.self, forKey: .kind),
            entry: try values.decode(String.self, forKey: .entry),
            command: try values.decodeIfPresent([String].self, forKey: .command) ?? [],
            params: try values.decode(JSONValue.self, forKey: .params),
            channel: try values.decode(String.self, forKey: .channel),
            priority: try values.decode(Priority.self, forKey: .priority),
            timeout: try values.decode(JobTimeout.self, forKey: .timeout),
            retry: try values.decode(RetryPolicy.self, forKey: .retry),
            isFinalizer: try values.decode(Bool.self, forKey: .isFinalizer),
            isStoring: try values.decode(Bool.self, forKey: .isStoring),
            onLeaseLoss: try values.decodeIfPresent(OnLeaseLoss.self, forKey: .onLeaseLoss) ?? .keep,
            resources: try values.decodeIfPresent(JobResources.self, forKey: .resources) ?? .none,
            environment: try values.decodeIfPresent(String.self, forKey: .environment),
            preload: try values.decodeIfPresent(Bool.self, forKey: .preload) ?? true
        )
    }
}

/// A verdict of planning, kept so that a person can read why a job is or is not part of a run.
package struct Decision: Sendable, Hashable, Codable {
    package enum Verdict: String, Sendable, Codable {
        case accepted
        case declined
        /// The callback raised, hung or could not be imported.
        case failed
        /// A dependency was not accepted.
        case skipped
    }

    /// The job's name.
    package var job: String
    package var service: String
    package var stage: Stage
    package var verdict: Verdict
    package var reason: Reason
    /// Seconds that the callback took; nil when none was asked.
    package var duration: Double?
    /// What the callback printed, and its traceback.
    package var output: String?

    package init(
        job: String, service: String, stage: Stage, verdict: Verdict, reason: Reason, duration: Double? = nil, output: String? = nil
    ) {
        self.job = job
        self.service = service
        self.stage = stage
        self.verdict = verdict
        self.reason = reason
        self.duration = duration
        self.output = output
    }
}

/// What the planner made of one event: the jobs in an order in which every parent stands before its children.
package struct RunPlan: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package var definition: JobDefinition
        package var dependencies: [Dependency]
        /// Set when the job is part of the run only to say why it will not run.
        package var skipped: Reason?

        package init(definition: JobDefinition, dependencies: [Dependency], skipped: Reason? = nil) {
            self.definition = definition
            self.dependencies = dependencies
            self.skipped = skipped
        }
    }

    package var jobs: [Entry]
    package var decisions: [Decision]
    /// What accepted callbacks handed over, by job name. Belongs to this event alone.
    package var addedParams: [String: JSONValue]
    /// Set when planning failed closed: nothing of this run may start.
    package var failure: Reason?
    /// Planning met trouble that did not stop the rest: the run cannot end better than failed.
    package var concern: Reason?

    package init(
        jobs: [Entry] = [],
        decisions: [Decision] = [],
        addedParams: [String: JSONValue] = [:],
        failure: Reason? = nil,
        concern: Reason? = nil,
    ) {
        self.jobs = jobs
        self.decisions = decisions
        self.addedParams = addedParams
        self.failure = failure
        self.concern = concern
    }
}

extension RunPlan {
    /// Whether every dependency points to an earlier job of the plan: no circle, nothing unknown.
    var isOrdered: Bool {
        jobs.indices.allSatisfy { index in jobs[index].dependencies.allSatisfy { (0..<index).contains($0.parent) } }
    }
}
