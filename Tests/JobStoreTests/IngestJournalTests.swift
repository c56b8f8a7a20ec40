import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

struct IngestJournalTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "journal-\(UUID().uuidString)", directoryHint: .isDirectory)
    private let start = Date(timeIntervalSince1970: 1_700_000_000)

    private func record(_ resource: String, _ snapshot: String, lastUpdate: String = "20260101T000000") -> IngestRecord {
        IngestRecord(
            server: "a", level: .study, resource: resource, snapshot: snapshot, lastUpdate: lastUpdate, origin: .event,
            series: ["s1": "h1", "s2": "h2"], filter: "f", recordedAt: start
        )
    }

    @Test func remembersAcrossOpenings() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        do {
            let journal = try IngestJournal(folder: folder)
            #expect(try await journal.cursor(of: "a") == nil)
            try await journal.save(
                [record("r1", "x")], cursor: IngestCursor(sequence: 7, resource: "r1", date: "d"), server: "a", at: start)
        }
        let journal = try IngestJournal(folder: folder)
        #expect(try await journal.cursor(of: "a") == IngestCursor(sequence: 7, resource: "r1", date: "d"))
        #expect(try await journal.cursor(of: "b") == nil)
        #expect(try await journal.record(of: "r1", .study, server: "a") == record("r1", "x"))
        #expect(try await journal.record(of: "r1", .series, server: "a") == nil)
        #expect(try await journal.record(of: "r1", .study, server: "b") == nil)
    }

    @Test func theLatestRecordOfAResourceCounts() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let journal = try IngestJournal(folder: folder)
        try await journal.save([record("r1", "x"), record("r2", "y")], server: "a", at: start)
        try await journal.save([record("r1", "z", lastUpdate: "20260102T000000")], server: "a", at: start)
        #expect(try await journal.record(of: "r1", .study, server: "a")?.snapshot == "z")
        #expect(
            try await journal.marks(of: ["r1", "r2", "r3"], .study, server: "a").mapValues(\.lastUpdate)
                == ["r1": "20260102T000000", "r2": "20260101T000000"]
        )
        #expect(try await journal.marks(of: [], .study, server: "a") == [:])
    }

    @Test func theFirstSightOfALevelStays() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let journal = try IngestJournal(folder: folder)
        let first = try await journal.register(.study, server: "a", at: start)
        #expect(first.firstSeenAt == start && !first.isBaselined)
        try await journal.markBaselined(.study, server: "a")
        let second = try await journal.register(.study, server: "a", at: start.addingTimeInterval(60))
        #expect(second.firstSeenAt == start && second.isBaselined)
        let other = try await journal.register(.series, server: "a", at: start.addingTimeInterval(60))
        #expect(other.firstSeenAt == start.addingTimeInterval(60) && !other.isBaselined)
    }

    @Test func anotherProcessSeesTheSources() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let reader = IngestJournal.readOnly(at: folder)
        #expect(try await reader.sources() == [])
        let journal = try IngestJournal(folder: folder)
        _ = try await journal.register(.study, server: "a", at: start)
        #expect(try await reader.sources() == [IngestSource(server: "a", checkedAt: start)])
        let source = IngestSource(
            server: "a", state: .unavailable, lastSequence: 90, cursorSequence: 70, checkedAt: start, error: Reason("unauthorized", "Why.")
        )
        try await journal.report(source)
        #expect(try await reader.sources() == [source])
        #expect(source.lag == 20)
    }
}

struct LedgerEventLookupTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "lookup-\(UUID().uuidString)", directoryHint: .isDirectory)
    private let now = Date(timeIntervalSince1970: 1_700_000_000)

    private func record(_ snapshot: String, in ledger: Ledger) async throws {
        let event = EventMessage(
            server: "a", level: .study, resourceID: "r", snapshot: snapshot, observedAt: now, series: [], headers: [:])
        _ = try await ledger.write { [now] in try $0.recordEvent(event, at: now).isNew }
    }

    @Test func tellsWhatTheLedgerLacks() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let ledger = try Ledger(folder: folder)
        try await record("x", in: ledger)
        let lookup = LedgerEventLookup(folder: folder)
        #expect(await lookup.missing(of: ["x", "y"]) == ["y"])
        try await record("y", in: ledger)
        #expect(await lookup.missing(of: ["x", "y"]) == [])
        #expect(await lookup.missing(of: []) == [])
    }

    @Test func withoutALedgerNothingIsSaid() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let lookup = LedgerEventLookup(folder: folder)
        #expect(await lookup.missing(of: ["x"]) == nil)
        try Data("not a database".utf8).write(to: folder.appending(path: "ledger.sqlite"))
        #expect(await lookup.missing(of: ["x"]) == nil)
        #expect(try Data(contentsOf: folder.appending(path: "ledger.sqlite")) == Data("not a database".utf8))
    }
}
