import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline
import Testing

@testable import Ingest

@Suite(.timeLimit(.minutes(2)))
struct LostEventsTests {
    private let now = Date(timeIntervalSince1970: 1_800_000_000)

    private func mark(_ origin: IngestRecord.Origin = .event, age: Double = 60) -> IngestJournal.Mark {
        IngestJournal.Mark(
            lastUpdate: "20260101T000000", snapshot: origin == .baseline ? "" : "x", origin: origin, filter: "",
            recordedAt: now.addingTimeInterval(-age))
    }

    @Test func onlyAnEventThatIsMissingForLongIsLost() {
        let events = LostEvents(patience: 120)
        #expect(events.judge(mark(age: 121), missing: ["x"], now: now) == .lost)
        #expect(events.judge(mark(.filtered, age: 121), missing: ["x"], now: now) == .lost)
        #expect(events.judge(mark(age: 119), missing: ["x"], now: now) == .waiting)
        #expect(events.judge(mark(age: 9999), missing: [], now: now) == .settled)
        #expect(events.judge(mark(age: 9999), missing: nil, now: now) == .waiting)
        #expect(events.judge(mark(.baseline, age: 9999), missing: nil, now: now) == .settled)
    }

    @Test func repetitionsBecomeRare() {
        var events = LostEvents(patience: 120)
        events.noteRepetition(of: "x")
        #expect(events.judge(mark(age: 239), missing: ["x"], now: now) == .waiting)
        #expect(events.judge(mark(age: 241), missing: ["x"], now: now) == .lost)
        events.settle("x")
        #expect(events.judge(mark(age: 121), missing: ["x"], now: now) == .lost)
    }

    private func follow(
        _ archive: FakeArchive, _ server: FakeOrthanc, _ journal: IngestJournal, until count: Int, repetitions: Int = 25
    ) async throws -> SourceFollower {
        var follower = try archive.follower(server, journal, ledger: LedgerEventLookup(folder: archive.folder)) {
            $0.sweepInterval = .milliseconds(20)
            $0.ledgerPatience = 0.3
            $0.repetitionsPerPage = repetitions
        }
        try await follower.follow { archive.events.all.count == count }
        return follower
    }

    @Test func whatNeverReachedTheLedgerIsSentAgainUnderTheSameSnapshot() async throws {
        try await FakeArchive.with { archive, server, journal in
            let ledger = try Ledger(folder: archive.folder)
            archive.store(1, FakeArchive.Study(series: [10: [100], 11: [110]]))
            archive.store(2, FakeArchive.Study(series: [20: [200]]))
            var follower = try await follow(archive, server, journal, until: 2)
            let kept = try #require(archive.events.all.first { $0.resourceID == orthancID(2).rawValue })
            _ = try await ledger.write { try $0.recordEvent(kept, at: Date()).isNew }
            try await follower.follow { archive.events.all.count == 3 }
            let (first, again) = (
                archive.events.all.first { $0.resourceID == orthancID(1).rawValue }, try #require(archive.events.all.last)
            )
            #expect(again.snapshot == first?.snapshot && again.resourceID == orthancID(1).rawValue)
            #expect(Set(again.series.map(\.id)) == [orthancID(10).rawValue, orthancID(11).rawValue])

            _ = try await ledger.write { try $0.recordEvent(again, at: Date()).isNew }
            try await follower.follow(for: .seconds(1))
            #expect(archive.events.all.count == 3)
        }
    }

    /// The record is the later event's by then, and nobody would miss the first one.
    @Test(arguments: [true, false]) func whatGrowsBeforeItsLostEventIsSentAgainIsToldWhole(isLost: Bool) async throws {
        try await FakeArchive.with { archive, server, journal in
            let ledger = try Ledger(folder: archive.folder)
            var follower = try archive.follower(server, journal, ledger: LedgerEventLookup(folder: archive.folder)) {
                $0.ledgerPatience = 0
            }
            // The sweep of the start; there is no other one.
            try await follower.follow(for: .milliseconds(50))
            archive.store(1, FakeArchive.Study(series: [10: [100]]))
            try await follower.follow { archive.events.all.count == 1 }
            if !isLost {
                let first = try #require(archive.events.all.first)
                _ = try await ledger.write { try $0.recordEvent(first, at: Date()).isNew }
            }
            archive.store(1, FakeArchive.Study(series: [10: [100], 11: [110]]))
            try await follower.follow { archive.events.all.count == 2 }
            let told = Set(archive.events.all[1].series.map(\.id))
            #expect(told == (isLost ? [orthancID(10).rawValue, orthancID(11).rawValue] : [orthancID(11).rawValue]))
        }
    }

    @Test func withoutALedgerNothingIsSentAgain() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.store(1, FakeArchive.Study(series: [10: [100]]))
            var follower = try await follow(archive, server, journal, until: 1)
            try await follower.follow(for: .seconds(1))
            #expect(archive.events.all.count == 1)
        }
    }
}
