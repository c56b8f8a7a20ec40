import Jobs
import Pipeline
import Synchronization
import Testing

@testable import Worker

@Suite struct AttemptTableTests {
    private let job = JobID(run: RunID(milliseconds: 1, random: (1, 1)), index: 0)
    private var key: AttemptTable.Key { .init(job: job, attempt: 1) }

    @Test("A copy of a hint is noticed, another attempt of the job is none")
    func copies() {
        var table = AttemptTable()
        #expect(table.begin(key) == true)
        #expect(table.begin(key) == false)
        #expect(table.begin(.init(job: job, attempt: 2)) == true)
        table.end(key)
        #expect(table.begin(key) == true)
    }

    @Test("A lease is wanted from the claim's answer until the result is confirmed, with the newest progress")
    func leases() {
        var table = AttemptTable()
        _ = table.begin(key)
        #expect(table.leases.isEmpty)
        #expect(table.grant(key, token: 7) == true)
        table.progress(key, .init(fraction: 0.5, text: "half"))
        let lease = RenewMessage.Lease(job: job, attempt: 1, token: 7, progress: .init(fraction: 0.5, text: "half"))
        #expect(table.leases == [lease])
        #expect(table.report(key) == nil)
        #expect(table.leases == [lease])
        table.end(key)
        #expect(table.leases.isEmpty)
        #expect(table.isEmpty)
    }

    @Test("An answered renewal moves the end of the leases that were sent, but not of lost ones or of newer tokens")
    func renewals() {
        let long = ContinuousClock.now - .seconds(60)
        let cases: [(token: Int, lost: Bool, isOver: Bool)] = [(7, false, false), (7, true, true), (6, false, true)]
        for (token, lost, isOver) in cases {
            var table = AttemptTable()
            let lease = Lease(seconds: 30, since: long)
            #expect(lease.isOver)
            _ = table.begin(key)
            _ = table.grant(key, token: 7, lease: lease)
            let sent = [RenewMessage.Lease(job: job, attempt: 1, token: token)]
            table.renewed(sent, RenewReply(lost: lost ? [.init(job: job, token: token)] : []), since: .now)
            #expect(lease.isOver == isOver)
            // An answer that was asked for long ago gives no time.
            table.renewed(sent, RenewReply(), since: long)
            #expect(lease.isOver == isOver)
        }
    }

    @Test("A lease ends some seconds before the router's does")
    func leaseMargin() {
        #expect(!Lease(seconds: 30, since: .now - .seconds(20)).isOver)
        #expect(Lease(seconds: 30, since: .now - .seconds(22)).isOver)
        #expect(!Lease(seconds: 4, since: .now).isOver)
    }

    @Test("A control message stops the attempt with its token and no other")
    func control() {
        var table = running(token: 7)
        #expect(table.stop(job, token: 6, because: .cancelled).count == 0)
        #expect(table.stop(JobID(run: job.run, index: 1), token: 7, because: .cancelled).count == 0)
        #expect(table.stop(job, token: 7, because: .cancelled).count == 1)
        #expect(table.stop(job, token: 7, because: .lost).count == 0)
        #expect(table.report(key) == .cancelled)
    }

    @Test("The answer to a renewal is about leases, not about jobs")
    func renewal() {
        var table = running(token: 7)
        let lease = RenewReply.Lease(job: job, token: 7)
        #expect(table.stop(RenewReply()).count == 0)
        // The job came back with a newer token while the answer was on its way.
        var newer = running(token: 8)
        #expect(newer.stop(RenewReply(cancel: [lease], lost: [lease])).count == 0)
        #expect(newer.report(key) == nil)

        #expect(table.stop(RenewReply(cancel: [lease], lost: [lease])).count == 1)
        #expect(table.report(key) == .lost)
    }

    @Test("An old attempt whose report waits and a new one of the same job are not mixed up")
    func twoAttempts() {
        let next = AttemptTable.Key(job: job, attempt: 2)
        for isOldLost in [true, false] {
            var table = running(token: 7)
            _ = table.report(key)
            _ = table.begin(next)
            _ = table.grant(next, token: 8)
            table.endable(next) {}
            let lost = RenewReply.Lease(job: job, token: isOldLost ? 7 : 8)
            #expect(table.stop(RenewReply(lost: [lost])).count == (isOldLost ? 0 : 1))
            #expect(table.report(next) == (isOldLost ? nil : .lost))
        }
    }

    @Test("What waits to be reported is not stopped any more, only given up at the very end")
    func reporting() {
        var table = running(token: 7)
        let calls = Mutex(0)
        _ = table.report(key)
        table.endable(key) { calls.withLock { $0 += 1 } }
        #expect(table.stop(job, token: 7, because: .cancelled).count == 0)
        #expect(table.stopAll().count == 0)
        #expect(!table.isAbandoned)
        table.abandon().forEach { $0() }
        #expect(table.isAbandoned)
        #expect(calls.withLock { $0 } == 1)
    }

    @Test("A job that is granted while the worker stops is not started")
    func draining() {
        var table = AttemptTable()
        _ = table.begin(key)
        table.drain()
        #expect(table.grant(key, token: 1) == false)
        #expect(table.leases.map(\.token) == [1])
    }

    @Test("Who wants a job ended between its grant and its start ends it")
    func earlyStop() {
        var table = AttemptTable()
        let calls = Mutex(0)
        _ = table.begin(key)
        _ = table.grant(key, token: 1)
        #expect(table.stop(job, token: 1, because: .cancelled).count == 0)
        table.endable(key) { calls.withLock { $0 += 1 } }
        #expect(calls.withLock { $0 } == 1)
    }

    private func running(token: Int) -> AttemptTable {
        var table = AttemptTable()
        _ = table.begin(key)
        _ = table.grant(key, token: token)
        table.endable(key) {}
        return table
    }
}
