package import Jobs

/// The names on the broker. Queue names carry a version: an argument that cannot be changed gets a new queue.
package enum PipelineExchange {
    package static let ingest = "dcm.ingest"
    package static let jobs = "dcm.jobs"
    package static let retry = "dcm.retry"
    package static let router = "dcm.router"
    package static let control = "dcm.control"
    package static let events = "dcm.events"
    package static let deadLetter = "dcm.dlx"
    /// What other programs are to be told.
    package static let webhooks = "dcm.webhooks"
    /// What waits to be told again.
    package static let webhooksRetry = "dcm.webhooks.retry"
}

package enum PipelineQueue {
    package static let ingest = "dcm.ingest.v1"
    package static let claims = "dcm.claims.v1"
    package static let results = "dcm.results.v1"
    package static let commands = "dcm.commands.v1"
    /// Keeps what could go nowhere, for people to look at. Nobody consumes it.
    package static let dead = "dcm.dead.v1"
    /// The same messages once more, for the router to record.
    package static let deadRecord = "dcm.dead.record.v1"

    package static func jobs(channel: String) -> String { "dcm.jobs.\(channel).v1" }
    package static func retry(channel: String, delay: RetryDelay) -> String { "dcm.retry.\(channel).\(delay.name).v1" }
    /// Exclusive to one worker.
    package static func control(worker: String) -> String { "dcm.control.\(worker)" }
}

package enum PipelineKey {
    package static let claim = "claim"
    package static let renew = "renew"
    package static let result = "result"
    package static let command = "command"

    package static func ingest(level: ResourceLevel, isFiltered: Bool) -> String {
        "\(level.rawValue).\(isFiltered ? "filtered" : "stable")"
    }

    package static func retry(channel: String, delay: RetryDelay) -> String { "\(channel).\(delay.name)" }
}

/// Headers of our own.
package enum PipelineHeader {
    /// Why a message is on the dead-letter exchange.
    package static let deadReason = "x-dcm-reason"
    /// The queue that a dead message came from.
    package static let deadQueue = "x-dcm-queue"
    /// What the message is about is in the ledger already: it is for people to read, and nothing can be sent again.
    package static let deadNote = "x-dcm-note"
}
