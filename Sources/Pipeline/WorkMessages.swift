package import Foundation
package import Jobs

/// What a job queue carries: only that this job may be ready. The claim decides.
package struct HintMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.job.v1"

    package var job: JobID
    package var attempt: Int
    /// Counts the hints of one attempt.
    package var dispatch: Int

    package init(job: JobID, attempt: Int, dispatch: Int) {
        self.job = job
        self.attempt = attempt
        self.dispatch = dispatch
    }
}

/// A worker asks to start (job, attempt). Transient, answered through direct reply-to.
package struct ClaimMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.claim.v1"

    package var job: JobID
    package var attempt: Int
    /// That of the hint which the claim follows: a hint whose place in the queue was given up is answered no.
    package var dispatch: Int?
    package var worker: String
    /// Unique to the claim, however often it is sent: the router answers a repetition like the first time.
    package var id: String

    package init(job: JobID, attempt: Int, dispatch: Int? = nil, worker: String, id: String) {
        self.job = job
        self.attempt = attempt
        self.dispatch = dispatch
        self.worker = worker
        self.id = id
    }
}

/// The router's answer to a claim, and to a result that asks for the next job.
package enum ClaimReply: Sendable, Hashable, Codable {
    package static let type = "dcm.claim.reply.v1"

    case go(JobOrder)
    /// Acknowledge the hint and forget it: the router sends another one if one is needed.
    case no(Reason)
}

/// Everything that a worker needs to run one attempt.
package struct JobOrder: Sendable, Hashable, Codable {
    package var job: JobID
    package var attempt: Int
    /// Fences this attempt: results and renewals count only with the current token.
    package var token: Int
    package var definition: JobDefinition
    /// Upstream's headers, `dcmpath` included.
    package var headers: JSONValue
    /// What all accepted callbacks of this run handed over, by job name.
    package var addedParams: JSONValue
    package var source: JobSource
    /// Seconds that the lease lasts without a renewal.
    package var leaseSeconds: Int
    /// The sum of the attempts by which the jobs it depends on have satisfied it. A higher one means that its input has been made anew:
    /// what an attempt on the former one has kept is not for this one. nil from a router that does not say.
    package var inputs: Int?
    /// Other jobs of the run wait for this one: with its result the worker may ask for one of them. nil from a router that answers no such
    /// question.
    package var leadsOn: Bool?

    package init(
        job: JobID, attempt: Int, token: Int, definition: JobDefinition, headers: JSONValue, addedParams: JSONValue, source: JobSource,
        leaseSeconds: Int, inputs: Int? = nil, leadsOn: Bool? = nil
    ) {
        self.job = job
        self.attempt = attempt
        self.token = token
        self.definition = definition
        self.headers = headers
        self.addedParams = addedParams
        self.source = source
        self.leaseSeconds = leaseSeconds
        self.inputs = inputs
        self.leadsOn = leadsOn
    }
}

/// Where a run's images come from and go to.
package struct JobSource: Sendable, Hashable, Codable {
    package var server: String
    package var level: ResourceLevel
    package var resourceID: String
    package var series: [EventMessage.Series]
    /// Relative to DATA, unique to the run.
    package var dcmpath: String

    package init(server: String, level: ResourceLevel, resourceID: String, series: [EventMessage.Series], dcmpath: String) {
        self.server = server
        self.level = level
        self.resourceID = resourceID
        self.series = series
        self.dcmpath = dcmpath
    }
}

/// A worker's heartbeat, which renews the leases of all it runs. Transient, answered through direct reply-to.
package struct RenewMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.renew.v1"

    package struct Lease: Sendable, Hashable, Codable {
        package var job: JobID
        package var attempt: Int
        package var token: Int
        package var progress: Progress?

        package init(job: JobID, attempt: Int, token: Int, progress: Progress? = nil) {
            self.job = job
            self.attempt = attempt
            self.token = token
            self.progress = progress
        }
    }

    package struct Progress: Sendable, Hashable, Codable {
        /// 0...1
        package var fraction: Double
        package var text: String?

        package init(fraction: Double, text: String? = nil) {
            self.fraction = fraction
            self.text = text
        }
    }

    package var worker: WorkerInfo
    package var leases: [Lease]

    package init(worker: WorkerInfo, leases: [Lease]) {
        self.worker = worker
        self.leases = leases
    }
}

package struct RenewReply: Sendable, Hashable, Codable {
    package static let type = "dcm.renew.reply.v1"

    /// A lease that the answer is about: a worker may hold an old and a new one of the same job.
    package struct Lease: Sendable, Hashable, Codable {
        package var job: JobID
        package var token: Int

        package init(job: JobID, token: Int) {
            self.job = job
            self.token = token
        }
    }

    /// Attempts that someone asked to cancel.
    package var cancel: [Lease]
    /// Leases that are no longer this worker's.
    package var lost: [Lease]

    package init(cancel: [Lease] = [], lost: [Lease] = []) {
        self.cancel = cancel
        self.lost = lost
    }
}

package struct WorkerInfo: Sendable, Hashable, Codable {
    package enum State: String, Sendable, Codable {
        case running
        case draining
        case stopped
    }

    /// Unique to one process: `<WORKER_ID or host.pid>.<random>`.
    package var id: String
    package var host: String
    package var pid: Int
    package var version: String
    package var slots: Int
    package var channels: [String]
    package var startedAt: Date
    package var state: State
    /// An operator wants it to take no more jobs. nil from a worker that knows no such thing.
    package var isDrained: Bool?
    /// The machine's load over 1, 5 and 15 minutes.
    package var load: [Double]?
    /// Bytes of the machine or the container around the worker.
    package var memory: Int64?
    package var freeMemory: Int64?
    /// How many GPUs its jobs share.
    package var gpus: Int?

    package init(
        id: String, host: String, pid: Int, version: String, slots: Int, channels: [String], startedAt: Date, state: State = .running,
        isDrained: Bool? = nil, load: [Double]? = nil, memory: Int64? = nil, freeMemory: Int64? = nil, gpus: Int? = nil
    ) {
        self.id = id
        self.host = host
        self.pid = pid
        self.version = version
        self.slots = slots
        self.channels = channels
        self.startedAt = startedAt
        self.state = state
        self.isDrained = isDrained
        self.load = load
        self.memory = memory
        self.freeMemory = freeMemory
        self.gpus = gpus
    }
}

/// How one attempt ended. Persistent, and confirmed or answered: the hint is acknowledged only afterwards.
package struct ResultMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.result.v1"

    package var job: JobID
    package var attempt: Int
    package var token: Int
    package var worker: String
    package var exit: JobExit
    /// What the job said last of how far it is: heartbeats are too rare for it.
    package var progress: RenewMessage.Progress?
    package var next: Next?

    /// The worker wants to go on with a job that becomes ready by this result. The router then answers the result, through direct reply-to
    /// and with a ``ClaimReply``: whoever has the answer knows that the result is in the ledger.
    package struct Next: Sendable, Hashable, Codable {
        /// Unique to the question, however often it is sent.
        package var id: String
        /// Which jobs the worker takes.
        package var channels: [String]
        /// The worker has asked and waits no longer: it takes nothing, and gives back what it may have been given. Not answered.
        package var isWithdrawn: Bool?

        package init(id: String, channels: [String], isWithdrawn: Bool? = nil) {
            self.id = id
            self.channels = channels
            self.isWithdrawn = isWithdrawn
        }
    }

    package init(
        job: JobID, attempt: Int, token: Int, worker: String, exit: JobExit, progress: RenewMessage.Progress? = nil, next: Next? = nil
    ) {
        self.job = job
        self.attempt = attempt
        self.token = token
        self.worker = worker
        self.exit = exit
        self.progress = progress
        self.next = next
    }
}
