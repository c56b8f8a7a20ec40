import JobStore
import Jobs

/// Active runs as they were committed last, those used last. Only the writer changes runs, so a copy in memory cannot be stale.
///
/// Bounded by what the runs weigh, not by their number alone: the headers of one study can be as large as those of a thousand others.
struct RunCache: Sendable {
    private struct Entry: Sendable {
        var stored: StoredRun
        var weight: Int
        var lastUse: UInt64
    }

    private let weightLimit: Int
    private let countLimit: Int
    private var entries: [RunID: Entry] = [:]
    /// About as many bytes as the runs take in memory.
    private(set) var weight = 0
    private var uses: UInt64 = 0

    init(weightLimit: Int = 32 << 20, countLimit: Int = 2000) {
        self.weightLimit = weightLimit
        self.countLimit = countLimit
    }

    var count: Int { entries.count }

    subscript(run: RunID) -> StoredRun? { entries[run]?.stored }

    /// Takes over what a batch has worked on; runs that have ended leave.
    mutating func keep(_ used: [RunID: StoredRun]) {
        uses += 1
        for (id, stored) in used {
            guard !stored.run.state.isTerminal else {
                forget(id)
                continue
            }
            // Headers never change, and weighing them costs more than all the rest.
            let known = entries[id]?.weight
            let weight = known ?? Self.weight(stored)
            if known == nil { self.weight += weight }
            entries[id] = Entry(stored: stored, weight: weight, lastUse: uses)
        }
        if weight > weightLimit || entries.count > countLimit { shrink() }
    }

    mutating func forget(_ id: RunID) {
        if let entry = entries.removeValue(forKey: id) { weight -= entry.weight }
    }

    /// Below the limits by a quarter, so that not every batch has to look for the oldest.
    private mutating func shrink() {
        for (id, _) in entries.sorted(by: { $0.value.lastUse < $1.value.lastUse }) {
            guard weight > weightLimit * 3 / 4 || entries.count > countLimit * 3 / 4 else { return }
            forget(id)
        }
    }

    private static func weight(_ stored: StoredRun) -> Int {
        2048 * (1 + stored.run.jobs.count) + weight(stored.context.headers) + weight(.object(stored.context.addedParams))
    }

    private static func weight(_ value: JSONValue) -> Int {
        switch value {
        case .null, .bool, .integer, .number: 24
        case .string(let text): 24 + (text.utf8.count > 15 ? 32 + text.utf8.count : 0)
        case .array(let elements): elements.reduce(56) { $0 + weight($1) }
        case .object(let members): members.reduce(96) { $0 + 64 + $1.key.utf8.count + weight($1.value) }
        }
    }
}
