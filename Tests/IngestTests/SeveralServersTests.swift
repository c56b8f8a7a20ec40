import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline
import Stack
import Testing

@testable import Ingest

@Suite(.timeLimit(.minutes(2)))
struct SeveralServersTests {
    private typealias Study = FakeArchive.Study

    @Test(arguments: [FakeOrthanc.Answer.silence, .status(401), .hangUp])
    func oneThatIsBrokenHoldsUpNoOther(answer: FakeOrthanc.Answer) async throws {
        try await FakeArchive.with { broken, brokenServer, journal in
            try await FakeArchive.with { good, goodServer, _ in
                broken.intercept { _ in answer }
                // The same study in both: two servers, two events.
                good.store(1, Study(series: [10: [100]]))
                broken.store(1, Study(series: [10: [100]]))
                try await broken.followed(brokenServer, journal, name: "ct") { _ in
                    try await good.followed(goodServer, journal, name: "mr") { followed in
                        try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "no event")) {
                            good.events.all.isEmpty || !followed.isFollowing ? nil : true
                        }
                        #expect(good.events.all.map(\.server) == ["mr"] && broken.events.all.isEmpty)
                        // Its own row, and no secret in it.
                        let reader = IngestJournal.readOnly(at: broken.folder)
                        let states = try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "no state")) {
                            let sources = try await reader.sources()
                            return sources.contains { $0.server == "ct" && $0.state == .unavailable } ? sources : nil
                        }
                        #expect(states.map(\.server) == ["ct", "mr"] && states.last?.state == .following)

                        broken.intercept(nil)
                        try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "no event after the repair")) {
                            broken.events.all.isEmpty ? nil : true
                        }
                        #expect(broken.events.all.map(\.server) == ["ct"])
                        #expect(broken.events.all.first?.snapshot != good.events.all.first?.snapshot)
                        for name in ["ct", "mr"] { #expect(try await journal.cursor(of: name) != nil) }
                    }
                }
            }
        }
    }
}

/// The shapes of `/system` from 1.10 to 1.13.
@Suite(.timeLimit(.minutes(2)))
struct OrthancVersionTests {
    private static let plain = [
        #"{"ApiVersion":15,"Name":"a","Version":"1.10.1","DicomAet":"ORTHANC","DatabaseVersion":6}"#,
        #"{"ApiVersion":24,"Name":"a","Version":"1.12.4","DatabaseServerIdentifier":"x","OverwriteInstances":false}"#,
        // PostgreSQL before 7.0.
        #"{"ApiVersion":26,"Name":"a","Version":"1.12.6","Capabilities":{"HasExtendedFind":true}}"#,
    ]
    private static let extended = [
        #"{"ApiVersion":25,"Name":"a","Version":"1.12.5","Capabilities":{"HasExtendedChanges":true,"HasExtendedFind":true}}"#,
        #"{"ApiVersion":31,"Name":"a","Version":"1.13.0","Capabilities":{"HasExtendedChanges":true,"HasQueues":true}}"#,
    ]

    private func follow(_ system: String) async throws -> [String] {
        var paths: [String] = []
        try await FakeArchive.with { archive, server, journal in
            archive.answerSystem(system)
            var follower = try archive.follower(server, journal)
            _ = try await follower.round()
            for _ in 0..<20 { archive.storeOtherChange() }
            archive.store(1, FakeArchive.Study(series: [10: [100]]))
            for _ in 0..<20 { archive.storeOtherChange() }
            try await follower.follow { archive.events.all.count == 1 }
            for _ in 0..<10 { _ = try await follower.round() }
            archive.store(2, FakeArchive.Study(series: [20: [200]]))
            try await follower.follow { archive.events.all.count == 2 }
            #expect(archive.events.all.map(\.resourceID) == [orthancID(1).rawValue, orthancID(2).rawValue])
            let source = try #require(try await IngestJournal.readOnly(at: archive.folder).sources().first)
            #expect(source.state == .following && source.lastSequence >= 41 && source.error == nil)
            paths = server.paths.filter { $0.hasPrefix("/changes?since") }
        }
        return paths
    }

    @Test(arguments: plain) func olderOnesAreReadWhole(system: String) async throws {
        let paths = try await follow(system)
        #expect(!paths.isEmpty && paths.allSatisfy { !$0.contains("type=") })
    }

    @Test(arguments: extended) func newerOnesLeaveOutWhatNobodyAskedFor(system: String) async throws {
        let paths = try await follow(system)
        // The very first look, for where to begin, is at everything.
        #expect(paths.dropFirst().allSatisfy { $0.hasSuffix("&type=StableStudy") } && paths.count > 3)
    }

    @Test func anotherReleaseIsAskedAgainWhatItCan() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.answerSystem(Self.extended[0])
            var follower = try archive.follower(server, journal)
            archive.store(1, FakeArchive.Study(series: [10: [100]]))
            try await follower.follow { archive.events.all.count == 1 }
            archive.answerSystem(Self.plain[0])
            archive.store(2, FakeArchive.Study(series: [20: [200]]))
            try await follower.follow { archive.events.all.count == 2 }
        }
    }
}
