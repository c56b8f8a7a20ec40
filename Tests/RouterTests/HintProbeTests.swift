import Foundation
import Jobs
import TestSupport
import Testing

@testable import Router

@Suite struct HintProbeTests {
    let lane = HintLane(channel: "default", priority: .default)
    let start = Date(timeIntervalSince1970: 1_700_000_000)

    func at(_ seconds: Double) -> Date { start.addingTimeInterval(seconds) }
    func waiting(since seconds: Double) -> [HintLane: Date] { [lane: at(seconds)] }

    @Test func whatHasNotWaitedLongIsLeftAlone() {
        var probe = HintProbe(firstNumber: 0)
        let early = probe.overdue(waiting(since: 0), at: at(60))
        #expect(early.isEmpty)
        let due = probe.overdue(waiting(since: 0), at: at(61))
        #expect(due == [lane])
    }

    @Test func theVerdictIsOnWhatWasConfirmedBeforeTheMarker() throws {
        var probe = HintProbe(firstNumber: 41)
        _ = probe.overdue(waiting(since: 0), at: at(61))
        let sent = probe.marker(for: lane, at: at(61))
        let number = try #require(sent)
        #expect(number == 42)
        #expect(probe.verdicts(at: at(1000)).isEmpty)
        probe.returned(number, at: at(100))
        #expect(probe.verdicts(at: at(114)).isEmpty)
        #expect(probe.verdicts(at: at(115)) == [lane: at(61)])
        // One verdict at a time.
        let pending = probe.overdue(waiting(since: 0), at: at(115))
        #expect(pending.isEmpty)
        probe.settle(lane)
        let anew = probe.overdue(waiting(since: 0), at: at(116))
        #expect(anew == [lane])
    }

    @Test func anEmptyQueueNeedsNoMarker() {
        var probe = HintProbe(firstNumber: 0)
        probe.isEmpty(lane, at: at(70))
        #expect(probe.verdicts(at: at(85)) == [lane: at(70)])
    }

    @Test func aChannelWithoutWorkersIsNotFloodedWithMarkers() {
        var probe = HintProbe(firstNumber: 0)
        var sent = 0
        for second in stride(from: 61.0, to: 86_400, by: 15) {
            for lane in probe.overdue(waiting(since: 0), at: at(second)) where probe.marker(for: lane, at: at(second)) != nil { sent += 1 }
        }
        #expect((20...40).contains(sent), "\(sent) markers in a day")
    }

    @Test func anyOfTheMarkersThatAreOutWillDo() throws {
        var probe = HintProbe(firstNumber: 0)
        _ = probe.marker(for: lane, at: at(61))
        let sent = probe.marker(for: lane, at: at(400))
        let second = try #require(sent)
        probe.returned(second, at: at(401))
        #expect(probe.verdicts(at: at(500)) == [lane: at(400)])
    }

    @Test func strangeMarkersMeanNothing() {
        var probe = HintProbe(firstNumber: 0)
        _ = probe.marker(for: lane, at: at(61))
        probe.returned(77, at: at(62))
        #expect(probe.verdicts(at: at(500)).isEmpty)
    }

    @Test func aMarkerThatWasNotSentIsSentAtTheNextSweep() throws {
        var probe = HintProbe(firstNumber: 0)
        let sent = probe.marker(for: lane, at: at(61))
        let number = try #require(sent)
        let early = probe.marker(for: lane, at: at(76))
        #expect(early == nil)
        probe.notSent(number)
        let again = probe.marker(for: lane, at: at(76))
        #expect(again != nil)
    }

    /// A broker's priority queue, workers that come and go, hints that vanish from its middle, and copies that nobody needs: every lost
    /// hint is found, and, as long as nothing is handed back, no hint that only waits is taken for lost.
    @Test(arguments: 0..<200)
    func inAQueueThatIsNeverEmptyEveryLostHintIsFoundAndNoOther(seed: Int) {
        var model = QueueModel(seed: UInt64(seed))
        for _ in 0..<2400 { model.step() }
        #expect(model.falseAlarms == 0)
        #expect(model.lost > 0)
        #expect(model.found > 0)
        #expect(model.longestSearch < 600, "a lost hint was looked for during \(model.longestSearch) s")
        #expect(model.wasEmpty == false)
    }
}

/// Seconds pass; a router sweeps every 15 s.
private struct QueueModel {
    struct Message {
        var priority: Priority
        /// Nil for copies that nobody needs.
        var job: Int?
        var marker: Int?
    }

    private var generator: SeededGenerator
    private var probe = HintProbe(firstNumber: 0)
    private var queue: [Message] = []
    /// Jobs that were dispatched and not claimed: when their hint was confirmed, and whether it was lost.
    private var dispatched: [Int: (priority: Priority, at: Double, lostAt: Double?)] = [:]
    private var lastJob = 0
    private var now = 0.0
    private(set) var lost = 0
    private(set) var found = 0
    private(set) var falseAlarms = 0
    private(set) var longestSearch = 0.0
    private(set) var wasEmpty = false

    init(seed: UInt64) {
        generator = SeededGenerator(seed: seed &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        for _ in 0..<40 { submit() }
    }

    private func date(_ seconds: Double) -> Date { Date(timeIntervalSince1970: 1_700_000_000 + seconds) }

    private mutating func submit() {
        lastJob += 1
        let priority: Priority = Bool.random(using: &generator) ? .default : .high
        dispatched[lastJob] = (priority, now, nil)
        queue.append(Message(priority: priority, job: lastJob))
        // A copy that nobody needs, as after a cancel: counting messages would find nothing missing.
        if Int.random(in: 0..<3, using: &generator) == 0 { queue.append(Message(priority: priority)) }
    }

    private mutating func deliver() {
        guard let top = queue.map(\.priority).max(), let index = queue.firstIndex(where: { $0.priority == top }) else { return }
        let message = queue.remove(at: index)
        if let job = message.job { dispatched[job] = nil }
        if let marker = message.marker { probe.returned(marker, at: date(now)) }
    }

    mutating func step() {
        now += 1
        // As much work as workers, and always some of it waiting.
        while queue.count < 20 { submit() }
        if Int.random(in: 0..<4, using: &generator) != 0 { deliver() }
        if Int.random(in: 0..<2, using: &generator) == 0 { submit() }
        if queue.count > 60 { deliver() }
        if Int.random(in: 0..<80, using: &generator) == 0, let index = queue.indices.randomElement(using: &generator) {
            let message = queue.remove(at: index)
            if let job = message.job {
                dispatched[job]?.lostAt = now
                lost += 1
            }
        }
        wasEmpty = wasEmpty || queue.isEmpty
        if now.truncatingRemainder(dividingBy: 15) == 0 { sweep() }
    }

    private mutating func sweep() {
        for (lane, before) in probe.verdicts(at: date(now)) {
            for (job, state) in dispatched where state.priority == lane.priority && date(state.at) < before {
                if let lostAt = state.lostAt {
                    found += 1
                    longestSearch = max(longestSearch, now - max(lostAt, state.at))
                } else {
                    falseAlarms += 1
                }
                dispatched[job] = (state.priority, now, nil)
                queue.append(Message(priority: state.priority, job: job))
            }
            probe.settle(lane)
        }
        var waiting: [HintLane: Date] = [:]
        for state in dispatched.values {
            let lane = HintLane(channel: "default", priority: state.priority)
            waiting[lane] = min(waiting[lane] ?? .distantFuture, date(state.at))
        }
        for lane in probe.overdue(waiting, at: date(now)) {
            if let number = probe.marker(for: lane, at: date(now)) { queue.append(Message(priority: lane.priority, marker: number)) }
        }
    }
}
