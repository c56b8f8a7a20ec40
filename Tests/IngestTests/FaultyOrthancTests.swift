import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline
import Synchronization
import Testing

@testable import Ingest

/// What Orthanc cannot give must neither hold up nor lose what it can.
@Suite(.timeLimit(.minutes(2)))
struct FaultyOrthancTests {
    private typealias Study = FakeArchive.Study

    private static func path(_ kind: String, _ number: Int) -> String { "/\(kind)/\(orthancID(number))" }

    @Test(arguments: [FakeOrthanc.Answer.silence, .hangUp, .status(500)])
    func aStudyThatOrthancCannotGiveHoldsNothingUp(answer: FakeOrthanc.Answer) async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal)
            _ = try await follower.round()
            archive.intercept { $0.hasPrefix(Self.path("studies", 1)) ? answer : nil }
            archive.store(1, Study(series: [10: [100]]))
            archive.store(2, Study(series: [20: [200]]))
            try await follower.follow { archive.events.all.count == 1 }
            #expect(archive.events.all.map(\.resourceID) == [orthancID(2).rawValue])
            #expect(follower.isFollowing)
        }
    }

    @Test func aStudyThatCrashesOrthancHoldsNothingUp() async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal)
            _ = try await follower.round()
            // Down until it has been asked twice for anything else.
            let missed = Mutex(2)
            archive.intercept { path in
                missed.withLock { missed in
                    if path.hasPrefix(Self.path("studies", 1)) {
                        missed = 0
                        return .hangUp
                    }
                    missed += 1
                    return missed <= 2 ? .hangUp : nil
                }
            }
            archive.store(1, Study(series: [10: [100]]))
            archive.store(2, Study(series: [20: [200]]))
            try await follower.follow { archive.events.all.count == 1 }
            #expect(archive.events.all.map(\.resourceID) == [orthancID(2).rawValue])
        }
    }

    @Test func aListWithHolesIsWalkedToItsEnd() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...9 {
                archive.storeSilently(number, number == 2 || number == 6 ? nil : Study(series: [number * 10: [number * 100]]))
            }
            var follower = try archive.follower(server, journal) { $0.sweepPageSize = 3 }
            try await follower.follow { archive.events.all.count == 7 }
            #expect(Set(archive.events.all.map(\.resourceID)).count == 7)
        }
    }

    @Test func theBaselineSeesAListWithHolesToItsEnd() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...9 {
                archive.storeSilently(number, number == 2 ? nil : Study(series: [number * 10: [number * 100]]))
            }
            var follower = try archive.follower(server, journal) {
                $0.sweepPageSize = 3
                $0.start = .now
            }
            try await follower.follow(for: .milliseconds(200))
            #expect(archive.events.all.isEmpty)
            for number in [1, 3, 9] {
                #expect(try await journal.record(of: orthancID(number).rawValue, .study, server: "orthanc")?.origin == .baseline)
            }
        }
    }

    @Test(arguments: [FakeOrthanc.Answer.status(500), .status(404), .silence])
    func aSeriesThatCannotBeReadDoesNotHideTheOthers(answer: FakeOrthanc.Answer) async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal) { $0.sweepInterval = .milliseconds(50) }
            _ = try await follower.round()
            archive.intercept { $0.hasPrefix(Self.path("instances", 100)) ? answer : nil }
            archive.store(1, Study(series: [10: [100], 11: [110, 111]]))
            try await follower.follow { archive.events.all.count == 1 }
            let first = archive.events.all[0]
            #expect(first.filtered == nil && first.series.map(\.id) == [orthancID(11).rawValue])
            #expect(first.refusedSeries.mapValues(\.code) == [orthancID(10).rawValue: "unreadable"])
            try await follower.follow(for: .milliseconds(300))
            #expect(archive.events.all.count == 1 && follower.isFollowing)
            let source = try #require(try await IngestJournal.readOnly(at: archive.folder).sources().first)
            #expect(source.error?.code == "unreadable" && source.error?.text.contains(" 1 ") == true)

            archive.intercept(nil)
            try await follower.follow { archive.events.all.count == 2 }
            let second = archive.events.all[1]
            #expect(second.series.map(\.id) == [orthancID(10).rawValue] && second.refusedSeries.isEmpty)
            #expect(second.snapshot != first.snapshot && second.follows == first.snapshot)
            try await follower.follow(for: .milliseconds(300))
            #expect(archive.events.all.count == 2)
        }
    }

    @Test func oneUnreadableInstanceOfASeriesIsPassedOver() async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal)
            _ = try await follower.round()
            archive.intercept { $0.hasPrefix(Self.path("instances", 100)) ? .status(404) : nil }
            archive.store(1, Study(series: [10: [100, 101, 102]]))
            try await follower.follow { archive.events.all.count == 1 }
            #expect(archive.events.all[0].series.map(\.instances) == [3] && archive.events.all[0].refusedSeries.isEmpty)
        }
    }

    @Test func troubleThatPassesCostsNoSeries() async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal)
            _ = try await follower.round()
            let failures = Mutex(1)
            archive.intercept { path in
                guard path.hasPrefix(Self.path("instances", 100)) else { return nil }
                return failures.withLock { left in
                    left -= 1
                    return left < 0 ? nil : .status(500)
                }
            }
            archive.store(1, Study(series: [10: [100], 11: [110]]))
            try await follower.follow { archive.events.all.count == 1 }
            #expect(archive.events.all[0].series.count == 2)
        }
    }

    @Test func whatAnotherConfigurationAcceptsIsTakenBack() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.store(1, Study(series: [10: [100], 11: [110]], modalities: [11: "MR"]))
            archive.store(2, Study(series: [20: [200]], modalities: [20: "MR"]))
            var strict = try archive.follower(server, journal) { $0.filter.modalities = ["CT"] }
            try await strict.follow { archive.events.all.count == 2 }
            try await strict.follow(for: .milliseconds(200))
            #expect(archive.events.all.count == 2)
            let first = try #require(archive.events.all.first { $0.resourceID == orthancID(1).rawValue })
            #expect(first.series.map(\.id) == [orthancID(10).rawValue])

            // Another configuration with the same outcome is nothing to tell.
            var other = try archive.follower(server, journal) { $0.filter.modalities = ["CT", "US"] }
            try await other.follow(for: .milliseconds(200))
            #expect(archive.events.all.count == 2)

            var wide = try archive.follower(server, journal) { $0.filter.modalities = ["CT", "MR"] }
            try await wide.follow { archive.events.all.count == 4 }
            try await wide.follow(for: .milliseconds(200))
            #expect(archive.events.all.count == 4 && Set(archive.events.all.map(\.snapshot)).count == 4)
            let later = archive.events.all.dropFirst(2)
            #expect(later.allSatisfy { $0.filtered == nil && $0.follows != nil })
            #expect(Set(later.flatMap(\.series).map(\.id)) == [orthancID(11).rawValue, orthancID(20).rawValue])
        }
    }
}
