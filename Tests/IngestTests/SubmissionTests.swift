import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline
import Stack
import Testing

@testable import Ingest

/// What somebody asks for goes the way of everything else: once, with the journal and the filters.
@Suite(.timeLimit(.minutes(2)))
struct SubmissionTests {
    private typealias Study = FakeArchive.Study

    private func wait(_ what: String, until condition: @escaping () async throws -> Bool) async throws {
        try await poll(for: .seconds(60), orThrow: StackError(.timedOut, what)) { () -> Bool? in try await condition() ? true : nil }
    }

    @Test func whatWasThereBeforeIsDispatchedOnceAndThenKnown() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.storeSilently(1, Study(series: [10: [100], 11: [110]]))
            try await archive.followed(server, journal) {
                $0.start = .now
            } _: { followed in
                try await wait("never following") { followed.isFollowing }
                #expect(try await journal.record(of: orthancID(1).rawValue, .study, server: "orthanc")?.origin == .baseline)
                let first = try await followed.submit(.study, orthancID(1))
                let event = try #require(archive.events.all.first)
                #expect(first == .dispatched(snapshot: event.snapshot) && event.series.count == 2 && event.follows == nil)
                let second = try await followed.submit(.study, orthancID(1))
                #expect(second == .known(snapshot: event.snapshot))
                #expect(archive.events.all.count == 1)
                // A level that nobody follows is nobody's business but the caller's.
                let series = try await followed.submit(.series, orthancID(10))
                #expect(series != second && archive.events.all.map(\.level) == [.study, .series])
            }
        }
    }

    @Test func aReplayIsOneMoreEventForEachName() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.store(1, Study(series: [10: [100]]))
            try await archive.followed(server, journal) { followed in
                try await wait("no event") { archive.events.all.count == 1 }
                let again = try await followed.submit(.study, orthancID(1), replay: "a")
                let repeated = try await followed.submit(.study, orthancID(1), replay: "a")
                let other = try await followed.submit(.study, orthancID(1), replay: "b")
                let events = archive.events.all
                #expect(events.count == 3 && Set(events.map(\.snapshot)).count == 3)
                #expect(again == .dispatched(snapshot: events[1].snapshot) && repeated == .known(snapshot: events[1].snapshot))
                #expect(other == .dispatched(snapshot: events[2].snapshot))
                #expect(events[1].follows == events[0].snapshot && events[2].follows == events[1].snapshot)
                #expect(events.allSatisfy { $0.series == events[0].series })
                // The log goes on to know the state.
                let known = try await followed.submit(.study, orthancID(1))
                #expect(known == .known(snapshot: events[2].snapshot))
            }
        }
    }

    @Test func whatCannotBeDispatchedSaysWhy() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.storeSilently(1, Study(series: [10: [100]], modalities: [10: "SR"]))
            archive.storeSilently(2, Study(series: [20: [200]], isStable: false))
            archive.storeSilently(3, Study(series: [30: [300]]))
            try await archive.followed(server, journal) {
                $0.start = .now
                $0.filter.modalities = ["CT"]
            } _: { followed in
                try await wait("never following") { followed.isFollowing }
                let refused = try await followed.submit(.study, orthancID(1))
                guard case .filtered(let reason) = refused else {
                    Issue.record("\(refused)")
                    return
                }
                #expect(reason.code == "modality")
                let again = try await followed.submit(.study, orthancID(1))
                #expect(again == refused && archive.events.all.map(\.filtered) == [reason])
                #expect(try await journal.record(of: orthancID(1).rawValue, .study, server: "orthanc")?.reason == reason)
                let unstable = try await followed.submit(.study, orthancID(2))
                let missing = try await followed.submit(.study, orthancID(9))
                #expect(unstable == .unstable && missing == .notFound)
                archive.intercept { $0.hasPrefix("/instances/\(orthancID(300))") ? .status(500) : nil }
                let unreadable = try await followed.submit(.study, orthancID(3))
                guard case .failed(let cause) = unreadable else {
                    Issue.record("\(unreadable)")
                    return
                }
                #expect(cause.code == "orthanc-serverFailure")
                archive.intercept(nil)
                archive.events.refuse(1)
                let blocked = try await followed.submit(.study, orthancID(3))
                guard case .failed = blocked else {
                    Issue.record("\(blocked)")
                    return
                }
                let accepted = try await followed.submit(.study, orthancID(3))
                #expect(accepted == archive.events.all.last.map { .dispatched(snapshot: $0.snapshot) })
            }
        }
    }

    @Test func manyAtOnceAreOneEventEach() async throws {
        try await FakeArchive.with { archive, server, journal in
            for number in 1...5 { archive.store(number, Study(series: [number * 10: [number * 100]])) }
            try await archive.followed(server, journal) { followed in
                let answers = try await withThrowingTaskGroup(of: Submission.self) { group in
                    for index in 0..<50 { group.addTask { try await followed.submit(.study, orthancID(1 + index % 5)) } }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(answers.count == 50)
                #expect(
                    answers.allSatisfy {
                        switch $0 {
                        case .dispatched, .known: true
                        default: false
                        }
                    })
                try await wait("not all of them") { archive.events.all.count == 5 }
                #expect(Set(archive.events.all.map(\.resourceID)).count == 5)
            }
        }
    }

    @Test func aWakeIsALookAtOnce() async throws {
        try await FakeArchive.with { archive, server, journal in
            try await archive.followed(server, journal) {
                $0.pollInterval = .seconds(3600)
            } _: { followed in
                try await wait("never following") { followed.isFollowing }
                archive.store(1, Study(series: [10: [100]]))
                followed.wake()
                try await wait("no event") { archive.events.all.count == 1 }
            }
        }
    }

    @Test func whoeverStillWaitsAtTheEndIsTold() async throws {
        try await FakeArchive.with { archive, server, journal in
            archive.intercept { $0.hasPrefix("/studies/") ? .silence : nil }
            archive.store(1, Study(series: [10: [100]]))
            let mailbox = SourceMailbox()
            let waiting = Task { try await mailbox.submit(.study, orthancID(1), replay: nil) }
            try await wait("never asked") { await mailbox.wait(until: .now) == .request }
            mailbox.close()
            #expect(try await waiting.value == .stopping)
            #expect(try await mailbox.submit(.study, orthancID(1), replay: nil) == .stopping)
            #expect(mailbox.nextRequest() == nil)
        }
    }

    @Test func whoeverGivesUpIsForgotten() async throws {
        let mailbox = SourceMailbox()
        let waiting = Task { try await mailbox.submit(.study, orthancID(1), replay: nil) }
        try await wait("never asked") { await mailbox.wait(until: .now) == .request }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        #expect(mailbox.nextRequest() == nil)
    }

    @Test func resourcesAreListedSinceATime() async throws {
        try await FakeArchive.with { archive, server, journal in
            let old = OrthancTime.text(Date().addingTimeInterval(-7200))
            let new = OrthancTime.text(Date())
            for number in 1...5 { archive.storeSilently(number, Study(series: [:], lastUpdate: number == 2 || number == 5 ? new : old)) }
            try await archive.followed(server, journal) {
                $0.start = .now
                $0.sweepPageSize = 2
            } _: { followed in
                func all(since: Date?) async throws -> [OrthancID] {
                    var ids: [OrthancID] = []
                    var offset: Int? = 0
                    while let next = offset {
                        let page = try await followed.resources(.study, updatedSince: since, offset: next)
                        ids += page.ids
                        offset = page.next
                    }
                    return ids
                }
                let everything = try await all(since: nil)
                #expect(everything == (1...5).map(orthancID))
                let recent = try await all(since: Date().addingTimeInterval(-3600))
                #expect(recent == [orthancID(2), orthancID(5)])
            }
        }
    }

    @Test func manyAreSpreadOverTime() async throws {
        let pacer = Pacer(perSecond: 50)
        let start = ContinuousClock.now
        for _ in 0..<6 { try await pacer.wait() }
        #expect(ContinuousClock.now - start >= .milliseconds(100))
    }
}
