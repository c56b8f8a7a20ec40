import JobStore
import Jobs
import Orthanc

/// Decides what a page of Orthanc's change log means: which entries are new, and whether it still is the log that the cursor stands in.
///
/// A value without input or output. Where several writers share a PostgreSQL database, an entry can become visible after one with a higher
/// number: whenever the log has moved, the last `window` entries are read again for some polls.
struct ChangeFeed: Sendable {
    enum Verdict: Sendable, Hashable {
        /// Entries to deal with, in order; `isDone` when the log has no more.
        case changes([OrthancChange], isDone: Bool)
        /// Entries up to the log's end were removed before they could be read.
        case gap
        /// This is not the log that the cursor stands in.
        case anomaly(Reason)
    }

    /// The only kinds that pages hold; empty: all of them.
    let kinds: [OrthancChange.Kind]

    static let window: Int64 = 200
    private static let polls = 5
    /// The anchor is checked at least once in so many polls.
    private static let checkInterval = 60

    /// The last entry that was dealt with: where a restart goes on.
    private(set) var cursor: IngestCursor
    /// Up to here there is nothing more to read. Beyond the cursor when what follows it was removed, or is of other kinds.
    private(set) var position: Int64
    /// The newest entry's number as far as known.
    private(set) var last: Int64
    /// Entries up to this one were dealt with before this process started.
    private let floor: Int64
    private var handled: Set<Int64> = []
    private var rereads = 0
    private var checksAnchor = true
    private var pollsSinceCheck = 0

    init(cursor: IngestCursor, kinds: [OrthancChange.Kind] = []) {
        self.cursor = cursor
        self.kinds = kinds
        position = cursor.sequence
        last = cursor.sequence
        floor = cursor.sequence
    }

    /// Where the next page begins.
    var since: Int64 {
        // One before the cursor, so that the page shows the cursor's own entry.
        if checksAnchor { return max(0, cursor.sequence - 1) }
        return rereads > 0 ? max(floor, position - Self.window) : position
    }

    /// - Parameter since: what the page was asked with.
    mutating func judge(_ page: OrthancChanges, since: Int64) -> Verdict {
        if let reason = anomaly(in: page, since: since) { return .anomaly(reason) }
        countPoll()
        let new = page.changes.filter { $0.sequence > floor && !handled.contains($0.sequence) }
        if let newest = page.changes.last {
            last = max(last, newest.sequence)
            // The page shows that there is nothing between.
            position = max(position, (new.first?.sequence ?? newest.sequence + 1) - 1)
        } else if page.isDone, page.last > position {
            position = page.last
            last = max(last, page.last)
            rereads = Self.polls
            if kinds.isEmpty { return .gap }
        }
        if !new.isEmpty { rereads = Self.polls }
        return .changes(new, isDone: page.isDone)
    }

    /// Call it for each entry once it has been dealt with.
    mutating func finish(_ change: OrthancChange) {
        handled.insert(change.sequence)
        position = max(position, change.sequence)
        guard change.sequence > cursor.sequence else { return }
        cursor = IngestCursor(sequence: change.sequence, resource: change.id.rawValue, date: change.date)
        if handled.count > 4 * Int(Self.window) {
            handled = handled.filter { $0 > change.sequence - 2 * Self.window }
        }
    }

    private mutating func countPoll() {
        if checksAnchor {
            checksAnchor = false
            pollsSinceCheck = 0
            return
        }
        if rereads > 0 { rereads -= 1 }
        pollsSinceCheck += 1
        if pollsSinceCheck >= Self.checkInterval { checksAnchor = true }
    }

    private func anomaly(in page: OrthancChanges, since: Int64) -> Reason? {
        if page.last < 0 || page.changes.contains(where: { $0.sequence < 0 }) {
            return Reason("negative", "The change log has a negative number: Orthanc's counter has overflowed.")
        }
        for (previous, next) in zip([since] + page.changes.map(\.sequence), page.changes.map(\.sequence)) where next <= previous {
            return Reason("disordered", "Entry \(next) of the change log follows entry \(previous).")
        }
        if page.changes.isEmpty, page.last < position {
            return Reason(
                "rewound", "The change log ends at \(page.last), before entry \(position) that was read already: another database.")
        }
        if let anchor = page.changes.first(where: { $0.sequence == cursor.sequence }), !cursor.resource.isEmpty,
            anchor.id.rawValue != cursor.resource || anchor.date != cursor.date
        {
            return Reason("replaced", "Entry \(cursor.sequence) of the change log is not the one that was read before: another database.")
        }
        return nil
    }
}
