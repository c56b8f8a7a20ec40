import Jobs

/// Walks through all resources of the configured levels, a page at a time, again and again. A value without input or output.
struct Sweep: Sendable {
    struct Page: Sendable, Hashable {
        var level: ResourceLevel
        var offset: Int
    }

    private enum State {
        case resting(until: ContinuousClock.Instant)
        case walking(Walk)
    }

    private struct Walk {
        var levelIndex = 0
        var offset = 0
        /// The change log's newest entry when the walk began.
        var sequence: Int64
        /// Resources that were too young, unstable or not readable.
        var pending = 0
    }

    private let levels: [ResourceLevel]
    private let interval: Duration
    private var state: State
    /// The change log's newest entry when a walk began that left nothing pending.
    private var quietSince: Int64?
    private var skipped = 0

    /// So many walks in a row are skipped at most. A list that shifts while it is read, because something was deleted, may have hidden a
    /// resource, and the ledger may be another one by now: the change log tells of neither.
    static let skippable = 11

    init(levels: [ResourceLevel], interval: Duration, now: ContinuousClock.Instant) {
        self.levels = levels
        self.interval = interval
        state = .resting(until: now)
    }

    var isUnderWay: Bool {
        if case .walking = state { true } else { false }
    }

    /// The page to look at now, if any. A walk whose predecessor left nothing pending is skipped while the change log has not moved, some times.
    mutating func next(now: ContinuousClock.Instant, lastSequence: Int64) -> Page? {
        switch state {
        case .resting(let until):
            guard now >= until else { return nil }
            if quietSince == lastSequence, skipped < Self.skippable {
                skipped += 1
                state = .resting(until: now + interval)
                return nil
            }
            skipped = 0
            state = .walking(Walk(sequence: lastSequence))
            return Page(level: levels[0], offset: 0)
        case .walking(let walk):
            return Page(level: levels[walk.levelIndex], offset: walk.offset)
        }
    }

    /// Call it when the page has been dealt with.
    mutating func finish(count: Int, pending: Int, isLast: Bool, now: ContinuousClock.Instant) {
        guard case .walking(var walk) = state else { return }
        walk.pending += pending
        if !isLast {
            walk.offset += count
        } else if walk.levelIndex + 1 < levels.count {
            walk.levelIndex += 1
            walk.offset = 0
        } else {
            quietSince = walk.pending == 0 ? walk.sequence : nil
            state = .resting(until: now + interval)
            return
        }
        state = .walking(walk)
    }

    /// Begins a walk as soon as possible, at its first page.
    mutating func restart(now: ContinuousClock.Instant) {
        quietSince = nil
        state = .resting(until: now)
    }
}
