package import Foundation

/// Why a job is not running, why it ran, or why it never will: an answer for people, and the same as data for programs.
package struct Explanation: Sendable, Hashable, Codable {
    package enum Code: String, Sendable, Hashable, Codable, CaseIterable {
        case waitsForJobs = "waits-for-jobs"
        case channelPaused = "channel-paused"
        case servicePaused = "service-paused"
        case brokerBlocked = "broker-blocked"
        case noWorker = "no-worker"
        /// Its message is on the way to the broker.
        case sending
        case queued
        case raised
        case prioritySet = "priority-set"
        case workerLost = "worker-lost"
        case released
        case notHere = "not-here"
        case retried
        case rerun
        case hintLost = "hint-lost"
        case running
        case stopping
        case retryLater = "retry-later"
        case retryDue = "retry-due"
        case succeeded
        case failed
        case cannotSucceed = "cannot-succeed"
        case crashLimit = "crash-limit"
        case cancelled
        case dependencyEnded = "dependency-ended"
        case dependencyNotAccepted = "dependency-not-accepted"
        case planningFailed = "planning-failed"
        case heldBack = "held-back"
        /// State and reason contradict each other: the ledger was written by something else.
        case unexpected
    }

    /// What the answer points to.
    package struct Subject: Sendable, Hashable, Codable {
        package enum Kind: String, Sendable, Hashable, Codable {
            case job
            case worker
            case channel
            case service
            case person
        }

        package var kind: Kind
        /// A job's id; for the others their name.
        package var id: String
        /// As the sentence calls it.
        package var name: String

        package init(kind: Kind, id: String, name: String? = nil) {
            self.kind = kind
            self.id = id
            self.name = name ?? id
        }
    }

    package var code: Code
    /// One English sentence. No patient data.
    package var sentence: String
    package var subjects: [Subject]
    /// Since when it is so.
    package var since: Date?
    /// When it changes, if that is known.
    package var until: Date?

    package init(_ code: Code, _ sentence: String, _ subjects: [Subject] = [], since: Date? = nil, until: Date? = nil) {
        self.code = code
        self.sentence = sentence
        self.subjects = subjects
        self.since = since
        self.until = until
    }
}

/// That something is paused: since when, and by whom.
package struct Pause: Sendable, Hashable {
    package var target: PauseTarget
    package var actor: String?
    package var at: Date

    package init(_ target: PauseTarget, by actor: String?, at: Date) {
        self.target = target
        self.actor = actor
        self.at = at
    }
}

/// What a run does not know of the world around its job.
package struct JobSurroundings: Sendable, Hashable {
    package var now: Date
    /// The pause that holds the job, of its channel or its service.
    package var pause: Pause?
    /// Workers seen lately that serve the job's channel.
    package var workersOfChannel: Int
    /// Workers of the channel that are there, and that people have told to take no new job.
    package var drainedWorkers: [String]
    /// Why RabbitMQ takes no messages; set while it does not.
    package var brokerBlocked: String?
    package var brokerBlockedSince: Date?
    /// The verdicts of planning.
    package var decisions: [Decision]

    package init(
        now: Date, pause: Pause? = nil, workersOfChannel: Int, drainedWorkers: [String] = [],
        brokerBlocked: String? = nil,
        brokerBlockedSince: Date? = nil, decisions: [Decision] = []
    ) {
        self.now = now
        self.pause = pause
        self.workersOfChannel = workersOfChannel
        self.drainedWorkers = drainedWorkers
        self.brokerBlocked = brokerBlocked
        self.brokerBlockedSince = brokerBlockedSince
        self.decisions = decisions
    }
}
