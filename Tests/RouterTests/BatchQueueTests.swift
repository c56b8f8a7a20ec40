import Testing

@testable import Router

@Suite struct BatchQueueTests {
    @Test func handsOverWhatHasPiledUpInOrder() async {
        let queue = BatchQueue<Int>()
        queue.append(contentsOf: 0..<5)
        #expect(queue.count == 5)
        #expect(await queue.next(upTo: 3) == [0, 1, 2])
        #expect(queue.count == 2)
        #expect(await queue.next(upTo: 3) == [3, 4])
    }

    @Test func wakesAWaitingReader() async {
        let queue = BatchQueue<Int>()
        async let batch = queue.next(upTo: 8)
        queue.append(1)
        #expect(await batch == [1])
    }

    @Test func whatIsLeftIsReadBeforeTheEnd() async {
        let queue = BatchQueue<Int>()
        queue.append(1)
        queue.finish()
        #expect(await queue.next(upTo: 8) == [1])
        #expect(await queue.next(upTo: 8) == nil)
    }

    @Test func whatHasTimeComesWithTheNextThatHasNone() async {
        let queue = BatchQueue<Int>()
        queue.appendPatiently(1)
        async let batch = queue.next(upTo: 8)
        queue.appendPatiently(2)
        queue.append(3)
        #expect(await batch == [1, 2, 3])
        // Nothing is urgent any more.
        queue.appendPatiently(4)
        async let later = queue.next(upTo: 8)
        queue.hurry()
        #expect(await later == [4])
    }

    @Test func patientElementsBehindALimitAreNotForgotten() async {
        let queue = BatchQueue<Int>()
        queue.append(1)
        queue.appendPatiently(2)
        #expect(await queue.next(upTo: 1) == [1])
        #expect(await queue.next(upTo: 1) == [2])
        queue.hurry()
        queue.appendPatiently(3)
        queue.finish()
        #expect(await queue.next(upTo: 8) == [3])
        #expect(await queue.next(upTo: 8) == nil)
    }

    @Test func nothingIsLostBetweenManyWriters() async {
        let queue = BatchQueue<Int>()
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<8 { group.addTask { for value in 0..<500 { queue.append(writer * 500 + value) } } }
            var seen: Set<Int> = []
            while seen.count < 4000, let batch = await queue.next(upTo: 64) { seen.formUnion(batch) }
            #expect(seen.count == 4000)
        }
    }
}
