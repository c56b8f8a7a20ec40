import JobStore
import Jobs
import Orthanc

/// Decides what a page of Orthanc's change log means: which entries are new, and whether it still is the log that the cursor stands in.
///
/// A value without input or output. After new entries the last `window` ones are read again for some polls: where several writers share
/// a PostgreSQL database, an entry can become visible after one with a higher number.
struct ChangeFeed: Sendable {
    enum Verdict: Sendable, Hashable {
        /// Entries to deal with, in order; `isDone` when the log has no more.
        case changes([OrthancChange], isDone: Bool)
        /// Entries up to the log's end were removed before they could be read. The cursor has moved there.
        case gap
        /// This is not the log that the cursor stands in.
        case anomaly(Reason)
    }

    static let window: Int64 = 200
    private static let polls = 5
    /// The anchor is checked at least once in so many polls.
    private static let checkInterval = 60

    private(set) var cursor: IngestCursor
    /// The newest entry's number as far as known.
    private(set) var last: Int64
    /// Entries up to this one were dealt with before this process started.
    private let floor: Int64
    private var handled: Set<Int64> = []
    private var rereads = 1
    private var pollsSinceCheck = 0

    init(cursor: IngestCursor) {
        self.cursor = cursor
        last = cursor.sequence
        floor = cursor.sequence
    }

    /// Where the next page begins.
    var since: Int64 {
        guard rereads > 0 else { return cursor.sequence }
        // One before the cursor at least, so that the page shows the cursor's own entry.
        return max(0, min(cursor.sequence - 1, max(floor, cursor.sequence - Self.window)))
    }

    /// - Parameter since: what the page was asked with.
    mutating func judge(_ page: OrthancChanges, since: Int64) -> Verdict {
        if let reason = anomaly(in: page, since: since) { return .anomaly(reason) }
        countPoll()
        let new = page.changes.filter { $0.sequence > floor && !handled.contains($0.sequence) }
        if let newest = page.changes.last {
            last = max(last, newest.sequence)
        } else if page.isDone, page.last > cursor.sequence {
            cursor = IngestCursor(sequence: page.last)
            last = page.last
            return .gap
        }
        if !new.isEmpty { rereads = Self.polls }
        return .changes(new, isDone: page.isDone)
    }

    /// Call it for each entry once it has been dealt with.
    mutating func finish(_ change: OrthancChange) {
        handled.insert(change.sequence)
        guard change.sequence > cursor.sequence else { return }
        cursor = IngestCursor(sequence: change.sequence, resource: change.id.rawValue, date: change.date)
        if handled.count > 4 * Int(Self.window) {
            handled = handled.filter { $0 > change.sequence - 2 * Self.window }
        }
    }

    private mutating func countPoll() {
        if rereads > 0 {
            rereads -= 1
            pollsSinceCheck = 0
        } else {
            pollsSinceCheck += 1
            if pollsSinceCheck >= Self.checkInterval { rereads = 1 }
        }
    }

    private func anomaly(in page: OrthancChanges, since: Int64) -> Reason? {
        if page.last < 0 || page.changes.contains(where: { $0.sequence < 0 }) {
            return Reason("negative", "The change log has a negative number: Orthanc's counter has overflowed.")
        }
        for (previous, next) in zip([since] + page.changes.map(\.sequence), page.changes.map(\.sequence)) where next <= previous {
            return Reason("disordered", "Entry \(next) of the change log follows entry \(previous).")
        }
        if page.changes.isEmpty, page.last < cursor.sequence {
            return Reason(
                "rewound", "The change log ends at \(page.last), before entry \(cursor.sequence) that was read already: another database.")
        }
        if let anchor = page.changes.first(where: { $0.sequence == cursor.sequence }), !cursor.resource.isEmpty,
            anchor.id.rawValue != cursor.resource || anchor.date != cursor.date
        {
            return Reason("replaced", "Entry \(cursor.sequence) of the change log is not the one that was read before: another database.")
        }
        return nil
    }
}
