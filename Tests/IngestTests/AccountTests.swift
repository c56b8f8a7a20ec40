import AMQP
import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline
import Stack
import Testing

@testable import Ingest

/// received = dispatched + filtered + pending, and what Orthanc no longer has is not kept for ever.
@Suite(.timeLimit(.minutes(2)))
struct AccountTests {
    private typealias Study = FakeArchive.Study

    private func account(_ archive: FakeArchive) async throws -> IngestAccount {
        try #require(try await IngestJournal.readOnly(at: archive.folder).accounts().first)
    }

    @Test func whatOrthancListsIsWhatTheJournalAccountsFor() async throws {
        try await FakeArchive.with { archive, server, journal in
            let now = OrthancTime.text(Date())
            for number in 1...3 {
                archive.storeSilently(number, Study(series: [number * 10: [number * 100]]))
            }
            var follower = try archive.follower(server, journal) {
                $0.start = .now
                $0.sweepInterval = .milliseconds(20)
                $0.sweepPageSize = 4
                $0.filter.modalities = ["CT"]
                $0.filter.minimumInstances = 1
            }
            try await follower.follow(for: .milliseconds(100))
            archive.store(4, Study(series: [40: [400]]))
            archive.store(5, Study(series: [50: [500], 51: [510]], modalities: [51: "SR"]))
            archive.store(6, Study(series: [60: [600]], modalities: [60: "SR"]))
            archive.store(7, Study(series: [70: []]))
            archive.storeSilently(8, Study(series: [80: [800]], isStable: false))
            archive.storeSilently(9, Study(series: [90: [900]], lastUpdate: now))
            archive.store(10, Study(series: [101: [1000]]))
            archive.intercept { $0.hasPrefix("/studies/\(orthancID(10))") ? .status(500) : nil }
            try await follower.follow {
                try await account(archive).listed == 10 && archive.events.all.count == 4
            }
            try await follower.follow { try await account(archive).pending.count == 3 }
            let first = try await account(archive)
            #expect(
                first.before == 3 && first.dispatched == 2 && first.filtered == ["modality": 1, "empty": 1])
            #expect(first.pending == ["unstable": 1, "settling": 1, "unreadable": 1])
            #expect(
                first.received == 10 && first.listed == 10 && first.gone == 0 && first.server == "orthanc"
                    && first.level == .study)
            let waiting = try await IngestJournal.readOnly(at: archive.folder).pending(limit: 10)
            #expect(Set(waiting.map(\.resource)) == Set([8, 9, 10].map { orthancID($0).rawValue }))

            // A study that had its event grows and is unstable for now: it is one of the pending, and nowhere else.
            archive.intercept(nil)
            archive.delete(4)
            archive.storeSilently(4, Study(series: [40: [400, 401]], lastUpdate: now, isStable: false))
            archive.delete(8)
            archive.store(8, Study(series: [80: [800]]))
            archive.delete(6)
            try await follower.follow {
                let account = try await account(archive)
                return account.listed == 9 && account.pending == ["unstable": 1, "settling": 1]
            }
            let second = try await account(archive)
            #expect(
                second.before == 3 && second.dispatched == 3 && second.filtered == ["empty": 1]
                    && second.gone == 1)
            #expect(second.received == 9)
        }
    }

    /// Our own results and refused late series come to a study: what became of its images is what is asked, not what became of these.
    @Test(arguments: IngestConfiguration.Repeats.allCases.filter { $0 != .ignore })
    func whatIsRefusedLaterChangesNothingForTheRest(repeats: IngestConfiguration.Repeats) async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.storeSilently(4, Study(series: [40: [400]]))
            let configure: (inout IngestConfiguration) -> Void = { configuration in
                configuration.start = .now
                configuration.repeats = repeats
                configuration.filter.modalities = ["CT"]
            }
            var follower = try archive.follower(server, journal, configure)
            try await follower.follow {
                try await journal.record(of: orthancID(4).rawValue, .study, server: "orthanc")?.origin == .baseline
            }
            let (first, later) = ("20260101T000000", "20260101T000500")
            archive.store(1, Study(series: [10: [100]]))
            archive.store(2, Study(series: [20: [200]], modalities: [20: "MR"]))
            archive.store(3, Study(series: [30: [300]], results: [30]))
            try await follower.follow { archive.events.all.count == 3 }
            archive.store(1, Study(series: [10: [100], 11: [110]], results: [11], lastUpdate: later, old: [10: first]))
            archive.store(
                2, Study(series: [20: [200], 21: [210]], modalities: [20: "MR"], results: [21], lastUpdate: later, old: [20: first]))
            archive.delete(4)
            archive.store(4, Study(series: [40: [400], 41: [410]], results: [41], lastUpdate: later, old: [40: first]))
            try await follower.follow { archive.events.all.count == 6 }
            let latest = Study(
                series: [10: [100], 11: [110], 12: [120]], modalities: [12: "SR"], results: [11], lastUpdate: "20260101T000900",
                old: [10: first, 11: later])
            archive.store(1, latest)
            try await follower.follow { archive.events.all.count == 7 }
            let total = try await account(archive)
            #expect(total.dispatched == 1 && total.before == 1 && total.filtered == ["modality": 1, "own-result": 1])
            #expect(archive.events.all[3...5].allSatisfy { $0.filtered == IngestFilter.ownResult })
            #expect((archive.events.all[6].filtered == nil) == (repeats == .all))
            try await archive.followed(server, journal, configure) { followed in
                try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "never following")) { followed.isFollowing ? true : nil }
                guard case .known = try await followed.submit(.study, orthancID(1)) else {
                    Issue.record("the study has had its run")
                    return
                }
                guard case .filtered(let reason) = try await followed.submit(.study, orthancID(2)), reason.code == "modality" else {
                    Issue.record("the images were refused for their modality")
                    return
                }
                // Its images never had an event.
                guard case .dispatched = try await followed.submit(.study, orthancID(4)) else {
                    Issue.record("the study was there before the first start")
                    return
                }
                #expect(archive.events.all.last?.series.map(\.id) == [orthancID(40).rawValue])
            }
        }
    }

    @Test func whatArrivesDuringASweepIsNotGone() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...4 { archive.storeSilently(number, Study(series: [number * 10: [number * 100]])) }
            // After the last full page was listed; the list shifts, so that the new one is never seen.
            archive.intercept { path in
                guard path.hasPrefix("/studies?expand&since=4") else { return nil }
                return .json("[]")
            }
            var follower = try archive.follower(server, journal) { $0.sweepPageSize = 2 }
            try await follower.follow { archive.events.all.count == 2 }
            archive.store(5, Study(series: [50: [500]]))
            try await follower.follow { try await account(archive).listed == 4 }
            let total = try await account(archive)
            #expect(total.gone == 0 && total.dispatched == 5 && total.received == 5)
        }
    }

    @Test func whatABrokerHoldsUpIsPending() async throws {
        try await FakeArchive.with { archive, server, journal in
            struct Blocked: EventPublishing {
                func publish(_ event: EventMessage) async throws {
                    throw AMQPError(.timeout, "There is no broker.")
                }
            }
            archive.store(1, Study(series: [10: [100]]))
            try await archive.followed(server, journal, publisher: Blocked()) { followed in
                try await poll(for: .seconds(20), orThrow: StackError(.timedOut, "never pending")) {
                    try await IngestJournal.readOnly(at: archive.folder).accounts().first?.pending.first {
                        $0.key.hasPrefix("broker-")
                    }
                }
                let answer = try await followed.submit(.study, orthancID(1))
                guard case .failed(let reason) = answer else {
                    Issue.record("\(answer)")
                    return
                }
                #expect(reason.code.hasPrefix("broker-"))
            }
            var follower = try archive.follower(server, journal)
            try await follower.follow { archive.events.all.count == 1 }
            let after = try await account(archive)
            #expect(after.pending.isEmpty && after.dispatched == 1)
        }
    }

    @Test func whatOrthancLostLongAgoIsForgottenOnlyWhenItSaysSo() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...4 { archive.store(number, Study(series: [number * 10: [number * 100]])) }
            func follower(forgetAfter: Double) throws -> SourceFollower {
                try archive.follower(server, journal) {
                    $0.sweepInterval = .milliseconds(20)
                    $0.forgetAfter = forgetAfter
                }
            }
            var first = try follower(forgetAfter: 3600)
            try await first.follow { archive.events.all.count == 4 }
            // 1 is gone; 2 is left out of the list and still there; of 3 Orthanc does not say.
            archive.delete(1)
            let list = "/studies?expand"
            let rest =
                #"[{"ID":"\#(orthancID(4))","IsStable":true,"LastUpdate":"20260101T000000","MainDicomTags":{},"#
                + #""ParentPatient":"\#(orthancID(0))","Series":["\#(orthancID(40))"]}]"#
            archive.intercept { path in
                if path.hasPrefix(list) { return .json(path.contains("since=0") ? rest : "[]") }
                return path.hasPrefix("/studies/\(orthancID(3))") ? .status(500) : nil
            }
            archive.storeOtherChange()
            try await first.follow { try await account(archive).gone == 3 }
            try await first.follow(for: .milliseconds(100))
            #expect(try await account(archive).gone == 3)

            archive.storeOtherChange()
            var second = try follower(forgetAfter: -1)
            try await second.follow {
                try await journal.record(of: orthancID(1).rawValue, .study, server: "orthanc") == nil
            }
            try await second.follow(for: .milliseconds(100))
            for number in 2...4 {
                #expect(
                    try await journal.record(of: orthancID(number).rawValue, .study, server: "orthanc")
                        != nil, "\(number)")
            }
            archive.intercept(nil)
            archive.storeOtherChange()
            try await second.follow { try await account(archive).gone == 0 }
            #expect(archive.events.all.count == 4)
        }
    }

    @Test func whatCouldNotBeReadAndWasDeletedIsNoTroubleAnyMore() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.store(1, Study(series: [10: [100]]))
            archive.intercept { $0.hasPrefix("/studies/\(orthancID(1))") ? .status(500) : nil }
            var follower = try archive.follower(server, journal) { $0.sweepInterval = .milliseconds(20) }
            try await follower.follow { try await account(archive).pending == ["unreadable": 1] }
            #expect(follower.failedReads.count == 1)
            archive.delete(1)
            try await follower.follow { try await account(archive).pending.isEmpty }
            #expect(follower.failedReads.isEmpty)
        }
    }

    @Test func aSweepThatFailsAtItsEndForgetsNothing() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...3 { archive.store(number, Study(series: [number * 10: [number * 100]])) }
            var follower = try archive.follower(server, journal) {
                $0.sweepInterval = .milliseconds(20)
                $0.forgetAfter = -1
            }
            try await follower.follow { archive.events.all.count == 3 }
            archive.delete(1)
            archive.storeOtherChange()
            // Of what is gone Orthanc does not even say that it lacks it.
            archive.intercept { $0.hasPrefix("/studies/\(orthancID(1))") ? .status(401) : nil }
            try await follower.follow { try await account(archive).gone > 0 }
            try await follower.follow(for: .milliseconds(100))
            let total = try await account(archive)
            #expect(total.gone == 1 && total.listed == 2 && total.dispatched == 2)
        }
    }

    @Test func listedResourcesAreToldApart() {
        var listed = ListedResources(startedAt: .now)
        for number in 1...1000 { listed.insert(orthancID(number)) }
        listed.insert(orthancID(7))
        #expect(listed.count == 1000)
        #expect(listed.contains(orthancID(1000).rawValue) && !listed.contains(orthancID(1001).rawValue))
    }
}

/// What late images do, seen from a log that is read twice.
@Suite(.timeLimit(.minutes(2)))
struct IgnoredGrowthTests {
    @Test func whatWasIgnoredStaysIgnored() async throws {
        try await FakeArchive.with { archive, server, journal in
            let grown = FakeArchive.Study(series: [10: [100, 101], 11: [110]], lastUpdate: "20260101T000500")
            archive.store(1, FakeArchive.Study(series: [10: [100]]))
            var follower = try archive.follower(server, journal) { $0.repeats = .ignore }
            try await follower.follow { archive.events.all.count == 1 }
            archive.store(1, grown)
            let resource = orthancID(1).rawValue
            try await follower.follow { try await journal.record(of: resource, .study, server: "orthanc")?.origin == .ignored }
            archive.store(1, grown)
            var next = try archive.follower(server, journal) { $0.sweepInterval = .milliseconds(20) }
            try await next.follow(for: .milliseconds(200))
            #expect(archive.events.all.count == 1)
            // What comes later is told on its own.
            archive.store(1, FakeArchive.Study(series: [10: [100, 101], 11: [110], 12: [120]], lastUpdate: "20260101T000900"))
            try await next.follow { archive.events.all.count == 2 }
            #expect(archive.events.all[1].follows == archive.events.all[0].snapshot)
        }
    }
}

/// What late images do.
@Suite(.timeLimit(.minutes(2)))
struct RepeatTests {
    private typealias Slice = OrthancFixture.Slice

    private func slices(_ range: ClosedRange<Int>, series: String = "1") -> [Slice] {
        range.map { Slice(series: series, instance: $0) }
    }

    @Test(arguments: IngestConfiguration.Repeats.allCases) func lateImages(
        repeats: IngestConfiguration.Repeats
    ) async throws {
        try await OrthancFixture.with { fixture in
            var follower = try fixture.follower { $0.repeats = repeats }
            _ = try await follower.round()
            try await fixture.send(slices(1...2) + slices(1...3, series: "2"))
            try await follower.follow { fixture.events.all.count == 1 }
            let first = try #require(fixture.events.all.first)
            try await fixture.send(slices(4...4, series: "2") + slices(1...1, series: "3"))
            let reader = IngestJournal.readOnly(at: fixture.folder.appending(path: "state"))
            switch repeats {
            case .changed, .all:
                try await follower.follow { fixture.events.all.count == 2 }
                let second = fixture.events.all[1]
                #expect(second.series.map(\.instances).sorted() == (repeats == .all ? [1, 2, 4] : [1, 4]))
                #expect(second.follows == first.snapshot)
                #expect(second.headers["seriesIds"]?.array?.count == second.series.count)
            case .ignore:
                try await follower.follow { try await reader.accounts().first?.ignored == 1 }
                let record = try await fixture.journal.record(
                    of: first.resourceID, .study, server: "orthanc")
                #expect(record?.origin == .ignored && record?.snapshot == first.snapshot)
                // Asked for, it comes whole.
                let id = try #require(OrthancID(rawValue: first.resourceID))
                let answer = try await follower.submit(.study, id, replay: nil)
                #expect(
                    fixture.events.all.count == 2
                        && fixture.events.all.last?.series.map(\.instances).sorted() == [1, 2, 4])
                #expect(answer == fixture.events.all.last.map { .dispatched(snapshot: $0.snapshot) })
                #expect(fixture.events.all.last?.follows == first.snapshot)
            }
            // Sent once more: Orthanc has it already, and there is nothing to tell.
            try await fixture.send(slices(1...2))
            try await follower.follow(for: .seconds(2))
            #expect(fixture.events.all.count == 2)
        }
    }
}

/// What one study costs Orthanc.
struct RequestCountTests {
    @Test(arguments: [1, 4]) func requestsOfAStudy(series: Int) async throws {
        try await FakeArchive.with { archive, server, journal in
            var follower = try archive.follower(server, journal) { $0.sweepInterval = .seconds(3600) }
            try await follower.follow(for: .milliseconds(100))
            let before = server.paths.count
            let numbers = Array(1...series)
            archive.store(
                1,
                FakeArchive.Study(
                    series: Dictionary(
                        uniqueKeysWithValues: numbers.map { ($0 * 10, Array($0 * 1000..<$0 * 1000 + 300)) })))
            try await follower.follow { archive.events.all.count == 1 }
            let requests = server.paths.dropFirst(before).filter {
                !$0.hasPrefix("/changes") && !$0.hasPrefix("/tools")
            }
            // The study, its series, and the tags and the file-meta group of one instance of each series: nothing grows with the instances.
            #expect(requests.count == 2 + 2 * series, "\(requests)")
            #expect(!requests.contains { $0.contains("shared-tags") })
        }
    }
}
