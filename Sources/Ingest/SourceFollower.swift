import AMQP
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
    let logger: Logger
    /// nil: nobody knows what has reached the router.
    private let ledger: LedgerEventLookup?
    private let reader: ResourceReader
    private var feed: ChangeFeed?
    private var sweep: Sweep
    /// Of resources that Orthanc could not give, by its id.
    private var failedReads: [OrthancID: FailedReads] = [:]
    private var lostEvents: LostEvents
    private var lastAnomaly: Reason?
    private var status: SourceStatus

    /// Whether the last round found everything in order.
    var isFollowing: Bool { status.isFollowing }

    init(
        client: OrthancClient, configuration: IngestConfiguration, journal: IngestJournal, publisher: any EventPublishing,
        ledger: LedgerEventLookup? = nil, logger: Logger
    ) {
        var logger = logger
        logger[metadataKey: "orthanc.server"] = "\(client.endpoint.name)"
        self.client = client
        self.configuration = configuration
        self.journal = journal
        self.publisher = publisher
        self.ledger = ledger
        lostEvents = LostEvents(patience: configuration.ledgerPatience)
        self.logger = logger
        reader = ResourceReader(client: client)
        sweep = Sweep(levels: configuration.levels, interval: configuration.sweepInterval, now: .now)
        status = SourceStatus(endpoint: client.endpoint, journal: journal, logger: logger)
    }

    /// One look at the change log and, when one is due, at one page of a sweep.
    /// - Returns: how long to wait before the next one.
    /// - Throws: `CancellationError` alone; any other trouble is noted and passes or is tried again.
    mutating func round() async throws -> Duration {
        do {
            let isDone = try await poll()
            let isSweeping = try await sweepPage()
            await status.follow(
                cursor: feed?.cursor.sequence ?? 0, last: feed?.last ?? 0, unreadable: failedReads.values.count(where: \.isGivenUp))
            return isDone && !isSweeping ? configuration.pollInterval : .zero
        } catch let error as CancellationError {
            throw error
        } catch {
            try Task.checkCancellation()
            return configuration.backoff.pause(after: await status.fail(error, cursor: feed?.cursor.sequence ?? 0, last: feed?.last ?? 0))
        }
    }

    // MARK: Change log

    /// - Returns: whether the end of the log has been reached.
    private mutating func poll() async throws -> Bool {
        var feed = try await openFeed()
        let since = feed.since
        let page = try await client.changes(since: since, limit: configuration.pageSize)
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
                "entries were removed from Orthanc's change log before they were read", metadata: ["cursor": "\(feed.cursor.sequence)"])
            try await journal.save(cursor: feed.cursor, server: client.endpoint.name, at: Date())
            return true
        case .anomaly(let reason):
            try await resynchronise(reason)
            return true
        }
    }

    private mutating func handle(_ changes: [OrthancChange]) async throws {
        guard !changes.isEmpty else { return }
        for change in changes {
            if let level = change.stableLevel, configuration.levels.contains(level) {
                guard try await deal(level, change.id, cursor: change) else { continue }
            }
            feed?.finish(change)
        }
        try await journal.save(cursor: feed?.cursor, server: client.endpoint.name, at: Date())
    }

    private mutating func openFeed() async throws -> ChangeFeed {
        if let feed { return feed }
        let name = client.endpoint.name
        var levels: [ResourceLevel: IngestJournal.Level] = [:]
        for level in configuration.levels {
            levels[level] = try await journal.register(level, server: name, at: Date())
        }
        // Before the baseline is taken: what becomes stable meanwhile must not fall between the two.
        let cursor = try await journal.cursor(of: name)
        let start: IngestCursor
        if let cursor {
            start = cursor
        } else {
            start = try await recentEntry(levels.values.map(\.firstSeenAt).min() ?? Date())
        }
        for level in configuration.levels where levels[level]?.isBaselined == false {
            if configuration.start == .now, let known = levels[level] {
                try await takeBaseline(level, firstSeenAt: known.firstSeenAt)
            }
            try await journal.markBaselined(level, server: name)
        }
        try await journal.save(cursor: start, server: name, at: Date())
        let system = try await client.system()
        logger.info(
            "following Orthanc's change log",
            metadata: [
                "orthanc.version": "\(system.version)", "cursor": "\(start.sequence)",
                "levels": "\(configuration.levels.map(\.rawValue).joined(separator: " "))",
            ]
        )
        let feed = ChangeFeed(cursor: start)
        self.feed = feed
        return feed
    }

    private func endOfLog() async throws -> IngestCursor {
        let newest = try await client.lastChange()
        guard let change = newest.changes.last else { return IngestCursor(sequence: max(0, newest.last)) }
        return IngestCursor(sequence: change.sequence, resource: change.id.rawValue, date: change.date)
    }

    /// Where to begin the first time: before the entries that may have been written while the pipeline was being started.
    private func recentEntry(_ firstSeenAt: Date) async throws -> IngestCursor {
        let end = try await endOfLog()
        let youngest = try await youngestAge(firstSeenAt)
        let since = max(0, end.sequence - 5000)
        let recent = try await client.changes(since: since, limit: 5000).changes
        guard let index = recent.firstIndex(where: { $0.date >= youngest }) else { return end }
        guard index > 0 else { return IngestCursor(sequence: since) }
        let before = recent[index - 1]
        return IngestCursor(sequence: before.sequence, resource: before.id.rawValue, date: before.date)
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
        try await journal.save(cursor: cursor, server: client.endpoint.name, at: Date())
        feed = ChangeFeed(cursor: cursor)
        sweep.restart(now: .now)
    }

    // MARK: First start

    /// Records what was stable and old enough when ingest was first told to follow this level: it makes no events.
    /// Whatever is younger may have arrived while the pipeline was being started, and gets its event from the first sweep.
    private func takeBaseline(_ level: ResourceLevel, firstSeenAt: Date) async throws {
        let youngest = try await youngestAge(firstSeenAt)
        var offset = 0
        var count = 0
        while true {
            let page = try await page(Sweep.Page(level: level, offset: offset))
            let old = page.filter { $0.isStable && $0.lastUpdate < youngest }
            count += old.count
            try await journal.save(
                old.map { resource in
                    IngestRecord(
                        server: client.endpoint.name, level: level, resource: resource.id.rawValue, snapshot: "",
                        lastUpdate: resource.lastUpdate,
                        origin: .baseline, recordedAt: Date()
                    )
                },
                server: client.endpoint.name, at: Date()
            )
            // Up to 1.12.4 Orthanc leaves out what was deleted while it listed: only an empty page is the end.
            if page.isEmpty { break }
            offset += configuration.sweepPageSize
        }
        logger.info(
            "what Orthanc held before the first start makes no events; START=all at the first start makes one of each",
            metadata: ["level": "\(level.rawValue)", "resources": "\(count)"]
        )
    }

    /// On Orthanc's clock: what was updated before was old at `date`, which is on ours.
    private func youngestAge(_ date: Date) async throws -> String {
        let ahead = try await orthancNow().timeIntervalSinceNow
        return OrthancTime.text(date.addingTimeInterval(ahead - minimumAge))
    }

    private func orthancNow() async throws -> Date {
        guard let now = OrthancTime.date(try await client.now()) else {
            throw OrthancError(.badResponse, server: client.endpoint.name, path: "/tools/now", message: "the answer is not a time")
        }
        return now
    }

    private var minimumAge: Double { Double(configuration.stableAge + configuration.sweepMargin) }

    // MARK: Sweep

    private struct Resource: Sendable {
        var id: OrthancID
        var isStable: Bool
        var lastUpdate: String
    }

    /// Orthanc forgets at its end what was not stable yet: such a resource never gets its entry in the change log.
    /// - Returns: whether the sweep has more to do at once.
    private mutating func sweepPage() async throws -> Bool {
        guard let last = feed?.last, let place = sweep.next(now: .now, lastSequence: last) else { return false }
        let youngest = OrthancTime.text(try await orthancNow().addingTimeInterval(-minimumAge))
        let page = try await page(place)
        let known = try await journal.marks(of: page.map(\.id.rawValue), place.level, server: client.endpoint.name)
        let filter = configuration.filter.fingerprint
        let missing = await ledger?.missing(of: Set(known.values.filter(LostEvents.isExpected).map(\.snapshot)))
        var pending = 0
        var repetitions = 0
        for resource in page {
            if let mark = known[resource.id.rawValue], mark.lastUpdate == resource.lastUpdate, mark.filter.isEmpty || mark.filter == filter
            {
                guard ledger != nil else { continue }
                switch lostEvents.judge(mark, missing: missing, now: Date()) {
                case .settled: lostEvents.settle(mark.snapshot)
                case .lost where repetitions < configuration.repetitionsPerPage:
                    repetitions += 1
                    // Until the ledger has it.
                    pending += 1
                    _ = try await deal(place.level, resource.id, cursor: nil, lost: mark)
                case .lost, .waiting: pending += 1
                }
                continue
            }
            guard resource.isStable, resource.lastUpdate < youngest else {
                pending += 1
                continue
            }
            let isDone = try await deal(place.level, resource.id, cursor: nil)
            // Whether its event reaches the ledger, the next walk sees.
            if !isDone || ledger != nil { pending += 1 }
        }
        sweep.finish(count: configuration.sweepPageSize, pending: pending, isLast: page.isEmpty, now: .now)
        return sweep.isUnderWay
    }

    private func page(_ place: Sweep.Page) async throws -> [Resource] {
        let limit = configuration.sweepPageSize
        switch place.level {
        case .series:
            return try await client.series(since: place.offset, limit: limit).map {
                Resource(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        case .study:
            return try await client.studies(since: place.offset, limit: limit).map {
                Resource(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        case .patient:
            return try await client.patients(since: place.offset, limit: limit).map {
                Resource(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        }
    }

    // MARK: Events

    /// Gives a stable resource its event unless this state of it has been dealt with.
    ///
    /// - Parameters:
    ///   - cursor: the entry of the change log that tells of it, whose number is saved together with the record.
    ///   - lost: its state whose event has to be sent again.
    /// - Returns: false when it could not be read and is left to a sweep.
    private mutating func deal(
        _ level: ResourceLevel, _ id: OrthancID, cursor change: OrthancChange?, lost: IngestJournal.Mark? = nil
    ) async throws -> Bool {
        if let failed = failedReads[id], failed.isLeftAlone(entry: change?.sequence, now: .now) {
            tell(level, id)
            if let change { feed?.finish(change) }
            return false
        }
        do {
            let snapshot = try await reader.snapshot(level, id)
            // An unstable one gets another entry when it has become stable again.
            if snapshot.isStable, let error = try await dispatch(snapshot, cursor: change, lost: lost) {
                try await giveUp(level, id, error, change)
                return false
            }
            failedReads[id] = nil
        } catch let error as OrthancError where error.code == .notFound && error.path == reader.path(of: level, id) {
            failedReads[id] = nil
            logger.info("a stable resource was deleted before its event", metadata: ["level": "\(level.rawValue)", "orthanc.id": "\(id)"])
        } catch let error as OrthancError where FailedReads.mayConcernOneResource(error) {
            try await giveUp(level, id, error, change)
            if let change { feed?.finish(change) }
            return false
        }
        return true
    }

    /// One resource that Orthanc cannot read, for example because its file is damaged, must not hold up all others,
    /// not even one that makes Orthanc hang or crash.
    private mutating func giveUp(_ level: ResourceLevel, _ id: OrthancID, _ error: OrthancError, _ change: OrthancChange?) async throws {
        var failed = failedReads[id] ?? FailedReads(limit: configuration.readAttempts, pause: configuration.sweepInterval)
        failed.fail(error, entry: change?.sequence, now: .now)
        // Counted before the question: an Orthanc that crashed over this resource cannot answer it.
        failedReads[id] = failed
        // When Orthanc as a whole is in trouble, everything waits.
        _ = try await client.system()
        guard failed.isGivenUp else { throw error }
        tell(level, id)
    }

    private mutating func tell(_ level: ResourceLevel, _ id: OrthancID) {
        guard let error = failedReads[id]?.takeUntold() else { return }
        logger.error(
            "Orthanc cannot read a resource; its event waits for a later sweep",
            metadata: ["level": "\(level.rawValue)", "orthanc.id": "\(id)", "error": "\(error)"]
        )
    }

    /// - Returns: why some of its series had to be left out; they remain for a sweep.
    private mutating func dispatch(
        _ snapshot: ResourceSnapshot, cursor change: OrthancChange?, lost: IngestJournal.Mark?
    ) async throws -> OrthancError? {
        let filter = configuration.filter
        var record = try await journal.record(of: snapshot.id.rawValue, snapshot.level, server: snapshot.server)
        var isRepetition = false
        if let known = record, snapshot.isSameState(as: known, filter) {
            guard let lost, lost.snapshot == known.snapshot else { return nil }
            // Which series it told of is not on record: this one tells of all.
            isRepetition = true
            record = nil
        }
        // Up to the last attempt, trouble that passes is waited for, so that there is one event of everything.
        let isLastAttempt = (failedReads[snapshot.id]?.count ?? 0) + 1 >= configuration.readAttempts
        var samples: [SeriesSample] = []
        for series in snapshot.changedSeries(since: record, filter) {
            samples.append(try await reader.sample(series, filter, passesOverSilence: isLastAttempt))
        }
        let error = samples.lazy.compactMap(\.error).first
        if let error, !isLastAttempt || samples.allSatisfy({ $0.error != nil }) { throw error }
        // A changed configuration that refuses the same again is nothing to tell.
        let isNews = samples.contains { sample in sample.refusal == nil || record.map { snapshot.isRecorded(sample.series, in: $0) } != true
        }
        var origin = IngestRecord.Origin.unchanged
        if isNews {
            var event = EventMaker.event(snapshot, samples, filter, follows: record, at: Date())
            // Under the same hash the router takes one of the two, should the first one turn up after all.
            if isRepetition, error == nil, let lost { event.snapshot = lost.snapshot }
            try await publisher.publish(event)
            origin = event.filtered == nil ? .event : .filtered
            log(event, change)
        }
        if let change { feed?.finish(change) }
        if isRepetition, let lost {
            lostEvents.noteRepetition(of: lost.snapshot)
            logger.warning(
                "the event was sent again: the broker had taken it, and the router's ledger does not have it",
                metadata: [
                    "level": "\(snapshot.level.rawValue)", "orthanc.id": "\(snapshot.id)", "snapshot": "\(lost.snapshot.prefix(12))",
                ]
            )
        }
        var next = snapshot.record(origin, follows: record, samples, filter, at: Date())
        if isRepetition, error == nil, let lost { next.snapshot = lost.snapshot }
        if !isNews, let record, record.origin != .baseline {
            // The latest event is still that one.
            (next.snapshot, next.origin, next.recordedAt) = (record.snapshot, record.origin, record.recordedAt)
        }
        try await journal.save([next], cursor: change == nil ? nil : feed?.cursor, server: snapshot.server, at: Date())
        return error
    }

    private func log(_ event: EventMessage, _ change: OrthancChange?) {
        var metadata: Logger.Metadata = [
            "level": "\(event.level.rawValue)", "orthanc.id": "\(event.resourceID)", "snapshot": "\(event.snapshot.prefix(12))",
            "series": "\(event.series.count)", "origin": change == nil ? "sweep" : "change-log",
        ]
        if let reason = event.filtered { metadata["filtered"] = "\(reason.code)" }
        logger.info("event published", metadata: metadata)
    }
}
