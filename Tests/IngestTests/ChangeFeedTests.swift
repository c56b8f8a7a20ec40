import JobStore
import Jobs
import Orthanc
import Testing

@testable import Ingest

func orthancID(_ number: Int) -> OrthancID {
    var digits = String(abs(number), radix: 16)
    digits = String(repeating: "0", count: 8 - digits.count) + digits
    guard let id = OrthancID(rawValue: Array(repeating: digits, count: 5).joined(separator: "-")) else {
        preconditionFailure("this has the form of an Orthanc id")
    }
    return id
}

private func change(_ sequence: Int64, _ resource: Int? = nil, date: String = "20260101T000000") -> OrthancChange {
    OrthancChange(sequence: sequence, kind: .stableStudy, id: orthancID(resource ?? Int(sequence)), date: date)
}

private func page(_ sequences: [Int64], isDone: Bool = true, last: Int64? = nil) -> OrthancChanges {
    OrthancChanges(changes: sequences.map { change($0) }, isDone: isDone, last: last ?? sequences.last ?? 0)
}

private func cursor(_ sequence: Int64) -> IngestCursor {
    IngestCursor(sequence: sequence, resource: orthancID(Int(sequence)).rawValue, date: "20260101T000000")
}

struct ChangeFeedTests {
    /// A feed in the middle of a log, past the check of its anchor.
    private func settled(at sequence: Int64 = 100) -> ChangeFeed {
        var feed = ChangeFeed(cursor: cursor(sequence))
        #expect(feed.judge(page([sequence]), since: feed.since) == .changes([], isDone: true))
        #expect(feed.since == sequence)
        return feed
    }

    @Test func theFirstPageShowsTheCursorsOwnEntry() {
        #expect(ChangeFeed(cursor: cursor(100)).since == 99)
        #expect(ChangeFeed(cursor: IngestCursor(sequence: 0)).since == 0)
    }

    @Test func newEntriesMoveTheCursorOnlyWhenFinished() {
        var feed = settled()
        let verdict = feed.judge(page([101, 104, 110]), since: 100)
        #expect(verdict == .changes([change(101), change(104), change(110)], isDone: true))
        #expect(feed.cursor == cursor(100) && feed.last == 110)
        feed.finish(change(101))
        #expect(feed.cursor == cursor(101))
        // What failed comes again.
        #expect(feed.judge(page([100, 101, 104, 110]), since: 99) == .changes([change(104), change(110)], isDone: true))
    }

    @Test func anEntryThatBecomesVisibleLateIsNotMissed() {
        var feed = settled()
        guard case .changes(let changes, _) = feed.judge(page([101, 103]), since: 100) else {
            Issue.record("no changes")
            return
        }
        for change in changes { feed.finish(change) }
        // The poll after new entries looks back.
        #expect(feed.since == 100)
        #expect(feed.judge(page([101, 102, 103]), since: 100) == .changes([change(102)], isDone: true))
        feed.finish(change(102))
        #expect(feed.cursor == cursor(103))
    }

    @Test func lookingBackEndsAndNeverReachesBeforeTheStart() {
        var feed = settled()
        _ = feed.judge(page([101]), since: 100)
        feed.finish(change(101))
        for _ in 1...5 {
            #expect(feed.since == 100)
            #expect(feed.judge(page([101]), since: 100) == .changes([], isDone: true))
        }
        #expect(feed.since == 101)
    }

    @Test func theAnchorIsCheckedAgainAfterAMinuteOfSilence() {
        var feed = settled()
        var polls = 0
        while feed.since == 100, polls < 1000 {
            _ = feed.judge(page([], last: 100), since: 100)
            polls += 1
        }
        #expect(polls == 60)
        #expect(feed.since == 99)
    }

    @Test func anEmptiedLogIsReadFromItsEndOn() {
        var feed = settled()
        #expect(feed.judge(page([], last: 150), since: 100) == .gap)
        #expect(feed.position == 150 && feed.last == 150)
        // A restart begins at an entry that was seen: that there was nothing else behind it was told by the log's end alone.
        #expect(feed.cursor == cursor(100))
        #expect(feed.judge(page([], last: 150), since: feed.since) == .changes([], isDone: true))
    }

    @Test func whatBecomesVisibleBehindTheEndOfAnEmptyPageIsNotMissed() {
        var feed = settled()
        // 101 is not committed yet, 102 is another session's.
        #expect(feed.judge(page([], last: 102), since: 100) == .gap)
        #expect(feed.since == 100)
        #expect(feed.judge(page([101, 102]), since: 100) == .changes([change(101), change(102)], isDone: true))
    }

    @Test func aLogOfSomeKindsIsReadToItsEnd() {
        var feed = ChangeFeed(cursor: cursor(100), kinds: [.stableStudy])
        #expect(feed.since == 99)
        #expect(feed.judge(page([100]), since: 99) == .changes([], isDone: true))
        // Half a million instances have arrived, and nothing is stable yet.
        #expect(feed.judge(page([], last: 500_000), since: 100) == .changes([], isDone: true))
        #expect(feed.cursor == cursor(100) && feed.position == 500_000 && feed.last == 500_000)
        #expect(feed.since == 499_800)
        for _ in 1...5 { _ = feed.judge(page([], last: 500_000), since: feed.since) }
        #expect(feed.since == 500_000)
        #expect(feed.judge(page([500_007]), since: 500_000) == .changes([change(500_007)], isDone: true))
        feed.finish(change(500_007))
        #expect(feed.cursor == cursor(500_007) && feed.position == 500_007)
        #expect(code(feed.judge(page([], last: 500_006), since: 500_007)) == "rewound")
    }

    @Test func gapsAreNormal() {
        var feed = settled()
        #expect(feed.judge(page([5000]), since: 100) == .changes([change(5000)], isDone: true))
    }

    private func code(_ verdict: ChangeFeed.Verdict) -> String? {
        if case .anomaly(let reason) = verdict { reason.code } else { nil }
    }

    @Test func anotherDatabaseIsNoticed() {
        var feed = settled()
        #expect(code(feed.judge(page([], last: 99), since: 100)) == "rewound")
        let other = OrthancChanges(changes: [change(100, 7)], isDone: true, last: 100)
        #expect(code(feed.judge(other, since: 99)) == "replaced")
        let older = OrthancChanges(changes: [change(100, date: "20250101T000000")], isDone: true, last: 100)
        #expect(code(feed.judge(older, since: 99)) == "replaced")
        #expect(feed.cursor == cursor(100))
    }

    @Test func numbersThatMakeNoSenseAreNoticed() {
        var feed = settled()
        #expect(code(feed.judge(page([], last: -5), since: 100)) == "negative")
        #expect(code(feed.judge(page([-3]), since: 100)) == "negative")
        #expect(code(feed.judge(page([103, 102]), since: 100)) == "disordered")
        #expect(code(feed.judge(page([101, 101]), since: 100)) == "disordered")
    }
}
