package import Foundation
package import Jobs

/// A run as lists show it.
package struct LedgerRun: Sendable {
    package var id: String
    package var eventSequence: Int64
    /// `event`, or `reprocess:<run>`.
    package var origin: String
    package var server: String
    package var level: String
    /// Orthanc's id of the series, study or patient.
    package var resourceID: String
    package var state: RunState
    package var reason: Reason?
    package var dcmpath: String
    package var createdAt: Date
    package var finishedAt: Date?
    /// How many jobs are in each state; a state without jobs is absent.
    package var counts: [JobState: Int]
    /// What its event holds: modalities by name, series, images.
    package var modalities: [String] = []
    package var series = 0
    package var images = 0
}

/// Everything about one run.
package struct LedgerRunDetail: Sendable {
    package var run: LedgerRun
    package var event: LedgerEvent
    /// Upstream's headers as the jobs see them. They hold patient data.
    package var headers: JSONValue
    /// Series that a filter refused: Orthanc id to reason.
    package var refused: JSONValue
    /// The run of the snapshot that this one grew from.
    package var follows: String?
    /// Other runs of the same resource, newest first.
    package var related: [LedgerRun]
    package var addedParams: JSONValue
    package var jobs: [LedgerJob]
    package var edges: [LedgerEdge]
    package var attempts: [LedgerAttempt]
    package var decisions: [Decision]
}

/// A dependency between two jobs of one run, by their positions.
package struct LedgerEdge: Sendable, Hashable {
    package var child: Int
    package var parent: Int
    package var condition: Dependency.Condition
    package var origin: Dependency.Origin
    package var satisfiedBy: Int?

    package init(child: Int, parent: Int, condition: Dependency.Condition, origin: Dependency.Origin, satisfiedBy: Int?) {
        self.child = child
        self.parent = parent
        self.condition = condition
        self.origin = origin
        self.satisfiedBy = satisfiedBy
    }
}

/// A job as lists show it.
package struct LedgerJob: Sendable {
    package var id: String
    package var runID: String
    package var position: Int
    package var name: String
    package var service: String
    package var stage: Stage
    package var channel: String
    package var priority: Priority
    package var state: JobState
    package var reason: Reason
    package var attempt: Int
    package var token: Int
    package var crashes: Int
    package var cancelRequested: Bool
    package var worker: String?
    package var notBefore: Date?
    package var queuedAt: Date?
    package var dispatchedAt: Date?
    package var startedAt: Date?
    package var finishedAt: Date?
    package var error: JobExit.Failure?
    /// Who took it off the list of the dead, and when; only of a dead job.
    package var discarded: Discard?
    /// What the running attempt last said of itself.
    package var progress: LedgerProgress?
}

package struct LedgerProgress: Sendable, Hashable {
    /// 0...1
    package var fraction: Double
    package var text: String?

    package init(fraction: Double, text: String?) {
        self.fraction = fraction
        self.text = text
    }
}

/// Everything about one job.
package struct LedgerJobDetail: Sendable {
    package var job: LedgerJob
    package var run: LedgerRun
    package var definition: JobDefinition
    package var result: JSONValue?
    /// What a person had it retried with instead of the definition's.
    package var changedParams: JSONValue?
    /// What this job's callback handed over.
    package var addedParams: JSONValue?
    /// All edges of the run that end at this job, with the jobs they come from.
    package var parents: [LedgerRelative]
    /// The jobs that depend on this one.
    package var children: [LedgerRelative]
    /// In the order in which they started.
    package var attempts: [LedgerAttempt]
    /// Workers seen lately that serve the job's channel.
    package var channelWorkers: Int

    /// What the next attempt, or the one that runs, is given.
    package var params: JSONValue { changedParams ?? definition.params }
}

/// The other end of a dependency.
package struct LedgerRelative: Sendable {
    package var edge: LedgerEdge
    package var id: String
    package var name: String
    package var state: JobState
}

/// One attempt that a worker was allowed to start.
package struct LedgerAttempt: Sendable {
    package var jobID: String
    package var attempt: Int
    package var token: Int
    package var worker: String
    package var claimedAt: Date
    package var endedAt: Date?
    package var progress: LedgerProgress?
    /// `succeeded`, `failed`, `cancelled`, `released` or `lost`; nil while it runs.
    package var outcome: String?
    /// How it ended, more exactly: a `JobExit.Kind`, or the code of the reason why it was lost.
    package var kind: String?
    /// Only in a job's detail.
    package var exit: JobExit?
    package var lostReason: Reason?
    /// What it ran with, when that was not what had been planned. Only in a job's detail.
    package var params: JSONValue?
}

/// An event as ingest published it, without its headers.
package struct LedgerEvent: Sendable {
    package var sequence: Int64
    package var snapshot: String
    package var server: String
    package var level: String
    package var resourceID: String
    package var observedAt: Date
    package var receivedAt: Date
    /// The snapshot of the same resource that this one grew from.
    package var follows: String?
    /// Why ingest let it go no further; the subject is nil.
    package var filtered: Reason?
    package var series: [LedgerSeries]
    package var refusedSeries: Int
    package var runs: [LedgerRunLink]
    /// How often it could not be planned.
    package var planningFailures: Int
    /// Why it could not be planned last, while it has no run.
    package var problem: Reason?
    /// Nobody tries any more to plan it.
    package var isAbandoned: Bool
}

package struct LedgerSeries: Sendable, Hashable, Codable {
    /// Orthanc's id.
    package var id: String
    package var instances: Int
}

package struct LedgerRunLink: Sendable, Hashable {
    package var id: String
    package var state: RunState
}

/// Something that happened, in the order of commits.
package struct LedgerFact: Sendable {
    package var sequence: Int64
    package var at: Date
    package var kind: String
    package var runID: String?
    package var jobID: String?
    package var data: JSONValue
}

package struct LedgerWorker: Sendable {
    package var id: String
    package var host: String
    package var pid: Int64?
    package var version: String?
    package var slots: Int
    package var channels: [String]
    /// `running`, `draining` or `stopped`, as the worker last said.
    package var state: String
    /// Leases held at the last heartbeat.
    package var busy: Int
    package var startedAt: Date
    package var seenAt: Date
    package var jobs: [LedgerWorkerJob]
    /// By an operator; `state` is `draining` then.
    package var isDrained = false
    /// The machine's load over 1, 5 and 15 minutes; empty when it does not say.
    package var load: [Double] = []
    /// Bytes of the machine or its container.
    package var memory: Int64?
    package var freeMemory: Int64?
    package var gpus: Int64?
}

/// A job that a worker runs now.
package struct LedgerWorkerJob: Sendable {
    package var id: String
    package var name: String
    package var startedAt: Date?
}

/// A channel: the jobs that want the same pool of workers.
package struct LedgerChannel: Sendable {
    package struct Level: Sendable {
        package var priority: Priority
        package var counts: [JobState: Int]
    }

    package var name: String
    package var pausedBy: String?
    package var pausedAt: Date?
    package var counts: [JobState: Int]
    /// Jobs that have not ended, by priority, most urgent first; only levels that have any.
    package var levels: [Level]
    /// When the job that waits longest for a worker was queued.
    package var oldestQueuedAt: Date?
    /// Workers seen lately that serve it, and their slots.
    package var workers: Int
    package var slots: Int
}

package struct LedgerService: Sendable {
    package struct Problem: Sendable {
        package var severity: String
        package var file: String?
        package var entry: String?
        package var key: String?
        /// What stands there.
        package var value: String?
        /// What may stand there.
        package var allowed: String?
        /// The known name that comes nearest.
        package var nearest: String?
        package var message: String
    }

    package var name: String
    package var jobs: [JobDefinition]
    package var problems: [Problem]
    /// What each job depends on by its settings, both by name.
    package var needs: [String: [String]]
    package var loadedAt: Date
    /// Set while it is paused.
    package var pause: Pause?
    /// Its jobs that a worker could take.
    package var queued = 0
}

/// A message that could not be read, and what a person decided about it.
package struct LedgerDeadMessage: Sendable {
    package var sequence: Int64
    package var at: Date
    /// Where it came from.
    package var queue: String
    package var routingKey: String
    package var reason: String
    package var messageID: String?
    package var type: String?
    package var size: Int
    package var state: ParkedMessage.State
    package var decidedBy: String?
    package var decidedAt: Date?
    /// Why it could not be requeued.
    package var problem: String?
    /// The ledger holds it; without that it cannot be requeued.
    package var hasBody: Bool
}

/// A dead job and what it was about.
package struct LedgerDeadJob: Sendable {
    package var job: LedgerJob
    package var level: String
    package var resourceID: String
}

/// What the router last said of its surroundings.
package struct LedgerPipelineState: Sendable, Hashable {
    /// nil before a router has run.
    package var broker: BrokerState?
    package var reportedAt: Date?

    package var brokerBlockedSince: Date? { broker?.condition == .blocked ? broker?.since : nil }
    package var brokerBlockedReason: String? { broker?.condition == .blocked ? broker?.reason : nil }
}

/// What the overview and the metrics count.
package struct LedgerTotals: Sendable {
    package struct JobGroup: Sendable, Hashable {
        package var service: String
        package var channel: String
        package var state: JobState
        package var count: Int
    }

    package struct EventGroup: Sendable, Hashable {
        /// The filter's code, or nil for events that went on.
        package var code: String?
        package var count: Int
    }

    package var runs: [RunState: Int]
    /// The dead ones without those that were discarded.
    package var jobs: [JobGroup]
    /// Dead jobs that a person took off the list.
    package var discarded: Int
    package var events: [EventGroup]
    /// Messages that could not be read and that nobody has decided about.
    package var deadMessages: Int
    /// All that ever came, those that were forgotten since too.
    package var deadMessagesEver: Int
    package var latestFact: Int64

    package func jobs(_ state: JobState) -> Int { jobs.reduce(0) { $0 + ($1.state == state ? $1.count : 0) } }
    package var eventCount: Int { events.reduce(0) { $0 + $1.count } }
    package var filteredEventCount: Int { events.reduce(0) { $0 + ($1.code == nil ? 0 : $1.count) } }
}
