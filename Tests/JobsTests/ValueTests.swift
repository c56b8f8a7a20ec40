import Foundation
import Testing

@testable import Jobs

@Suite struct ValueTests {
    @Test(arguments: [
        ("90", 90), ("30s", 30), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("1h30m", 5400), ("1h 30m", 5400), ("1d2h3m4s", 93784),
    ])
    func timeoutsInUpstreamsForms(text: String, seconds: Int) {
        #expect(JobTimeout(text) == .after(seconds: seconds))
    }

    @Test func minusOneIsNoTimeout() { #expect(JobTimeout("-1") == .never) }

    @Test(arguments: [
        "", "0", "-5", "1.5h", "h", "30m1h", "1h1h", "5x", "1h 30", "1 h", " 1h", "1h ", "1h 1 0m", "99999999999999999999s", "١h",
    ])
    func timeoutsThatAreNone(text: String) { #expect(JobTimeout(text) == nil) }

    @Test func prioritiesKeepUpstreamsOrder() {
        #expect(["low", "medium", "default", "high", "urgent"].compactMap(Priority.init) == Priority.allCases)
        #expect(Priority("4") == .urgent)
        #expect(Priority("5") == nil)
        #expect(Priority("Default") == nil)
    }

    @Test func runIDsSortByTimeAndRoundTrip() {
        let early = RunID(milliseconds: 1000, random: (.max, .max))
        let late = RunID(milliseconds: 1001, random: (0, 0))
        #expect(early < late)
        #expect(RunID(rawValue: late.rawValue) == late)
        #expect(RunID(rawValue: "not an id") == nil)
        #expect(RunID(rawValue: late.rawValue.lowercased()) == nil)
    }

    @Test(arguments: ["", ".", "x.0", "00000000000000000000000000.", "00000000000000000000000000.-1", "00000000000000000000000000.01"])
    func jobIDsThatAreNone(text: String) { #expect(JobID(rawValue: text) == nil) }

    @Test func retriesWaitInTheNextLongerQueue() {
        let policy = RetryPolicy(max: 9, delay: 20, backoff: .exponential)
        #expect(
            (1...6).map { policy.delay(afterAttempt: $0) } == [
                .thirtySeconds, .twoMinutes, .twoMinutes, .tenMinutes, .tenMinutes, .oneHour,
            ])
        #expect(RetryPolicy(max: 9, delay: .max).delay(afterAttempt: 9) == .oneHour)
    }

    @Test func jsonKeepsHostileTextAndNumbers() throws {
        let text = #"{"a":[1,2.5,true,null,"\"\\\n<script>\u0000𝛼"],"big":9007199254740993,"e":{}}"#
        let value = try JSONValue(json: Data(text.utf8))
        #expect(value["big"]?.integer == 9_007_199_254_740_993)
        #expect(try JSONValue(json: value.encoded()) == value)
    }

    @Test func leasesExpireOnlyAfterTheirTime() {
        var table = LeaseTable(duration: .seconds(30))
        let start = ContinuousClock.now
        let job = JobID(run: RunID(milliseconds: 1, random: (1, 1)), index: 0)
        table.extend(job, token: 7, at: start)
        #expect(table.expired(at: start + .seconds(29)).isEmpty)
        #expect(table.expired(at: start + .seconds(30)) == [LeaseTable.Lease(job: job, token: 7)])
        #expect(table.hasExpired(LeaseTable.Lease(job: job, token: 7), at: start + .seconds(30)))
        #expect(!table.hasExpired(LeaseTable.Lease(job: job, token: 7), at: start + .seconds(29)))
        #expect(!table.hasExpired(LeaseTable.Lease(job: job, token: 6), at: start + .seconds(30)))
        table.extendAll(at: start + .seconds(30))
        #expect(table.expired(at: start + .seconds(59)).isEmpty)
        // The end of an older attempt says nothing of this one.
        table.release(LeaseTable.Lease(job: job, token: 6))
        #expect(table.expired(at: start + .seconds(90)).count == 1)
        table.release(LeaseTable.Lease(job: job, token: 7))
        #expect(table.expired(at: start + .seconds(90)).isEmpty)
    }
}
