import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Orthanc

extension SourceFollower {
    /// Where to go on in the change log; at the first start, where to begin.
    mutating func openFeed() async throws -> ChangeFeed {
        if let feed { return feed }
        var levels: [ResourceLevel: IngestJournal.Level] = [:]
        for level in configuration.levels {
            levels[level] = try await journal.register(level, server: name, at: Date())
        }
        let system = try await client.system()
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
            try FaultPoint.check(.ingestBaselineTaken)
        }
        try await journal.save(cursor: start, server: name, at: Date())
        logger.info(
            "following Orthanc's change log",
            metadata: [
                "orthanc.version": "\(system.version)", "cursor": "\(start.sequence)",
                "levels": "\(configuration.levels.map(\.rawValue).joined(separator: " "))", "filter": "\(system.filtersChanges)",
            ]
        )
        let kinds = configuration.levels.map(OrthancChange.Kind.init(stable:))
        let feed = ChangeFeed(cursor: start, kinds: system.filtersChanges ? kinds : [])
        self.feed = feed
        return feed
    }

    func endOfLog() async throws -> IngestCursor {
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

    /// Records what was stable and old enough when ingest was first told to follow this level: it makes no events.
    /// Whatever is younger may have arrived while the pipeline was being started, and gets its event from the first sweep.
    private func takeBaseline(_ level: ResourceLevel, firstSeenAt: Date) async throws {
        let youngest = try await youngestAge(firstSeenAt)
        var offset = 0
        var count = 0
        while true {
            let page = try await client.summaries(level, since: offset, limit: configuration.sweepPageSize)
            // Somebody may have submitted one before this level was followed.
            let known = try await journal.marks(of: page.map(\.id.rawValue), level, server: name)
            let old = page.filter { $0.isStable && $0.lastUpdate < youngest && known[$0.id.rawValue] == nil }
            count += old.count
            try await journal.save(
                old.map { resource in
                    IngestRecord(
                        server: name, level: level, resource: resource.id.rawValue, snapshot: "", lastUpdate: resource.lastUpdate,
                        origin: .baseline, recordedAt: Date()
                    )
                },
                server: name, at: Date()
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

    func orthancNow() async throws -> Date {
        guard let now = OrthancTime.date(try await client.now()) else {
            throw OrthancError(.badResponse, server: name, path: "/tools/now", message: "the answer is not a time")
        }
        return now
    }

    var minimumAge: Double { Double(configuration.stableAge + configuration.sweepMargin) }
}

extension OrthancChange.Kind {
    /// The kind that tells of a level becoming stable.
    init(stable level: ResourceLevel) {
        self =
            switch level {
            case .series: .stableSeries
            case .study: .stableStudy
            case .patient: .stablePatient
            }
    }
}
