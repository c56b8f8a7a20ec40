package import Foundation

/// Whether a child can be used.
package enum Readiness: Sendable, Equatable {
    case ready
    case notYet
    /// It runs, and waiting longer will not help: what is wrong.
    case broken(String)
}

/// A process that a ``Supervisor`` keeps alive.
package struct ChildSpec: Sendable {
    package let name: String
    /// Children that must have been ready once before this one is started for the first time.
    package let after: [String]
    /// What to start; asked again for every start.
    package let command: @Sendable () throws -> Command
    /// Clears away what an earlier start left behind.
    package let prepare: @Sendable () throws -> Void
    package let readiness: @Sendable (ManagedProcess) async -> Readiness
    /// Whether `readiness` is asked on, to notice a process that lives and does nothing.
    package let staysWatched: Bool
    /// From SIGTERM to SIGKILL.
    package let grace: Duration
    /// How long a start may take before it counts as failed. The process is left running: it may only be slow.
    package let startLimit: Duration

    package init(
        name: String,
        after: [String] = [],
        grace: Duration = .seconds(30),
        startLimit: Duration = .seconds(60),
        staysWatched: Bool = false,
        command: @escaping @Sendable () throws -> Command,
        prepare: @escaping @Sendable () throws -> Void = {},
        readiness: @escaping @Sendable (ManagedProcess) async -> Readiness = { _ in .ready },
    ) {
        self.name = name
        self.after = after
        self.grace = grace
        self.startLimit = startLimit
        self.staysWatched = staysWatched
        self.command = command
        self.prepare = prepare
        self.readiness = readiness
    }
}

/// What is to be said about a child now.
package struct ChildReport: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        /// Waits for the children it comes after.
        case waiting
        case starting
        case ready
        /// Runs, but cannot be used: not ready in time, or no sign of life for a while.
        case unresponsive
        /// Ended; the next start comes after a pause.
        case backingOff
        case stopped
    }

    package var name: String
    package var state: State
    package var pid: Int32?
    /// When the state began.
    package var since: Date
    /// Starts so far.
    package var starts = 0
    /// Ends or refusals in a row without a minute of work between them.
    package var failures = 0
    /// Why it is not ready, with the last lines of its log.
    package var problem: String?
    package var logFile: String?

    package init(name: String, state: State, since: Date = Date()) {
        self.name = name
        self.state = state
        self.since = since
    }
}
