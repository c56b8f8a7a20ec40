import Testing

@testable import Worker

@Suite(.timeLimit(.minutes(1))) struct SlotsTests {
    @Test("As many as there are, and one more for each that is given back")
    func count() async {
        let slots = Slots(2)
        #expect(await slots.take(within: .zero))
        #expect(await slots.take(within: .zero))
        #expect(await !slots.take(within: .milliseconds(20)))
        slots.release()
        #expect(await slots.take(within: .zero))
    }

    @Test("Who waits gets the next one")
    func waiting() async {
        let slots = Slots(1)
        #expect(await slots.take(within: .zero))
        async let second = slots.take(within: .seconds(30))
        async let third = slots.take(within: .seconds(30))
        slots.release()
        slots.release()
        #expect(await second)
        #expect(await third)
    }

    @Test("A cancelled wait takes nothing")
    func cancellation() async {
        let slots = Slots(1)
        #expect(await slots.take(within: .zero))
        let waiting = Task { await slots.take(within: .seconds(30)) }
        waiting.cancel()
        #expect(await !waiting.value)
        slots.release()
        #expect(await slots.take(within: .zero))
    }
}
