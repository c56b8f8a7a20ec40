import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Orthanc

/// Tells people how it goes with one server: in the log when it changes, in the journal for the monitor.
struct SourceStatus {
    private let name: String
    private let journal: IngestJournal
    private let logger: Logger
    private var reported: IngestSource?
    private var reportedAt: ContinuousClock.Instant?
    /// In a row.
    private var failures = 0

    var isFollowing: Bool { reported?.state == .following }

    init(endpoint: OrthancEndpoint, journal: IngestJournal, logger: Logger) {
        name = endpoint.name
        self.journal = journal
        self.logger = logger
    }

    /// - Parameter unreadable: resources that Orthanc cannot give; they do not hold up the others.
    mutating func follow(cursor: Int64, last: Int64, unreadable: Int) async {
        if failures > 0 {
            logger.info("following again", metadata: ["failures": "\(failures)"])
            failures = 0
        }
        let error =
            unreadable == 0
            ? nil : Reason("unreadable", "Orthanc cannot read \(unreadable) series, studies or patients; they are tried again.")
        await report(
            IngestSource(server: name, state: .following, lastSequence: last, cursorSequence: cursor, checkedAt: Date(), error: error))
    }

    /// - Returns: failures in a row, this one included.
    mutating func fail(_ error: any Error, cursor: Int64, last: Int64) async -> Int {
        let (state, reason) = Self.judge(error)
        failures += 1
        if reported?.error?.code != reason.code {
            logger.error("ingest waits", metadata: ["code": "\(reason.code)", "reason": "\(reason.text)"])
        }
        await report(IngestSource(server: name, state: state, lastSequence: last, cursorSequence: cursor, checkedAt: Date(), error: reason))
        return failures
    }

    static func judge(_ error: any Error) -> (IngestSource.State, Reason) {
        switch error {
        case let error as OrthancError: (.unavailable, Reason("orthanc-\(error.code)", "\(error)"))
        case let error as ChangeLogAnomaly: (.unavailable, Reason("change-log-\(error.reason.code)", error.reason.text))
        case let error as AMQPError: (.blocked, Reason("broker-\(error.code)", "The broker does not take events: \(error)"))
        default: (.unavailable, Reason("ingest", "\(error)"))
        }
    }

    /// Each change at once, a sign of life every ten seconds.
    private mutating func report(_ source: IngestSource) async {
        var comparable = source
        comparable.checkedAt = reported?.checkedAt ?? source.checkedAt
        if comparable == reported, let reportedAt, .now - reportedAt < .seconds(10) { return }
        do {
            try await journal.report(source)
            reported = source
            reportedAt = .now
        } catch {
            logger.error("the state of ingest cannot be written to STATE", metadata: ["error": "\(error)"])
        }
    }
}

/// The change log cannot be followed.
struct ChangeLogAnomaly: Error {
    var reason: Reason
}
