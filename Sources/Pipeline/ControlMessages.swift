package import AMQP
package import Foundation
package import Jobs

/// What a person or a program asks of the router. Whoever may publish to the exchange `dcm.router` may send one, with the routing key
/// `command` and the type `dcm.command.v1`:
///
///     {"id": "4f1c", "action": "set-priority", "target": "<job>", "actor": "anna", "priority": "urgent"}
///
/// `id` makes a repetition harmless; without one the message's `message_id` counts. `actor` is what the audit shows, `amqp` when it is
/// missing. `at` (seconds since 1970) may be missing.
package struct CommandMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.command.v1"

    package enum Action: String, Sendable, Codable, CaseIterable {
        case retryJob = "retry-job"
        case cancelJob = "cancel-job"
        /// This job and everything after it once more, also what succeeded.
        case rerunJob = "rerun-job"
        /// How urgent a job's next hint is. Needs `priority`.
        case setPriority = "set-priority"
        /// Retries every failed, dead, skipped or cancelled job of the run.
        case retryRun = "retry-run"
        case cancelRun = "cancel-run"
        /// Plans the run's event again with today's services: a new run, linked to this one.
        case reprocessRun = "reprocess-run"
        case pauseChannel = "pause-channel"
        case resumeChannel = "resume-channel"
        /// The worker ends what it runs and takes nothing more until it is resumed.
        case drainWorker = "drain-worker"
        case resumeWorker = "resume-worker"
        /// No new job of the service starts, in whatever channel.
        case pauseService = "pause-service"
        case resumeService = "resume-service"
        /// Takes a dead job off the list of the dead; it stays what it is.
        case discardJob = "discard-job"
        /// Sends a message that nobody could read to the queue that it came from, once more. The target is its number, or `..<number>`
        /// for all up to it.
        case requeueMessage = "requeue-message"
        case discardMessage = "discard-message"
    }

    /// Unique to the command: a repeated delivery is carried out once.
    package var id: String
    package var action: Action
    /// A job's id, a run's id, the name of a channel or a service, a worker's id, or the number of a message, as the action wants.
    package var target: String
    /// Who asked: a user's name or `api`.
    package var actor: String
    package var at: Date
    /// urgent, high, default, medium or low, or 4 to 0: what `set-priority` sets. Text, so that a word that is none is refused with a
    /// sentence and leaves a trace, like every command that does not fit.
    package var priority: String?
    /// What `retry-job` gives the job instead of the params that it has: an object, the whole of it.
    package var params: JSONValue?
    /// The attempt of the job that `retry-job` or `discard-job` is about: at another one by then, it is refused. nil is any.
    package var attempt: Int?

    package init(
        id: String, action: Action, target: String, actor: String, at: Date, priority: String? = nil, params: JSONValue? = nil,
        attempt: Int? = nil
    ) {
        self.id = id
        self.action = action
        self.target = target
        self.actor = actor
        self.at = at
        self.priority = priority
        self.params = params
        self.attempt = attempt
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        id = try values.decodeIfPresent(String.self, forKey: .id) ?? ""
        action = try values.decode(Action.self, forKey: .action)
        target = try values.decode(String.self, forKey: .target)
        actor = try values.decodeIfPresent(String.self, forKey: .actor) ?? "amqp"
        at = try values.decodeIfPresent(Date.self, forKey: .at) ?? Date()
        priority = try values.decodeIfPresent(String.self, forKey: .priority)
        params = try values.decodeIfPresent(JSONValue.self, forKey: .params)
        attempt = try values.decodeIfPresent(Int.self, forKey: .attempt)
    }
}

extension AMQPDelivery {
    /// Reads a command. One without an identity could be carried out twice, so it is refused.
    package func decodeCommand() throws(UndecodableMessage) -> CommandMessage {
        var command = try decode(CommandMessage.self, type: CommandMessage.type)
        if command.id.isEmpty { command.id = properties.messageID ?? "" }
        guard !command.id.isEmpty else {
            throw UndecodableMessage(reason: "a command needs the key 'id' or the property message_id, so that it is carried out once")
        }
        let longest = CommandMessage.longestText
        guard [command.id, command.target, command.actor, command.priority ?? ""].allSatisfy({ $0.utf8.count <= longest }) else {
            throw UndecodableMessage(reason: "id, target, actor and priority of a command hold at most \(longest) bytes each")
        }
        // Who sends one to the wrong action means something else than what would be done.
        guard command.params == nil || command.action == .retryJob else {
            throw UndecodableMessage(
                reason: "\(command.action.rawValue) takes no params: only \(CommandMessage.Action.retryJob.rawValue) does")
        }
        guard command.attempt == nil || command.action == .retryJob || command.action == .discardJob else {
            throw UndecodableMessage(reason: "\(command.action.rawValue) takes no attempt: only retry-job and discard-job do")
        }
        if let fault = command.params.flatMap(CommandMessage.fault(ofParams:)) {
            throw UndecodableMessage(reason: "params of a command \(fault)")
        }
        return command
    }
}

extension CommandMessage {
    fileprivate static let longestText = 256
    /// Bytes of JSON that params may hold, with nothing between its parts.
    package static let longestParams = 32 * 1024
    /// How deep objects and lists in params may lie within each other.
    package static let deepestParams = 32

    /// What is wrong with params, as the end of a sentence; nil when nothing is. Shows no value: values can be patient data.
    package static func fault(ofParams params: JSONValue) -> String? {
        guard params.object != nil else { return "is not an object" }
        guard params.depth <= deepestParams else { return "is deeper than \(deepestParams) levels" }
        let size = params.encoded().count
        guard size <= longestParams else { return "has \(size) bytes, allowed are \(longestParams)" }
        return nil
    }
}

extension JSONValue {
    /// 0 for what holds nothing else.
    fileprivate var depth: Int {
        switch self {
        case .object(let members): 1 + (members.values.lazy.map(\.depth).max() ?? 0)
        case .array(let elements): 1 + (elements.lazy.map(\.depth).max() ?? 0)
        case .null, .bool, .integer, .number, .string: 0
        }
    }
}

/// What the router tells every worker at once.
package struct ControlMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.control.v1"

    package enum Action: String, Sendable, Codable {
        /// Ends the attempt of `job` that has `token`.
        case cancel
        /// `worker` takes no more jobs.
        case drain
        /// `worker` takes jobs again.
        case undrain
    }

    /// nil for one that this version does not know: it is for others.
    package var action: Action?
    package var job: JobID?
    package var token: Int?
    package var worker: String?

    package init(action: Action, job: JobID? = nil, token: Int? = nil, worker: String? = nil) {
        self.action = action
        self.job = job
        self.token = token
        self.worker = worker
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        action = Action(rawValue: try values.decode(String.self, forKey: .action))
        job = try values.decodeIfPresent(JobID.self, forKey: .job)
        token = try values.decodeIfPresent(Int.self, forKey: .token)
        worker = try values.decodeIfPresent(String.self, forKey: .worker)
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
