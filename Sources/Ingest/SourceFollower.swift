import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Pipeline

/// Follows one Orthanc server: everything that becomes stable there gets its event, once.
struct SourceFollower {
    let client: OrthancClient
    let configuration: IngestConfiguration
    let journal: IngestJournal
    let publisher: any EventPublishing
    let mailbox: SourceMailbox
    let logger: Logger
    /// nil: nobody knows what has reached the router.
    let ledger: LedgerEventLookup?
    let reader: ResourceReader
    var feed: ChangeFeed?
    var sweep: Sweep
    /// Of resources that Orthanc could not give, by its id.
    var failedReads: [OrthancID: FailedReads] = [:]
    var lostEvents: LostEvents
    var listing = ListedResources(startedAt: .distantPast)
    private var lastAnomaly: Reason?
    private var status: SourceStatus

    /// Whether the last round found everything in order.
    var isFollowing: Bool { status.isFollowing }

    init(
        client: OrthancClient, configuration: IngestConfiguration, journal: IngestJournal, publisher: any EventPublishing,
        ledger: LedgerEventLookup? = nil, mailbox: SourceMailbox = SourceMailbox(), logger: Logger
    ) {
        var logger = logger
        logger[metadataKey: "orthanc.server"] = "\(client.endpoint.name)"
        self.client = client
        self.configuration = configuration
        self.journal = journal
        self.publisher = publisher
        self.mailbox = mailbox
        self.ledger = ledger
        lostEvents = LostEvents(patience: configuration.ledgerPatience)
        self.logger = logger
        reader = ResourceReader(client: client)
        sweep = Sweep(levels: configuration.levels, interval: configuration.sweepInterval, now: .now)
        status = SourceStatus(endpoint: client.endpoint, journal: journal, logger: logger)
    }

    var name: String { client.endpoint.name }

    /// One look at the change log and, when one is due, at one page of a sweep.
    /// - Returns: how long to wait before the next one.
    /// - Throws: `CancellationError` alone; any other trouble is noted and passes or is tried again.
    mutating func round() async throws -> Duration {
        do {
            let isDone = try await poll()
            let isSweeping = try await sweepPage()
            await status.follow(
                cursor: feed?.position ?? 0, last: feed?.last ?? 0, unreadable: failedReads.values.count(where: \.isGivenUp))
            return isDone && !isSweeping ? configuration.pollInterval : .zero
        } catch let error as CancellationError {
            throw error
        } catch {
            try Task.checkCancellation()
            let pause = configuration.backoff.pause(after: await status.fail(error, cursor: feed?.position ?? 0, last: feed?.last ?? 0))
            // It may be another release or database than before, which cannot filter its log: asked again.
            if let error = error as? OrthancError, error.code == .badResponse, error.path?.hasPrefix("/changes") == true { feed = nil }
            return pause
        }
    }

    /// Waits for the next round and serves others meanwhile. A wake ends it, except soon after a round that failed.
    mutating func rest(for pause: Duration) async throws {
        let start = ContinuousClock.now
        var end = start + pause
        repeat {
            switch await mailbox.wait(until: end) {
            case .request: try await serveRequest()
            case .wake where isFollowing: return
            case .wake: end = min(end, start + configuration.backoff.initial)
            case .timeout: return try Task.checkCancellation()
            }
        } while ContinuousClock.now < end
    }

    /// Serves the oldest request, if there is one. Between any two resources of the change log, so that nobody waits for all of them.
    mutating func serveRequest() async throws {
        guard let request = mailbox.nextRequest() else { return }
        mailbox.answer(request, try await submit(request.level, request.id, replay: request.replay))
    }

    // MARK: Change log

    /// - Returns: whether the end of the log has been reached.
    private mutating func poll() async throws -> Bool {
        var feed = try await openFeed()
        let since = feed.since
        let page = try await client.changes(since: since, limit: configuration.pageSize, kinds: feed.kinds)
        let verdict = feed.judge(page, since: since)
        self.feed = feed
        switch verdict {
        case .changes(let changes, let isDone):
            lastAnomaly = nil
            try await handle(changes)
            return isDone
        case .gap:
            // Mostly because resources were deleted, and their entries with them. If somebody emptied the log, the next sweep finds what it told.
            logger.debug(
                "entries were removed from Orthanc's change log before they were read", metadata: ["position": "\(feed.position)"])
            return true
        case .anomaly(let reason):
            try await resynchronise(reason)
            return true
        }
    }

    private mutating func handle(_ changes: [OrthancChange]) async throws {
        guard !changes.isEmpty else { return }
        try FaultPoint.check(.ingestChangeRead)
        for change in changes {
            if let level = change.stableLevel, configuration.levels.contains(level) {
                guard try await deal(level, change.id, .change(change)) else { continue }
            }
            feed?.finish(change)
            try await serveRequest()
        }
        try await journal.save(cursor: feed?.cursor, server: name, at: Date())
        try FaultPoint.check(.ingestCursorSaved)
    }

    /// Another database, or one from a backup: begin at its end and compare everything in it with the journal.
    private mutating func resynchronise(_ reason: Reason) async throws {
        // The same again: beginning anew did not help, so a person has to look at it.
        if lastAnomaly == reason { throw ChangeLogAnomaly(reason: reason) }
        lastAnomaly = reason
        logger.warning(
            "the change log is not the one that was read before; everything in Orthanc is compared with the journal",
            metadata: ["code": "\(reason.code)", "reason": "\(reason.text)"]
        )
        let cursor = try await endOfLog()
        try await journal.save(cursor: cursor, server: name, at: Date())
        try FaultPoint.check(.ingestResyncSaved)
        feed = ChangeFeed(cursor: cursor, kinds: feed?.kinds ?? [])
        sweep.restart(now: .now)
    }
}
