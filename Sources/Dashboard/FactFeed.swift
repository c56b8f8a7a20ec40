import Foundation
package import JobStore
import Jobs
package import Logging
import ServiceLifecycle
import Synchronization

/// What happens, as it happens, for every open page.
///
/// The ledger is the source: a doorbell (the broker's `dcm.events`) only says that there is something to read, and a
/// slow poll covers for a doorbell that does not ring. One reader serves all: the latest facts stay in memory, a page
/// that fell further behind reads the ledger, and nobody has a queue of his own that could grow.
package final class FactFeed: Service, Sendable {
    private struct State {
        var latest: Int64?
        /// The newest command's end.
        var command: Int64 = 0
        /// In order, without gaps, ending at `latest`.
        var recent: [FactNotice] = []
        var watchers: [Int: AsyncStream<Void>.Continuation] = [:]
        /// Those that are the monitor itself, no page.
        var own: Set<Int> = []
        var nextWatcher = 0
    }

    private let ledger: LedgerReader
    private let interval: Duration
    private let capacity: Int
    private let logger: Logger
    private let state = Mutex(State())
    private let rings: AsyncStream<Void>
    private let bell: AsyncStream<Void>.Continuation

    /// - Parameters:
    ///   - interval: how long to wait for the doorbell before looking anyway.
    ///   - capacity: how many facts to keep in memory.
    package init(ledger: LedgerReader, interval: Duration = .seconds(1), capacity: Int = 2000, logger: Logger) {
        self.ledger = ledger
        self.interval = interval
        self.capacity = capacity
        self.logger = logger
        (rings, bell) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Says that there may be new facts. Cheap, from anywhere, as often as you like.
    package func ring() { bell.yield() }

    package func run() async throws {
        defer { finish() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [interval, bell] in
                while !Task.isCancelled {
                    bell.yield()
                    try? await Task.sleep(for: interval)
                }
            }
            for await _ in rings.cancelOnGracefulShutdown() {
                await readOn()
                announce()
                // A burst of facts is read in a few large bites.
                try? await Task.sleep(for: .milliseconds(50))
            }
            group.cancelAll()
        }
    }

    /// The newest fact's number as far as the feed has read; 0 before the first.
    var latest: Int64 { state.withLock { $0.latest ?? 0 } }

    /// The number of the newest fact that says what became of a command; 0 before the first.
    var latestCommand: Int64 { state.withLock { $0.command } }

    /// The number of the newest fact about a run, as far as facts are remembered; before that, any may have been about it.
    func latest(ofRun id: String) -> Int64 {
        state.withLock { state in
            state.recent.last { $0.runID == id }?.sequence ?? state.recent.first.map { $0.sequence - 1 } ?? state.latest ?? 0
        }
    }

    /// The newest fact's number, from the ledger itself while the feed has not read yet.
    func newest() async throws -> Int64 {
        if let latest = state.withLock({ $0.latest }) { return latest }
        return try await ledger.latestFact()
    }

    /// Every fact from this number on is still there.
    func oldest() async throws -> Int64 { try await ledger.oldestFact() }

    /// Open pages and programs.
    var watchers: Int { state.withLock { $0.watchers.count - $0.own.count } }

    /// Wakes at least once in `interval`, and whenever there are new facts. Ends when the feed ends.
    ///
    /// - Parameter isOwn: whether it is the monitor itself that watches.
    package func watch(isOwn: Bool = false) -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let id = state.withLock { state in
            state.nextWatcher += 1
            state.watchers[state.nextWatcher] = continuation
            if isOwn { state.own.insert(state.nextWatcher) }
            return state.nextWatcher
        }
        continuation.onTermination = { [weak self] _ in self?.forget(id) }
        continuation.yield()
        return stream
    }

    /// Facts after `sequence`, oldest first, at most `limit`; an empty answer means that there are none yet.
    func facts(after sequence: Int64, limit: Int = 500) async throws -> [FactNotice] {
        let remembered: [FactNotice]? = state.withLock { state in
            guard let first = state.recent.first, first.sequence <= sequence + 1 else { return state.latest == sequence ? [] : nil }
            let start = state.recent.partitioningIndex { $0.sequence > sequence }
            return Array(state.recent[start...].prefix(limit))
        }
        if let remembered { return remembered }
        return try await ledger.facts(after: sequence, limit: limit).map(FactNotice.init)
    }

    private func readOn() async {
        do {
            guard let start = state.withLock({ $0.latest }) else {
                let latest = try await ledger.latestFact()
                state.withLock { $0.latest = latest }
                return
            }
            var position = start
            while true {
                let facts = try await ledger.facts(after: position, limit: 500)
                guard let last = facts.last else { return }
                position = last.sequence
                let notices = facts.map(FactNotice.init)
                state.withLock { state in
                    state.recent.append(contentsOf: notices)
                    if state.recent.count > capacity { state.recent.removeFirst(state.recent.count - capacity) }
                    state.latest = position
                    state.command = notices.last { $0.isCommand }?.sequence ?? state.command
                }
                if facts.count < 500 { return }
                announce()
            }
        } catch {
            logger.debug("The ledger cannot be read for new facts", metadata: ["error": "\(error)"])
        }
    }

    private func announce() {
        let watchers = state.withLock { Array($0.watchers.values) }
        for watcher in watchers { watcher.yield() }
    }

    private func forget(_ id: Int) {
        state.withLock { state in
            state.watchers[id] = nil
            state.own.remove(id)
        }
    }

    private func finish() {
        let watchers = state.withLock { Array($0.watchers.values) }
        for watcher in watchers { watcher.finish() }
    }
}

/// A fact as open pages hear of it, put into words once for all of them.
struct FactNotice: Sendable {
    var sequence: Int64
    var runID: String?
    /// What an operator wanted is done, or refused. Not what a bulk operation did: of those there may be hundreds a second, and they have a
    /// page that says how far they are.
    var isCommand: Bool
    /// A server-sent event.
    var text: String

    init(_ fact: LedgerFact) {
        sequence = fact.sequence
        runID = fact.runID
        isCommand = fact.kind == "command.done" && !BulkRunner.isItem(fact.data["id"]?.string ?? "")
        // JSON has no line breaks of its own, so one data line is enough.
        text = "id: \(fact.sequence)\nevent: fact\ndata: \(JSONValue(fact).text)\n\n"
    }
}

extension [FactNotice] {
    /// The first index whose element fulfils `belongsAfter`; elements are sorted by it.
    fileprivate func partitioningIndex(_ belongsAfter: (FactNotice) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if belongsAfter(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
