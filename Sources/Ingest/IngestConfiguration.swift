import Bootstrap
import Jobs
import Orthanc

/// What ingest does with one Orthanc server.
struct IngestConfiguration: Sendable {
    /// What the first start does with the resources that are there already.
    enum Start: String, Sendable, CaseIterable {
        /// They are left alone; only what becomes stable from now on makes events.
        case now
        /// Each of them makes an event.
        case all
    }

    /// What late images of a resource that has had its event do.
    enum Repeats: String, Sendable, CaseIterable {
        /// Another event, which lists the series that are new or changed.
        case changed
        /// Another event, which lists all of its series.
        case all
        /// Nothing.
        case ignore
    }

    /// The levels that make events, without repetition.
    var levels: [ResourceLevel] = [.study]
    var filter = IngestFilter()
    var start = Start.now
    var repeats = Repeats.changed
    /// Submissions of many, per second.
    var submitRate = 10.0
    var pollInterval = Duration.seconds(1)
    /// From the end of one sweep to the begin of the next.
    var sweepInterval = Duration.seconds(300)
    /// Seconds without a new instance after which Orthanc calls a resource stable.
    var stableAge = 60
    /// More seconds than the stable age before a sweep takes matters in its own hand.
    var sweepMargin = Int(Pace.scaled(15.0).rounded(.up))
    /// Entries of the change log, and resources of a sweep, in one request.
    var pageSize = 1000
    var sweepPageSize = 200
    /// Attempts to read one resource that Orthanc cannot read; afterwards it is left to the sweeps.
    var readAttempts = 5
    /// Seconds after which an event that has not reached the ledger is sent again, and how many of these at most for one page of a sweep.
    var ledgerPatience = Pace.scaled(120.0)
    var repetitionsPerPage = 25
    /// Seconds for which the record of a resource is kept that Orthanc no longer has, and how many of these one sweep asks for.
    var forgetAfter = 30 * 86400.0
    var forgottenPerSweep = 200
    var backoff = Backoff()

    /// Pauses after failures: doubled from one to the next.
    struct Backoff: Sendable {
        var initial = Pace.scaled(.seconds(1))
        var maximum = Pace.scaled(.seconds(30))

        /// - Parameter failures: in a row, at least 1.
        func pause(after failures: Int) -> Duration {
            min(initial * (1 << min(failures - 1, 16)), maximum)
        }
    }
}
