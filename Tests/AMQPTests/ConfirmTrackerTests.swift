import TestSupport
import Testing

@testable import AMQP

@Suite struct ConfirmTrackerTests {
    private func tracker(_ count: Int) -> ConfirmTracker<Int> {
        var tracker = ConfirmTracker<Int>()
        for index in 1...count { tracker.append(index) }
        return tracker
    }

    @Test func `tags count from one`() {
        var tracker = ConfirmTracker<Int>()
        #expect(tracker.nextTag == 1)
        tracker.append(1)
        #expect(tracker.nextTag == 2)
        #expect(tracker.settle(tag: 1, multiple: false).map(\.entry) == [1])
        #expect(tracker.nextTag == 2)
        #expect(tracker.isEmpty)
    }

    @Test func `several at once and out of order`() {
        var tracker = tracker(6)
        #expect(tracker.settle(tag: 4, multiple: false).map(\.entry) == [4])
        #expect(tracker.settle(tag: 2, multiple: false).map(\.entry) == [2])
        #expect(tracker.settle(tag: 5, multiple: true).map(\.entry) == [1, 3, 5])
        #expect(tracker.count == 1)
        #expect(tracker.settle(tag: 6, multiple: true).map(\.entry) == [6])
        #expect(tracker.isEmpty)
    }

    @Test func `zero with multiple means all`() {
        var tracker = tracker(3)
        #expect(tracker.settle(tag: 0, multiple: true).map(\.entry) == [1, 2, 3])
        #expect(tracker.settle(tag: 0, multiple: true).isEmpty)
    }

    @Test func `tags that are not open settle nothing`() {
        var tracker = tracker(3)
        #expect(tracker.settle(tag: 4, multiple: false).isEmpty)
        #expect(tracker.settle(tag: 4, multiple: true).isEmpty)
        #expect(tracker.settle(tag: 0, multiple: false).isEmpty)
        #expect(tracker.settle(tag: 2, multiple: false).map(\.entry) == [2])
        #expect(tracker.settle(tag: 2, multiple: false).isEmpty)
        #expect(tracker.count == 2)
    }

    @Test func `a return marks the first match and its ack tells`() {
        var tracker = ConfirmTracker<String>()
        for name in ["a", "b", "a"] { tracker.append(name) }
        let error = AMQPError(.returned, "no queue")
        let first = tracker.markReturned(error) { $0 == "a" }
        let second = tracker.markReturned(error) { $0 == "a" }
        let third = tracker.markReturned(error) { $0 == "a" }
        let stranger = tracker.markReturned(error) { $0 == "c" }
        #expect([first, second, third, stranger] == [true, true, false, false])
        let settled = tracker.settle(tag: 3, multiple: true)
        #expect(settled.map { $0.returned != nil } == [true, false, true])
    }

    @Test func `a lost channel gives back what is open, in order, and tags start anew`() {
        var tracker = tracker(5)
        _ = tracker.settle(tag: 1, multiple: false)
        _ = tracker.settle(tag: 3, multiple: false)
        #expect(tracker.removeAll() == [2, 4, 5])
        #expect(tracker.isEmpty)
        #expect(tracker.nextTag == 1)
    }

    @Test func `what is let go gives its place away, and its confirm settles nothing`() {
        var tracker = tracker(3)
        tracker.remove { $0 != 2 }
        #expect(tracker.count == 1)
        #expect(tracker.nextTag == 4)
        #expect(tracker.settle(tag: 1, multiple: false).isEmpty)
        #expect(tracker.settle(tag: 3, multiple: false).isEmpty)
        tracker.append(4)
        #expect(tracker.settle(tag: 3, multiple: true).map(\.entry) == [2])
        #expect(tracker.settle(tag: 4, multiple: false).map(\.entry) == [4])
        #expect(tracker.isEmpty)
    }

    /// Against a plain dictionary, with random acks over many more tags than the tracker keeps slots for.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `random histories settle each message once`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var tracker = ConfirmTracker<UInt64>()
        var open: Set<UInt64> = []
        var last: UInt64 = 0
        for _ in 0..<3000 {
            if Bool.random(using: &random) || open.isEmpty {
                last += 1
                #expect(tracker.nextTag == last)
                tracker.append(last)
                open.insert(last)
            } else if UInt8.random(in: 0..<4, using: &random) == 0 {
                let tag = UInt64.random(in: max(1, last > 40 ? last - 40 : 1)...last, using: &random)
                let expected = open.filter { $0 <= tag }.sorted()
                #expect(tracker.settle(tag: tag, multiple: true).map(\.entry) == expected)
                open.subtract(expected)
            } else {
                let tag = open.randomElement(using: &random)!
                #expect(tracker.settle(tag: tag, multiple: false).map(\.entry) == [tag])
                open.remove(tag)
            }
            #expect(tracker.count == open.count)
        }
        #expect(tracker.removeAll() == open.sorted())
    }
}

/// Acks, nacks and returns as a broker sends them, against a plain model.
@Suite struct ConfirmTrackerModelTests {
    private struct Message: Equatable {
        var tag: UInt64
        /// Many have the same: a return names no tag.
        var id: String
    }

    @Test(arguments: 1...50 as ClosedRange<UInt64>)
    func `a return settles its own message and no other, whatever the order of the confirms`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var tracker = ConfirmTracker<Message>()
        var open: [UInt64: Message] = [:]
        var returned: Set<UInt64> = []
        var last: UInt64 = 0
        var settled: Set<UInt64> = []
        for _ in 0..<2000 {
            switch UInt8.random(in: 0..<8, using: &random) {
            case 0...3:
                last += 1
                let message = Message(tag: last, id: "id\(UInt8.random(in: 0..<3, using: &random))")
                tracker.append(message)
                open[last] = message
            case 4:
                // The broker routes in order: of equal ones, those in front have been returned already.
                let candidates = open.values.filter { !returned.contains($0.tag) }.sorted { $0.tag < $1.tag }
                guard let id = candidates.randomElement(using: &random)?.id, let first = candidates.first(where: { $0.id == id }) else {
                    continue
                }
                let marked = tracker.markReturned(AMQPError(.returned, "\(first.tag)")) { $0.id == id }
                #expect(marked)
                returned.insert(first.tag)
            default:
                guard !open.isEmpty else { continue }
                let multiple = UInt8.random(in: 0..<4, using: &random) == 0
                // A tag that is settled already settles nothing a second time.
                let tag = UInt64.random(in: max(1, last > 20 ? last - 20 : 1)...last, using: &random)
                let expected = multiple ? open.keys.filter { $0 <= tag }.sorted() : open[tag].map { [$0.tag] } ?? []
                let confirmed = tracker.settle(tag: tag, multiple: multiple)
                #expect(confirmed.map(\.entry.tag) == expected)
                for one in confirmed {
                    #expect(settled.insert(one.entry.tag).inserted)
                    #expect((one.returned != nil) == returned.contains(one.entry.tag))
                    #expect(one.returned == nil || one.returned?.message == "\(one.entry.tag)")
                    open[one.entry.tag] = nil
                }
            }
            #expect(tracker.count == open.count)
        }
        #expect(tracker.removeAll().map(\.tag) == open.keys.sorted())
    }
}
