import Bootstrap
import Foundation
import Jobs
import Synchronization

/// Hints of one channel and one priority: the broker delivers them in the order in which it took them.
struct HintLane: Hashable, Sendable {
    var channel: String
    var priority: Priority
}

/// Tells lost hints from hints that only wait, also in a queue that is never empty and holds copies that nobody needs.
///
/// Counting cannot do it: a lost hint hides behind any stale copy. The order of delivery can. A job queue is first in, first out within
/// one priority, so the router puts a *marker* behind the hints of a lane: a hint of no job. Workers claim it like any other. When
/// that claim comes, everything of the lane that was in the queue before the marker has left the queue. A job whose hint was confirmed
/// before the marker was sent, and that is still unclaimed some seconds later, has no hint: it was lost (or it is in the hands of a
/// worker that has not asked yet; the copy that is then sent does no harm, because the claim decides). A queue without a waiting
/// message says the same as a marker that came back, and at once.
///
/// The bound: a lost hint is found `patience` + one sweep + `grace` after it was due once the lane has moved up to its marker; a lane that
/// does not move has no free worker, and nobody could run the job anyway. A hint that no slot was free for goes back to its place in the
/// queue; at worst that makes a superfluous copy. A marker that is lost too is sent again after `resend`, then after twice as long
/// each time, so that a channel without workers does not fill up with markers. What is behind a steady stream of higher priorities is
/// not lost but starved: ageing moves it to a lane that moves.
struct HintProbe {
    /// Seconds.
    struct Timing: Sendable {
        /// How long a confirmed hint may wait before it is worth a look.
        var patience = Pace.scaled(60.0)
        /// From the marker's return to the verdict: the time of a claim that was on its way.
        var grace = Pace.scaled(15.0)
        var resend = Pace.scaled(300.0)
        var longestResend = Pace.scaled(3600.0)
    }

    private struct Search {
        /// Markers that are out, by number, and when each was sent.
        var markers: [Int: Date] = [:]
        var lastSent: Date?
        var resend: TimeInterval
        /// Hints confirmed up to here have left the queue, as was known at `passedAt`.
        var passed: Date?
        var passedAt: Date?
    }

    private let timing: Timing
    private var searches: [HintLane: Search] = [:]
    private var lastNumber: Int

    /// - Parameter firstNumber: above those of earlier routers, whose markers may still be in the queues.
    init(_ timing: Timing = Timing(), firstNumber: Int) {
        self.timing = timing
        lastNumber = firstNumber
    }

    private var newSearch: Search { Search(resend: timing.resend) }

    /// The lanes in which something has waited so long that it is worth a look, and that no verdict is due for yet.
    mutating func overdue(_ waiting: [HintLane: Date], at now: Date) -> [HintLane] {
        // Lanes in which nothing waits any more are forgotten; a marker that still comes back says nothing then.
        searches = searches.filter { waiting[$0.key] != nil }
        return waiting.filter { now.timeIntervalSince($0.value) > timing.patience && searches[$0.key]?.passed == nil }.map(\.key)
    }

    /// - Returns: the number of the marker to send now; nil while one is out.
    mutating func marker(for lane: HintLane, at now: Date) -> Int? {
        var search = searches[lane] ?? newSearch
        if let last = search.lastSent {
            guard now.timeIntervalSince(last) > search.resend else { return nil }
            search.resend = min(search.resend * 2, timing.longestResend)
        }
        lastNumber += 1
        search.markers[lastNumber] = now
        search.lastSent = now
        searches[lane] = search
        return lastNumber
    }

    /// The broker did not take it.
    mutating func notSent(_ number: Int) {
        for lane in searches.keys where searches[lane]?.markers.removeValue(forKey: number) != nil { searches[lane]?.lastSent = nil }
    }

    /// A worker has claimed a marker.
    mutating func returned(_ number: Int, at now: Date) {
        for (lane, search) in searches {
            guard let sent = search.markers[number] else { continue }
            pass(lane, until: sent, at: now)
        }
    }

    /// The lane's queue holds no message.
    mutating func isEmpty(_ lane: HintLane, at now: Date) { pass(lane, until: now, at: now) }

    private mutating func pass(_ lane: HintLane, until sent: Date, at now: Date) {
        var search = searches[lane] ?? newSearch
        guard search.passed == nil else { return }
        search.passed = sent
        search.passedAt = now
        searches[lane] = search
    }

    /// The lanes for which a verdict is due: what was confirmed before the date and still waits is lost.
    func verdicts(at now: Date) -> [HintLane: Date] {
        searches.compactMapValues { search in
            guard let passed = search.passed, let passedAt = search.passedAt, now.timeIntervalSince(passedAt) >= timing.grace else {
                return nil
            }
            return passed
        }
    }

    /// The verdict has been carried out: the lane may be looked at anew.
    mutating func settle(_ lane: HintLane) { searches[lane] = nil }
}

/// A `HintProbe` that the sweep and the listener to claims share.
final class HintWatch: Sendable {
    private let probe: Mutex<HintProbe>

    init(_ timing: HintProbe.Timing) { probe = Mutex(HintProbe(timing, firstNumber: Int(Date().timeIntervalSince1970 * 1000))) }

    func with<Value: Sendable>(_ body: (inout HintProbe) -> Value) -> Value { probe.withLock { body(&$0) } }
}
