package import Foundation

/// How one attempt of a job ended, as the worker that ran it saw it.
package struct JobExit: Sendable, Hashable, Codable {
    package enum Outcome: String, Sendable, Codable {
        case succeeded
        case failed
        case cancelled
        /// Handed back unfinished, for example because the worker stops. Not a failure; another worker takes it.
        case released
    }

    /// What ended the attempt.
    package enum Kind: String, Sendable, Codable, CaseIterable {
        case completed
        /// The function raised.
        case exception
        case timeout
        /// Ended by a signal that we did not send.
        case killed
        case outOfMemory = "out-of-memory"
        /// The process ended without handing over a result.
        case noResult = "no-result"
        case cancelled
        case released
        /// The service's module could not be imported or its environment could not be built.
        case brokenService = "broken-service"
        /// What the job works on is no longer there.
        case gone
        /// The machine refused: disk full, DATA not writable.
        case resources
    }

    package struct Failure: Sendable, Hashable, Codable {
        /// The exception's class or our own code.
        package var type: String
        package var message: String
        package var traceback: String?

        package init(type: String, message: String, traceback: String? = nil) {
            self.type = type
            self.message = message
            self.traceback = traceback
        }
    }

    package struct Usage: Sendable, Hashable, Codable {
        /// Seconds.
        package var wall: Double
        package var user: Double
        package var system: Double
        /// Bytes.
        package var peakMemory: Int64

        package init(wall: Double, user: Double = 0, system: Double = 0, peakMemory: Int64 = 0) {
            self.wall = wall
            self.user = user
            self.system = system
            self.peakMemory = peakMemory
        }
    }

    /// A file that the job wants people to see. `path` is relative to DATA.
    package struct Artifact: Sendable, Hashable, Codable {
        package var name: String
        package var path: String
        package var kind: String

        package init(name: String, path: String, kind: String) {
            self.name = name
            self.path = path
            self.kind = kind
        }
    }

    package var outcome: Outcome
    package var kind: Kind
    package var failure: Failure?
    package var exitCode: Int?
    package var signal: Int?
    /// What the function returned, when JSON can say it.
    package var result: JSONValue?
    package var artifacts: [Artifact]
    package var usage: Usage?
    package var startedAt: Date
    package var finishedAt: Date
    /// The log's file, relative to LOGS.
    package var log: String?
    /// The end of the log: at most 200 lines and 16 KiB. It may hold patient data, as the log may.
    package var tail: String?
    /// False when trying again cannot help: the job goes to `dead` at once.
    package var isRetriable: Bool

    package init(
        outcome: Outcome,
        kind: Kind,
        failure: Failure? = nil,
        exitCode: Int? = nil,
        signal: Int? = nil,
        result: JSONValue? = nil,
        artifacts: [Artifact] = [],
        usage: Usage? = nil,
        startedAt: Date,
        finishedAt: Date,
        log: String? = nil,
        tail: String? = nil,
        isRetriable: Bool = true
    ) {
        self.outcome = outcome
        self.kind = kind
        self.failure = failure
        self.exitCode = exitCode
        self.signal = signal
        self.result = result
        self.artifacts = artifacts
        self.usage = usage
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.log = log
        self.tail = tail
        self.isRetriable = isRetriable
    }
}
