/// Where a job stands. docs/job-lifecycle.md has a paragraph and a diagram for each state.
package enum JobState: String, Sendable, Hashable, Codable, CaseIterable {
    /// At least one dependency has not ended yet.
    case waiting
    /// May run; its hint is on the way to the broker, or its channel is paused.
    case ready
    /// The broker has confirmed the hint; no worker has claimed the job yet.
    case dispatched
    /// A worker holds the job's lease.
    case running
    /// The last attempt failed; the next one is due at `notBefore`.
    case retrying
    case succeeded
    /// Its own code failed and no attempt is left.
    case failed
    case cancelled
    /// Will not run, because of what its reason says.
    case skipped
    /// Quarantined: workers died with it, or it cannot succeed. Only an operator brings it back.
    case dead

    package var isTerminal: Bool {
        switch self {
        case .waiting, .ready, .dispatched, .running, .retrying: false
        case .succeeded, .failed, .cancelled, .skipped, .dead: true
        }
    }
}

/// Where a run stands, derived from its jobs.
package enum RunState: String, Sendable, Hashable, Codable, CaseIterable {
    case active
    case succeeded
    /// A job failed or died, or planning failed closed.
    case failed
    case cancelled
    /// No service accepted the event: nothing to do.
    case declined

    package var isTerminal: Bool { self != .active }
}

/// Why a job or a run is in the state it is in: a stable code for programs, a sentence for people.
package struct Reason: Sendable, Hashable, Codable {
    /// Stable, for programs: `dependency-failed`, `lease-expired`, ...
    package var code: String
    /// One English sentence. No patient data.
    package var text: String
    /// The id of the job, worker or channel that the reason is about.
    package var subject: String?

    package init(_ code: String, _ text: String, subject: String? = nil) {
        self.code = code
        self.text = text
        self.subject = subject
    }
}
