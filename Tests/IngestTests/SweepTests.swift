import Jobs
import Testing

@testable import Ingest

struct SweepTests {
    private let start = ContinuousClock.now

    private func sweep(_ levels: [ResourceLevel] = [.study]) -> Sweep {
        Sweep(levels: levels, interval: .seconds(300), now: start)
    }

    @Test func walksThroughThePagesOfEachLevel() {
        var sweep = sweep([.series, .study])
        #expect(sweep.next(now: start, lastSequence: 10) == Sweep.Page(level: .series, offset: 0))
        sweep.finish(count: 200, pending: 0, isLast: false, now: start)
        #expect(sweep.next(now: start, lastSequence: 10) == Sweep.Page(level: .series, offset: 200))
        sweep.finish(count: 7, pending: 0, isLast: true, now: start)
        #expect(sweep.next(now: start, lastSequence: 10) == Sweep.Page(level: .study, offset: 0))
        #expect(sweep.isUnderWay)
        sweep.finish(count: 1, pending: 0, isLast: true, now: start)
        #expect(!sweep.isUnderWay)
        #expect(sweep.next(now: start, lastSequence: 11) == nil)
    }

    @Test func aPageThatFailedIsLookedAtAgain() {
        var sweep = sweep()
        let first = sweep.next(now: start, lastSequence: 10)
        #expect(sweep.next(now: start, lastSequence: 10) == first)
    }

    @Test(arguments: [(0, 10 as Int64, false), (0, 11, true), (1, 10, true)])
    func anIdleServerIsNotWalkedAgain(pending: Int, lastSequence: Int64, isWalked: Bool) {
        var sweep = sweep()
        _ = sweep.next(now: start, lastSequence: 10)
        sweep.finish(count: 3, pending: pending, isLast: true, now: start)
        #expect(sweep.next(now: start + .seconds(299), lastSequence: lastSequence) == nil)
        #expect((sweep.next(now: start + .seconds(300), lastSequence: lastSequence) != nil) == isWalked)
    }

    /// A resource that was hidden while the list shifted is in no change log.
    @Test func anIdleServerIsWalkedAgainNowAndThen() {
        var sweep = sweep()
        _ = sweep.next(now: start, lastSequence: 10)
        sweep.finish(count: 3, pending: 0, isLast: true, now: start)
        var now = start
        for _ in 0..<Sweep.skippable {
            now += .seconds(300)
            #expect(sweep.next(now: now, lastSequence: 10) == nil)
        }
        now += .seconds(300)
        #expect(sweep.next(now: now, lastSequence: 10) == Sweep.Page(level: .study, offset: 0))
        sweep.finish(count: 3, pending: 0, isLast: true, now: now)
        #expect(sweep.next(now: now + .seconds(300), lastSequence: 10) == nil)
    }

    @Test func aRestartBeginsAtOnce() {
        var sweep = sweep()
        _ = sweep.next(now: start, lastSequence: 10)
        sweep.finish(count: 3, pending: 0, isLast: true, now: start)
        sweep.restart(now: start)
        #expect(sweep.next(now: start, lastSequence: 10) == Sweep.Page(level: .study, offset: 0))
    }
}
