/// Which published messages still wait for the broker's confirm on one channel, in the order of their delivery tags.
///
/// The broker may confirm several at once and out of order; a message that no queue wanted is returned before its ack.
struct ConfirmTracker<Entry> {
    struct Confirmed {
        var entry: Entry
        /// Why the message was returned, when it was.
        var returned: AMQPError?
    }

    private struct Slot {
        var entry: Entry
        var returned: AMQPError?
    }

    /// The slots from tag `base` on; nil is a message that was confirmed, or removed, ahead of an earlier one.
    private var slots: [Slot?] = []
    /// Index of the first slot still in use: slots in front of it are removed in bulk.
    private var head = 0
    private var base: UInt64 = 1
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The delivery tag that the next message gets.
    var nextTag: UInt64 { base + UInt64(slots.count) }

    mutating func append(_ entry: Entry) {
        slots.append(Slot(entry: entry))
        count += 1
    }

    /// - Returns: what this tag settles, in publishing order; nothing for a tag that is not open.
    mutating func settle(tag: UInt64, multiple: Bool) -> [Confirmed] {
        // Tag 0 with `multiple` means everything so far.
        let last = multiple && tag == 0 ? nextTag - 1 : tag
        guard last >= base + UInt64(head), last < nextTag else { return [] }
        let lastIndex = Int(last - base)
        var settled: [Confirmed] = []
        for index in (multiple ? head : lastIndex)...lastIndex {
            guard let slot = slots[index] else { continue }
            settled.append(Confirmed(entry: slot.entry, returned: slot.returned))
            slots[index] = nil
            count -= 1
        }
        trim()
        return settled
    }

    /// Marks the first open entry that matches as returned; its ack settles it.
    mutating func markReturned(_ error: AMQPError, where matches: (Entry) -> Bool) -> Bool {
        for index in head..<slots.count {
            guard let slot = slots[index], slot.returned == nil, matches(slot.entry) else { continue }
            slots[index]?.returned = error
            return true
        }
        return false
    }

    /// Everything open, in publishing order; tags start anew, as on a new channel.
    mutating func removeAll() -> [Entry] {
        let entries = slots[head...].compactMap { $0?.entry }
        self = ConfirmTracker()
        return entries
    }

    /// Lets go of what nobody waits for any more. Its tag stays used: a confirm that still comes settles nothing.
    mutating func remove(where isDue: (Entry) -> Bool) {
        for index in head..<slots.count {
            guard let slot = slots[index], isDue(slot.entry) else { continue }
            slots[index] = nil
            count -= 1
        }
        trim()
    }

    private mutating func trim() {
        while head < slots.count, slots[head] == nil { head += 1 }
        // Moving the rest only when half the array is dead keeps this constant on average.
        guard head > 64, head * 2 > slots.count else { return }
        slots.removeFirst(head)
        base += UInt64(head)
        head = 0
    }
}
