import AMQP
import Jobs
import Pipeline
import Testing

@testable import Router

/// A lease of 30 s that only expires when the router could have heard its renewal, on a clock that the test moves.
@Suite struct LeaseWatchTests {
    let job = JobID(run: RunID(milliseconds: 1, random: (1, 1)), index: 0)
    let start = ContinuousClock.now
    var lease: LeaseTable.Lease { .init(job: job, token: 1) }

    func watch() -> LeaseWatch {
        var watch = LeaseWatch(duration: .seconds(30), longestGap: .seconds(10), at: start)
        watch.extend(job, token: 1, at: start)
        return watch
    }

    func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    /// Echoes that come back at once, every 3 s.
    func listen(_ watch: inout LeaseWatch, from: Int, to: Int) {
        for second in stride(from: from, through: to, by: 3) { watch.heard(until: at(Double(second)), at: at(Double(second))) }
    }

    @Test func aLeaseEndsWhenItsTimeWasHeardToTheEnd() {
        var watch = watch()
        listen(&watch, from: 3, to: 27)
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 30, to: 30)
        #expect(watch.expired == [lease])
    }

    @Test func aRenewalMovesTheEnd() {
        var watch = watch()
        listen(&watch, from: 3, to: 21)
        watch.extend(job, token: 1, at: at(21))
        listen(&watch, from: 24, to: 48)
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 51, to: 51)
        #expect(watch.expired == [lease])
    }

    @Test func withoutEchoesNothingEndsHoweverMuchTimePasses() {
        // The broker is away, or takes nothing, or the disk stalls the writer: no echo comes back.
        var watch = watch()
        listen(&watch, from: 3, to: 27)
        #expect(watch.expired.isEmpty)
        // An hour later an echo that was sent before the trouble is found in the queue.
        watch.heard(until: at(29), at: at(3600))
        #expect(watch.expired.isEmpty)
    }

    @Test func afterAStandstillEachLeaseStartsAnew() {
        // SIGSTOP or a suspended machine: the next echo is sent long after the last one.
        var watch = watch()
        listen(&watch, from: 3, to: 27)
        watch.heard(until: at(100), at: at(100))
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 103, to: 127)
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 130, to: 130)
        #expect(watch.expired == [lease])
    }

    @Test func aStandstillBetweenAnEchosSendingAndItsReturnCountsNothing() {
        var watch = watch()
        listen(&watch, from: 3, to: 24)
        // Sent at 27, stopped, back at 500. The renewal that came in meanwhile is behind it in the queue.
        watch.heard(until: at(27), at: at(500))
        #expect(watch.expired.isEmpty)
        watch.heard(until: at(501), at: at(501))
        #expect(watch.expired.isEmpty)
    }

    @Test func aSlowWriterDelaysTheEndAndNeverBringsItForward() {
        // Echoes sent every 3 s come back 20 s late: renewals in the same queue are as late.
        var watch = watch()
        for sent in stride(from: 3.0, through: 29, by: 3) { watch.heard(until: at(sent), at: at(sent + 20)) }
        #expect(watch.expired.isEmpty)
        watch.extend(job, token: 1, at: at(48))
        for sent in stride(from: 30.0, through: 77, by: 3) { watch.heard(until: at(sent), at: at(sent + 20)) }
        #expect(watch.expired.isEmpty)
    }

    @Test func echoesThatWaitedInASocketProveNothing() {
        // The broker stands still from 6 to 51. What was sent meanwhile arrives at once: the router's echoes, and behind them, from a
        // socket of its own, the worker's renewal.
        var watch = watch()
        listen(&watch, from: 3, to: 6)
        for sent in stride(from: 9.0, through: 51, by: 3) { watch.heard(until: at(sent), at: at(51)) }
        #expect(watch.expired.isEmpty)
        watch.extend(job, token: 1, at: at(52))
        listen(&watch, from: 54, to: 81)
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 84, to: 84)
        #expect(watch.expired == [lease])
    }

    @Test func aRouterThatIsFarBehindEndsNoLease() {
        // Renewals that wait longer than they live are dropped by the broker, and echoes come back 20 s late.
        var watch = watch()
        for sent in stride(from: 3.0, through: 300, by: 3) { watch.heard(until: at(sent), at: at(sent + 20)) }
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 321, to: 348)
        #expect(watch.expired.isEmpty, "it has caught up, and gives each lease its whole time")
        listen(&watch, from: 351, to: 351)
        #expect(watch.expired == [lease])
    }

    @Test func aReconnectGivesEveryLeaseItsWholeTime() {
        var watch = watch()
        listen(&watch, from: 3, to: 27)
        watch.wasDeaf(at: at(28))
        listen(&watch, from: 30, to: 57)
        #expect(watch.expired.isEmpty)
        listen(&watch, from: 60, to: 60)
        #expect(watch.expired == [lease])
    }

    @Test func echoesThatComeTwiceOrLateMoveNothingBack() {
        var watch = watch()
        listen(&watch, from: 3, to: 30)
        watch.heard(until: at(3), at: at(31))
        #expect(watch.heardUntil == at(30))
        #expect(watch.expired == [lease])
    }

    @Test func aReleasedLeaseIsForgotten() {
        var watch = watch()
        watch.release(lease)
        listen(&watch, from: 3, to: 60)
        #expect(watch.expired.isEmpty)
    }
}

@Suite struct EchoClockTests {
    @Test func onlyItsOwnEchoesCount() throws {
        let clock = EchoClock()
        let body = clock.message().body
        let own = try PipelineJSON.decode(EchoMessage.self, from: body)
        let sent = try #require(clock.sent(own))
        #expect(sent <= .now)
        // An earlier router's, still in the queue.
        #expect(EchoClock().sent(own) == nil)
        var future = own
        future.sent += 1000
        #expect(clock.sent(future) == nil)
    }
}
