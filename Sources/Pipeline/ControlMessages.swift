package import Foundation
package import Jobs

/// What a person or a program asks of the router.
package struct CommandMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.command.v1"

    package enum Action: String, Sendable, Codable, CaseIterable {
        case retryJob = "retry-job"
        case cancelJob = "cancel-job"
        /// Retries every failed, dead, skipped or cancelled job of the run.
        case retryRun = "retry-run"
        case cancelRun = "cancel-run"
        /// Plans the run's event again with today's services: a new run, linked to this one.
        case reprocessRun = "reprocess-run"
        case pauseChannel = "pause-channel"
        case resumeChannel = "resume-channel"
    }

    /// Unique to the command: a repeated delivery is carried out once.
    package var id: String
    package var action: Action
    /// A job's id, a run's id or a channel's name, as the action wants.
    package var target: String
    /// Who asked: a user's name or `api`.
    package var actor: String
    package var at: Date

    package init(id: String, action: Action, target: String, actor: String, at: Date) {
        self.id = id
        self.action = action
        self.target = target
        self.actor = actor
        self.at = at
    }
}

/// What the router tells every worker at once.
package struct ControlMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.control.v1"

    package enum Action: String, Sendable, Codable {
        case cancel
    }

    package var action: Action
    package var job: JobID
    package var token: Int

    package init(action: Action, job: JobID, token: Int) {
        self.action = action
        self.job = job
        self.token = token
    }
}

/// Something that happened, published after the COMMIT that made it true. Routing key: `kind`.
package struct FactMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.fact.v1"

    /// Without gaps, in the order of commits.
    package var sequence: Int64
    package var at: Date
    /// `run.created`, `run.succeeded`, `job.running`, `worker.lost`, ...
    package var kind: String
    package var run: RunID?
    package var job: JobID?
    package var data: JSONValue

    package init(sequence: Int64, at: Date, kind: String, run: RunID? = nil, job: JobID? = nil, data: JSONValue = [:]) {
        self.sequence = sequence
        self.at = at
        self.kind = kind
        self.run = run
        self.job = job
        self.data = data
    }
}

/// A job that only an operator can bring back, where an operator of the broker sees it.
package struct DeadJobMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.dead-job.v1"

    package var job: JobID
    package var attempt: Int
    package var reason: Reason

    package init(job: JobID, attempt: Int, reason: Reason) {
        self.job = job
        self.attempt = attempt
        self.reason = reason
    }
}
