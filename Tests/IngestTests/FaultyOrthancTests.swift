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
}
