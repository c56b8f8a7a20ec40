import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Orthanc

extension SourceFollower {
    /// Orthanc forgets at its end what was not stable yet: such a resource never gets its entry in the change log.
    /// - Returns: whether the sweep has more to do at once.
    mutating func sweepPage() async throws -> Bool {
        guard let last = feed?.last, let place = sweep.next(now: .now, lastSequence: last) else { return false }
        if place.offset == 0 { listing = ListedResources(startedAt: Date()) }
        let youngest = OrthancTime.text(try await orthancNow().addingTimeInterval(-minimumAge))
        let page = try await client.summaries(place.level, since: place.offset, limit: configuration.sweepPageSize)
        for resource in page { listing.insert(resource.id) }
        let pending = try await compare(page, place.level, youngest: youngest)
        if page.isEmpty { try await finishLevel(place.level) }
        try FaultPoint.check(.ingestSweepPage)
        sweep.finish(count: configuration.sweepPageSize, pending: pending, isLast: page.isEmpty, now: .now)
        return sweep.isUnderWay
    }

    /// - Returns: how many of the resources the next sweep has to look at again.
    private mutating func compare(_ page: [ResourceSummary], _ level: ResourceLevel, youngest: String) async throws -> Int {
        let known = try await journal.marks(of: page.map(\.id.rawValue), level, server: name)
        let filter = configuration.filter.fingerprint
        let missing = await ledger?.missing(of: Set(known.values.filter(LostEvents.isExpected).map(\.snapshot)))
        var pending = 0
        var waiting: [IngestPending] = []
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
                    _ = try await deal(level, resource.id, .lost(mark))
                case .lost, .waiting: pending += 1
                }
                continue
            }
            guard resource.isStable, resource.lastUpdate < youngest else {
                pending += 1
                waiting.append(self.pending(level, resource.id, resource.isStable ? .settling : .unstable))
                continue
            }
            let isDone = try await deal(level, resource.id, .sweep)
            // Whether its event reaches the ledger, the next walk sees.
            if !isDone || ledger != nil { pending += 1 }
            try await serveRequest()
        }
        try await journal.notePending(waiting)
        return pending
    }

    func pending(_ level: ResourceLevel, _ id: OrthancID, _ reason: Reason) -> IngestPending {
        IngestPending(server: name, level: level, resource: id.rawValue, since: Date(), reason: reason)
    }

    /// All pages of a level have been seen: what the journal has and Orthanc has not is gone.
    private mutating func finishLevel(_ level: ResourceLevel) async throws {
        let now = Date()
        var last = ""
        while true {
            let entries = try await journal.entries(level, server: name, after: last, limit: configuration.pageSize)
            guard let end = entries.last?.resource else { break }
            last = end
            // What was noted since the sweep began may stand on a page that had been read by then.
            let gone = entries.filter { $0.goneSince == nil && $0.notedAt < listing.startedAt && !listing.contains($0.resource) }
                .map(\.resource)
            // Nobody needs to hear any more that Orthanc could not give it.
            for id in gone.compactMap({ OrthancID(rawValue: $0) }) { failedReads[id] = nil }
            try await journal.mark(
                gone: gone,
                returned: entries.filter { $0.goneSince != nil && listing.contains($0.resource) }.map(\.resource),
                level, server: name, at: now
            )
        }
        // What was listed is kept until the next walk: when what follows fails, all of this is done once more.
        try await journal.finishSweep(level, server: name, listed: listing.count, at: now)
        try await forgetGone(level, now: now)
    }

    /// Records of what was deleted long ago go too, but never by a list alone: Orthanc must say of each that it has no such resource.
    private mutating func forgetGone(_ level: ResourceLevel, now: Date) async throws {
        let cutoff = now.addingTimeInterval(-configuration.forgetAfter)
        let resources = try await journal.goneResources(level, server: name, before: cutoff, limit: configuration.forgottenPerSweep)
        for resource in resources {
            guard let id = OrthancID(rawValue: resource), failedReads[id] == nil else { continue }
            do {
                if try await reader.exists(level, id) {
                    try await journal.mark(gone: [], returned: [resource], level, server: name, at: now)
                } else {
                    try await journal.remove(resource, level, server: name)
                }
            } catch let error as OrthancError where FailedReads.mayConcernOneResource(error) {
                // Orthanc does not say that it lacks it: the record stays.
            }
        }
    }
}

extension Reason {
    fileprivate static let unstable = Reason("unstable", "Instances are still arriving.")
    fileprivate static let settling = Reason(
        "settling", "Its last instance is younger than the stable age and a margin: Orthanc may tell of it at any moment.")
}
