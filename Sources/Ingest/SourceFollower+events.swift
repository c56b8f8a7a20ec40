import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Pipeline

extension SourceFollower {
    /// Why a resource is looked at.
    enum Occasion: Sendable {
        /// An entry of the change log tells of it. Its number is saved together with the record.
        case change(OrthancChange)
        case sweep
        /// The event of this state has to be sent again.
        case lost(IngestJournal.Mark)
        /// Somebody asks for it; with a name, for one more event of a state that has had its own.
        case submission(replay: String?)

        var change: OrthancChange? {
            if case .change(let change) = self { change } else { nil }
        }

        var replay: String? {
            if case .submission(let replay) = self { replay } else { nil }
        }
    }

    /// Gives a stable resource its event unless this state of it has been dealt with.
    ///
    /// - Returns: false when it could not be read and is left to a sweep.
    mutating func deal(_ level: ResourceLevel, _ id: OrthancID, _ occasion: Occasion) async throws -> Bool {
        let change = occasion.change
        if let failed = failedReads[id], failed.isLeftAlone(entry: change?.sequence, now: .now) {
            tell(level, id)
            if let change { feed?.finish(change) }
            return false
        }
        do {
            let snapshot = try await reader.snapshot(level, id)
            // An unstable one gets another entry when it has become stable again.
            if snapshot.isStable, let error = try await dispatch(snapshot, occasion).error {
                try await giveUp(level, id, error, change)
                return false
            }
            failedReads[id] = nil
        } catch let error as OrthancError where error.code == .notFound && error.path == reader.path(of: level, id) {
            failedReads[id] = nil
            try await journal.settle(id.rawValue, level, server: name)
            logger.info("a stable resource was deleted before its event", metadata: ["level": "\(level.rawValue)", "orthanc.id": "\(id)"])
        } catch let error as OrthancError where FailedReads.mayConcernOneResource(error) {
            try await giveUp(level, id, error, change)
            if let change { feed?.finish(change) }
            return false
        } catch let error as AMQPError {
            // Said once for each time that it is tried.
            try await journal.notePending([pending(level, id, SourceStatus.judge(error).1)])
            throw error
        }
        return true
    }

    /// Gives a resource its event because somebody asks for it. The same order of steps, without the patience: whoever asks may ask again.
    ///
    /// - Throws: `CancellationError` alone.
    mutating func submit(_ level: ResourceLevel, _ id: OrthancID, replay: String?) async throws -> Submission {
        do {
            let snapshot = try await reader.snapshot(level, id)
            guard snapshot.isStable else { return .unstable }
            return try await dispatch(snapshot, .submission(replay: replay)).submission
        } catch let error as OrthancError where error.code == .notFound && error.path == reader.path(of: level, id) {
            return .notFound
        } catch let error as CancellationError {
            mailbox.close()
            throw error
        } catch {
            return .failed(SourceStatus.judge(error).1)
        }
    }

    // MARK: What Orthanc cannot give

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
        try await journal.notePending([pending(level, id, Reason("unreadable", "Orthanc cannot read it; it is tried again. \(error)"))])
    }

    private mutating func tell(_ level: ResourceLevel, _ id: OrthancID) {
        guard let error = failedReads[id]?.takeUntold() else { return }
        logger.error(
            "Orthanc cannot read a resource; its event waits for a later sweep",
            metadata: ["level": "\(level.rawValue)", "orthanc.id": "\(id)", "error": "\(error)"]
        )
    }

    // MARK: Dispatch

    private struct Dispatch {
        var submission: Submission
        /// Why some of its series had to be left out; they remain for a sweep.
        var error: OrthancError?
    }

    /// What is told of a resource: how its event differs from the one before.
    private struct Telling {
        /// What the journal knows and the new event need not repeat; nil: everything is told.
        var base: IngestRecord?
        /// The snapshot before.
        var follows: String?
        /// The resource's record, whatever is made of it.
        var known: IngestRecord?
    }

    private mutating func dispatch(_ snapshot: ResourceSnapshot, _ occasion: Occasion) async throws -> Dispatch {
        let known = try await journal.record(of: snapshot.id.rawValue, snapshot.level, server: name)
        guard var telling = telling(snapshot, known, occasion) else {
            try await journal.settle(snapshot.id.rawValue, snapshot.level, server: name)
            return Dispatch(submission: known.map(Submission.init(known:)) ?? .known(snapshot: snapshot.hash))
        }
        if isIgnored(snapshot, known, occasion) {
            try await ignore(snapshot, telling, occasion)
            return Dispatch(submission: .known(snapshot: known?.snapshot ?? ""))
        }
        // It has grown before its lost event was sent again: nobody would ever tell what that one told.
        if let base = telling.base, await isLost(base) { telling.base = nil }
        let samples = try await samples(of: snapshot, telling, occasion)
        return try await tell(snapshot, telling, samples, occasion)
    }

    private func isLost(_ record: IngestRecord) async -> Bool {
        let mark = IngestJournal.Mark(
            lastUpdate: record.lastUpdate, snapshot: record.snapshot, origin: record.origin, filter: record.filter,
            recordedAt: record.recordedAt)
        guard let ledger, LostEvents.isExpected(mark) else { return false }
        return lostEvents.judge(mark, missing: await ledger.missing(of: [mark.snapshot]), now: Date()) == .lost
    }

    /// - Returns: nil when this state has been dealt with.
    private func telling(_ snapshot: ResourceSnapshot, _ known: IngestRecord?, _ occasion: Occasion) -> Telling? {
        let isKnown = known.map { snapshot.isSameState(as: $0, configuration.filter) } ?? false
        let growth = Telling(base: known, follows: known.flatMap { $0.snapshot.isEmpty ? nil : $0.snapshot }, known: known)
        switch occasion {
        case .change, .sweep:
            return isKnown ? nil : growth
        case .lost(let mark):
            guard isKnown else { return growth }
            // Which series it told of is not on record: this one tells of all.
            return mark.snapshot == known?.snapshot ? Telling(known: known) : nil
        case .submission(let replay):
            if replay != nil { return Telling(follows: growth.follows, known: known) }
            // What ingest passed over on its own never had an event of this state.
            guard let known, [.event, .filtered].contains(known.origin) else { return Telling(follows: growth.follows, known: known) }
            return isKnown ? nil : growth
        }
    }

    /// What grew after its event, where the configuration wants one event of each resource. What could not be read then still comes.
    private func isIgnored(_ snapshot: ResourceSnapshot, _ known: IngestRecord?, _ occasion: Occasion) -> Bool {
        guard configuration.repeats == .ignore, let known, [.event, .ignored].contains(known.origin), !known.lastUpdate.isEmpty else {
            return false
        }
        switch occasion {
        case .change, .sweep: return snapshot.lastUpdate != known.lastUpdate
        case .lost, .submission: return false
        }
    }

    private mutating func ignore(_ snapshot: ResourceSnapshot, _ telling: Telling, _ occasion: Occasion) async throws {
        // All of this state counts as dealt with, but for what was refused before: another configuration may take it.
        var record = snapshot.record(.ignored, follows: nil, [], configuration.filter, at: Date())
        if let known = telling.known {
            for series in snapshot.series where snapshot.isRecorded(series, in: known) {
                record.series[series.id.rawValue] = known.series[series.id.rawValue]
            }
            if record.series.values.contains(where: { $0.contains("/") }) { record.filter = known.filter }
            record.recordedAt = known.recordedAt
        }
        record.snapshot = telling.follows ?? ""
        try await save(record, occasion)
        logger.info(
            "late images make no event (REPEAT=ignore)",
            metadata: ["level": "\(snapshot.level.rawValue)", "orthanc.id": "\(snapshot.id)"])
    }

    private func samples(of snapshot: ResourceSnapshot, _ telling: Telling, _ occasion: Occasion) async throws -> [SeriesSample] {
        let filter = configuration.filter
        // Up to the last attempt, trouble that passes is waited for, so that there is one event of everything.
        let isLastAttempt = (failedReads[snapshot.id]?.count ?? 0) + 1 >= configuration.readAttempts
        let changed = snapshot.changedSeries(since: telling.base, filter)
        var samples: [SeriesSample] = []
        for series in changed {
            samples.append(try await reader.sample(series, filter, passesOverSilence: isLastAttempt))
        }
        // With REPEAT=all too, results of this system alone are no reason to tell of the images again: that would never end.
        if configuration.repeats == .all, !samples.allSatisfy({ $0.refusal == IngestFilter.ownResult }) {
            for series in snapshot.series where !changed.contains(series) {
                samples.append(try await reader.sample(series, filter, passesOverSilence: isLastAttempt))
            }
        }
        if let error = samples.lazy.compactMap(\.error).first, !isLastAttempt || samples.allSatisfy({ $0.error != nil }) { throw error }
        return samples
    }

    private mutating func tell(
        _ snapshot: ResourceSnapshot, _ telling: Telling, _ samples: [SeriesSample], _ occasion: Occasion
    ) async throws -> Dispatch {
        let filter = configuration.filter
        let error = samples.lazy.compactMap(\.error).first
        var event = EventMaker.event(snapshot, samples, filter, follows: telling.follows, at: Date())
        if let replay = occasion.replay {
            event.snapshot = ResourceSnapshot.hash(replaying: event.snapshot, name: replay)
            if let known = telling.known, known.snapshot == event.snapshot { return Dispatch(submission: Submission(known: known)) }
        } else if case .lost(let mark) = occasion, telling.base == nil, error == nil {
            // Under the same hash the router takes one of the two, should the first one turn up after all.
            event.snapshot = mark.snapshot
        }
        var next = snapshot.record(.unchanged, follows: telling.base, samples, filter, at: Date())
        // A changed configuration that refuses the same again is nothing to tell.
        let isNews = samples.contains { sample in
            sample.refusal == nil || telling.base.map { snapshot.isRecorded(sample.series, in: $0) } != true
        }
        if isNews {
            try FaultPoint.check(.ingestEventMade)
            try await publisher.publish(event)
            try FaultPoint.check(.ingestEventConfirmed)
            log(event, occasion)
            next.snapshot = event.snapshot
            (next.origin, next.reason) = Self.standing(of: event, after: telling.base)
        } else if let known = telling.known, known.origin != .baseline {
            // The latest event is still that one.
            (next.snapshot, next.origin, next.reason, next.recordedAt) = (known.snapshot, known.origin, known.reason, known.recordedAt)
        }
        try await save(next, occasion)
        try FaultPoint.check(.ingestEventRecorded)
        guard isNews else { return Dispatch(submission: Submission(known: next), error: error) }
        return Dispatch(submission: event.filtered.map(Submission.filtered) ?? .dispatched(snapshot: event.snapshot), error: error)
    }

    /// What is to be said of the resource as a whole. When all that has come to it was refused, what was said of its other series stands.
    private static func standing(of event: EventMessage, after base: IngestRecord?) -> (IngestRecord.Origin, Reason?) {
        guard let refusal = event.filtered else { return (.event, nil) }
        switch base?.origin {
        case .event: return (.event, nil)
        case .ignored: return (.ignored, nil)
        case .baseline, .unchanged: return (.unchanged, nil)
        case .filtered where refusal == IngestFilter.ownResult: return (.filtered, base?.reason)
        case .filtered, nil: return (.filtered, refusal)
        }
    }

    private mutating func save(_ record: IngestRecord, _ occasion: Occasion) async throws {
        if let change = occasion.change { feed?.finish(change) }
        try await journal.save([record], cursor: occasion.change == nil ? nil : feed?.cursor, server: name, at: Date())
    }

    private mutating func log(_ event: EventMessage, _ occasion: Occasion) {
        var metadata: Logger.Metadata = [
            "level": "\(event.level.rawValue)", "orthanc.id": "\(event.resourceID)", "snapshot": "\(event.snapshot.prefix(12))",
            "series": "\(event.series.count)",
        ]
        if let reason = event.filtered { metadata["filtered"] = "\(reason.code)" }
        switch occasion {
        case .change: metadata["origin"] = "change-log"
        case .sweep: metadata["origin"] = "sweep"
        case .submission: metadata["origin"] = "submission"
        case .lost(let mark):
            metadata["origin"] = "sweep"
            guard mark.snapshot == event.snapshot else { break }
            lostEvents.noteRepetition(of: mark.snapshot)
            logger.warning(
                "the event was sent again: the broker had taken it, and the router's ledger does not have it", metadata: metadata)
            return
        }
        logger.info("event published", metadata: metadata)
    }
}

extension Submission {
    /// What is said of a state that has been dealt with.
    init(known record: IngestRecord) {
        self = record.reason.map(Self.filtered) ?? .known(snapshot: record.snapshot)
    }
}
