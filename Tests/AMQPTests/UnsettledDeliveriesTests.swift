import Testing

@testable import AMQP

@Suite struct UnsettledDeliveriesTests {
    @Test func `each delivery is settled once`() {
        var unsettled = UnsettledDeliveries()
        for tag in 1...5 as ClosedRange<UInt64> { #expect(unsettled.insert(tag) == true) }
        #expect(unsettled.settle(2, multiple: false) == true)
        #expect(unsettled.settle(2, multiple: false) == false)
        #expect(unsettled.settle(3, multiple: true) == true)
        #expect(unsettled.settle(1, multiple: false) == false)
        #expect(unsettled.settle(3, multiple: true) == false)
        #expect(unsettled.settle(6, multiple: true) == false)
        #expect(unsettled.settle(0, multiple: true) == false)
        #expect(unsettled.count == 2)
        #expect(unsettled.firstOpen == 4)
        #expect(unsettled.settle(5, multiple: true) == true)
        #expect(unsettled.count == 0)
        #expect(unsettled.firstOpen == 6)
    }

    @Test func `a tag out of turn is refused`() {
        var unsettled = UnsettledDeliveries()
        #expect(unsettled.insert(2) == false)
        #expect(unsettled.insert(1) == true)
        #expect(unsettled.insert(1) == false)
    }

    @Test func `memory does not grow with the number of deliveries`() {
        var unsettled = UnsettledDeliveries()
        for tag in 1...100_000 as ClosedRange<UInt64> {
            #expect(unsettled.insert(tag) == true)
            if tag > 10 { #expect(unsettled.settle(tag - 10, multiple: false) == true) }
        }
        #expect(unsettled.count == 10)
    }
}
