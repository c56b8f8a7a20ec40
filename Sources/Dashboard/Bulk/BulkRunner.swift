import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Synchronization

/// Carries bulk operations out: command after command, each once, never more at the router than a window holds.
///
/// Everything that it must know after a restart is in the store: which items were sent, and up to which fact the router's answers were read.
/// A command's id is the operation's and the item's number, so that sending it again after a crash does no harm.
final class BulkRunner: Sendable {
    /// How many commands may wait for the router's answer: enough to keep it busy, few enough that others' commands go through between them.
    static let window = 200
    /// Sent at the same time; each waits for the broker's confirmation.
    private static let parallelism = 20
    /// Of what was sent, perhaps by a process before this one, and is no longer waited for.
    static let unanswered =
        "It was sent, and no answer came before the operation was cancelled or the item changed: it may have been done. "
        + "Open it to see, and repeat it there if it was not."

    private let ledger: LedgerReader
    private let store: MonitorStore
    private let sender: any CommandSender
    private let feed: FactFeed
    private let logger: Logger
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation
    /// What live pages see: changes with each step.
    private let progress = Mutex<(version: Int, records: [BulkRecord])>((0, []))

    init(ledger: LedgerReader, store: MonitorStore, sender: any CommandSender, feed: FactFeed, logger: Logger) {
        self.ledger = ledger
        self.store = store
        self.sender = sender
        self.feed = feed
        self.logger = logger
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func wake() { waker.yield() }

    /// The operations under way or just ended, with a number that is another one after each change.
    var current: (version: Int, records: [BulkRecord]) { progress.withLock { $0 } }

    /// Until the service stops. What is under way then goes on after the next start.
    func run() async {
        // Sent by a process before this one, perhaps: sent again.
        var unconfirmed: [String: Set<Int>] = [:]
        var forgotten = ContinuousClock.now - .seconds(60)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [feed, waker] in
                for await _ in feed.watch(isOwn: true).cancelOnGracefulShutdown() { waker.yield() }
                waker.finish()
            }
            for await _ in wakes {
                do {
                    if forgotten.duration(to: .now) >= .seconds(60) {
                        try await store.forgetPreviews(at: Date())
                        forgotten = .now
                    }
                    for record in try await store.openBulks() { try await work(on: record, &unconfirmed) }
                } catch is CancellationError {
                    break
                } catch {
                    logger.warning("A bulk operation waits", metadata: ["error": "\(error)"])
                }
            }
            group.cancelAll()
        }
    }

    /// Goes on for as long as something moves.
    private func work(on record: BulkRecord, _ unconfirmed: inout [String: Set<Int>]) async throws {
        var record = record
        while !Task.isCancelled {
            let before = record
            record = try await readAnswers(record)
            if unconfirmed[record.id] == nil {
                unconfirmed[record.id] = Set(try await sentItems(of: record).map(\.sequence))
            }
            if record.state == .running, let objection = try await BulkStarter(onRecord: record.starter).objection(store, at: Date()) {
                _ = try await store.cancelBulk(record.id, reason: objection)
            }
            if let now = try await store.bulk(record.id), now.state == .cancelling, record.position < record.total {
                try await store.stopBulk(record.id, reason: now.stopReason ?? "The operation was cancelled.")
            }
            guard let fresh = try await store.bulk(record.id) else { return }
            record = try await sendOn(fresh, &unconfirmed[record.id, default: []])
            show(record)
            if record.position >= record.total, record.done + record.skipped + record.failed >= record.total {
                try await end(record)
                unconfirmed[record.id] = nil
                return
            }
            // Nothing moved: the next fact or the next second wakes.
            if record == before { return }
        }
    }

    private func readAnswers(_ record: BulkRecord) async throws -> BulkRecord {
        var record = record
        while true {
            let (outcomes, last) = try await ledger.outcomes(after: record.fact)
            guard last > record.fact else { return record }
            let own = outcomes.compactMap { command, text in Self.item(command, of: record.id).map { Self.result($0, text) } }
            record = try await store.advanceBulk(record.id, items: own, fact: last) ?? record
        }
    }

    private func sendOn(_ record: BulkRecord, _ unconfirmed: inout Set<Int>) async throws -> BulkRecord {
        guard let action = BulkOrder.command(of: record) else { return record }
        var record = record
        var items: [BulkItem] = []
        if !unconfirmed.isEmpty {
            items = try await sentItems(of: record).filter { unconfirmed.contains($0.sequence) }
            // A command that nobody waits for any more is not sent late, and none to what has changed since: perhaps by this very command.
            let marks = record.state == .running ? try await marks(of: items, action, record) : [:]
            let given = items.filter { marks[$0.target] != $0.mark }
            if !given.isEmpty {
                record = try await give(up: given, of: record)
                items.removeAll { marks[$0.target] != $0.mark }
            }
            unconfirmed = Set(items.map(\.sequence))
        }
        guard record.state == .running else { return record }
        let outstanding = record.position - record.done - record.skipped - record.failed
        let room = min(Self.window - outstanding, record.total - record.position)
        if room > 0 {
            var next = try await store.bulkItems(record.id, from: record.position, limit: room)
            let marks = try await marks(of: next, action, record)
            for index in next.indices { next[index] = Self.checked(next[index], marks[next[index].target]) }
            // On record as sent before it is: after a crash in between it is sent again.
            record = try await store.advanceBulk(record.id, items: next, position: record.position + next.count) ?? record
            let sent = next.filter { $0.state == .sent }
            unconfirmed.formUnion(sent.map(\.sequence))
            items += sent
        }
        unconfirmed.subtract(await send(items, action, record))
        return record
    }

    private func sentItems(of record: BulkRecord) async throws -> [BulkItem] {
        try await store.bulkItems(record.id, states: [.sent], from: 0, limit: Self.window * 2)
    }

    private func marks(of items: [BulkItem], _ action: CommandMessage.Action, _ record: BulkRecord) async throws -> [String: String] {
        if items.isEmpty { return [:] }
        return try await ledger.marks(
            of: items.map(\.target), areRuns: record.kind == BulkOrder.Kind.runs.rawValue, isOfResource: action == .reprocessRun)
    }

    /// Settles what was handed to the broker and not confirmed. What the router has answered meanwhile counts as it has answered.
    private func give(up items: [BulkItem], of record: BulkRecord) async throws -> BulkRecord {
        let answered = try await readAnswers(record)
        let failed = items.map { item in
            BulkItem(sequence: item.sequence, target: item.target, mark: item.mark, state: .failed, reason: Self.unanswered)
        }
        return try await store.advanceBulk(record.id, items: failed) ?? answered
    }

    /// - Returns: the numbers of those that the broker has confirmed.
    private func send(_ items: [BulkItem], _ action: CommandMessage.Action, _ record: BulkRecord) async -> Set<Int> {
        await withTaskGroup(of: Int?.self) { [sender, logger] group in
            var confirmed: Set<Int> = []
            for (index, item) in items.enumerated() {
                if index >= Self.parallelism, let done = await group.next(), let done { confirmed.insert(done) }
                group.addTask {
                    let command = CommandMessage(
                        id: "\(record.id):\(item.sequence)", action: action, target: item.target, actor: record.actor, at: Date())
                    do {
                        try await sender.send(command)
                        return item.sequence
                    } catch {
                        logger.debug("A command of a bulk operation waits for the broker", metadata: ["error": "\(error)"])
                        return nil
                    }
                }
            }
            for await done in group { if let done { confirmed.insert(done) } }
            return confirmed
        }
    }

    private func end(_ record: BulkRecord) async throws {
        let last = try await store.bulk(record.id)
        let isCancelled = last?.state == .cancelling
        // Before the end: after a crash in between, both are written again.
        if let audit = record.audit {
            var detail: [String: JSONValue] = [
                "kind": .string(record.kind), "filter": record.filter, "total": .integer(Int64(record.total)),
                "done": .integer(Int64(record.done)), "skipped": .integer(Int64(record.skipped)),
                "failed": .integer(Int64(record.failed)), "cancelled": .bool(isCancelled),
            ]
            if let reason = last?.stopReason { detail["why"] = .string(reason) }
            try await store.settle(audit, record.failed == 0 ? .done : .failed, detail: .object(detail))
        }
        try await store.endBulk(record.id, isCancelled ? .cancelled : .done, at: Date())
        logger.info(
            "A bulk operation has ended",
            metadata: ["bulk": "\(record.id)", "done": "\(record.done)", "skipped": "\(record.skipped)", "failed": "\(record.failed)"])
        if let ended = try await store.bulk(record.id) { show(ended) }
    }

    private func show(_ record: BulkRecord) {
        progress.withLock { progress in
            guard progress.records.first(where: { $0.id == record.id }) != record else { return }
            progress.version += 1
            progress.records.removeAll { $0.id == record.id || $0.endedAt.map { $0.timeIntervalSinceNow < -60 } ?? false }
            progress.records.append(record)
        }
    }

    // MARK: Items

    private static func checked(_ item: BulkItem, _ mark: String?) -> BulkItem {
        var item = item
        item.state = .skipped
        if let mark {
            if mark == item.mark { item.state = .sent } else { item.reason = "It has changed since the preview." }
        } else {
            item.reason = "It is no longer there."
        }
        return item
    }

    /// Whether a command is one of many. Those that people send one by one have a UUID.
    static func isItem(_ command: String) -> Bool { command.contains(":") }

    private static func item(_ command: String, of bulk: String) -> Int? {
        guard command.hasPrefix(bulk + ":") else { return nil }
        return Int(command.dropFirst(bulk.count + 1))
    }

    /// - Parameter outcome: the router's words: `done`, `done: run <id>`, `refused: <reason>`.
    private static func result(_ sequence: Int, _ outcome: String) -> BulkItem {
        var item = BulkItem(sequence: sequence, target: "", mark: "", state: .done)
        if outcome.hasPrefix("done") {
            if outcome.hasPrefix("done: ") { item.reason = String(outcome.dropFirst(6)) }
        } else {
            item.state = .skipped
            item.reason = outcome.hasPrefix("refused: ") ? String(outcome.dropFirst(9)) : outcome
        }
        return item
    }
}
