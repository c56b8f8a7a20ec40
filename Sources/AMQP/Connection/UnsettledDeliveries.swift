/// Which deliveries of one channel wait for their ack. Settling one twice would make the broker close the channel, so what is
/// not open is refused here.
struct UnsettledDeliveries {
    /// Whether the delivery at this place is open, from tag `base` on. The broker numbers them one by one.
    private var open: [Bool] = []
    private var head = 0
    private var base: UInt64 = 1
    private(set) var count = 0

    /// The lowest open tag; with none open, the tag of the next delivery.
    var firstOpen: UInt64 { base + UInt64(head) }

    /// - Returns: false when the tag does not follow the last one, which a broker never does.
    mutating func insert(_ tag: UInt64) -> Bool {
        guard tag == base + UInt64(open.count) else { return false }
        open.append(true)
        count += 1
        return true
    }

    /// - Returns: whether the tag was open, so whether the broker may be told.
    mutating func settle(_ tag: UInt64, multiple: Bool) -> Bool {
        guard tag >= base, tag < base + UInt64(open.count) else { return false }
        let index = Int(tag - base)
        guard index >= head, open[index] else { return false }
        for index in (multiple ? head : index)...index where open[index] {
            open[index] = false
            count -= 1
        }
        while head < open.count, !open[head] { head += 1 }
        if head > 256, head * 2 > open.count {
            open.removeFirst(head)
            base += UInt64(head)
            head = 0
        }
        return true
    }
}
