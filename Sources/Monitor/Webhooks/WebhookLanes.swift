import Foundation
import Synchronization

/// Gives each webhook a lane of its own, so that a receiver that is slow or dead holds up nobody else's messages.
final class WebhookLanes: Sendable {
    struct Limits: Sendable {
        /// Requests to one receiver at once.
        var atOnce = 4
        /// Messages that wait here for one receiver. More of them go back to the broker.
        var waiting = 100
        /// How long each of those waits at most.
        var patience = Duration.seconds(1)
        /// A receiver that accepts nothing is tried no more often than this, whatever waits for it.
        var pause = Duration.seconds(30)
    }

    enum Turn: Equatable {
        case now
        /// Not before so many seconds, as far as can be told.
        case later(Double)
        /// The message is in hand already: this is a copy of it.
        case copy
    }

    /// What asks for a turn.
    enum Standing {
        case usual
        /// The receiver has accepted nothing for some time.
        case failing
        /// Somebody waits in front of a page for how it ends.
        case byHand
    }

    private struct Lane {
        var sending: [String: ContinuousClock.Instant] = [:]
        /// In order; who is told true goes.
        var waiting: [(id: String, told: AsyncStream<Bool>.Continuation)] = []
        /// What a request takes.
        var typical = Duration.milliseconds(100)
        /// When the last one that was sent back would have its turn.
        var next = ContinuousClock.now
        var lastTry: ContinuousClock.Instant?

        /// A turn after all those that were given out; an estimate that is not carried far.
        mutating func reserve(_ span: Duration, at now: ContinuousClock.Instant) -> Turn {
            next = min(max(next, now) + span, now + .seconds(600))
            return .later((next - now) / .seconds(1))
        }
    }

    private struct State {
        var lanes: [String: Lane] = [:]
        /// Messages that wait here or are being sent.
        var inHand: Set<String> = []
    }

    private let limits: Limits
    private let state = Mutex(State())

    init(_ limits: Limits = Limits()) { self.limits = limits }

    /// How many messages wait here or are being sent.
    var inHand: Int { state.withLock { $0.inHand.count } }

    /// After `.now`, and only then, comes ``leave(_:_:accepted:)``.
    func enter(_ message: String, _ webhook: String, _ standing: Standing = .usual) async -> Turn {
        let now = ContinuousClock.now
        let (stream, told) = AsyncStream<Bool>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let turn: Turn? = state.withLock { state in
            guard state.inHand.insert(message).inserted else { return .copy }
            let turn = begin(message, &state.lanes[webhook, default: Lane()], standing, told, at: now)
            if case .later = turn { state.inHand.remove(message) }
            return turn
        }
        if let turn { return turn }
        async let _: Void = giveUp(message, webhook)
        var answers = stream.makeAsyncIterator()
        let isTold = await answers.next() == true
        // Cancelled while it waited, unless its turn came at the same moment.
        if !isTold { withdraw(message, webhook) }
        return state.withLock { state in
            var lane = state.lanes[webhook] ?? Lane()
            defer { state.lanes[webhook] = lane }
            if lane.sending[message] != nil { return .now }
            state.inHand.remove(message)
            return lane.reserve(lane.typical / limits.atOnce, at: .now)
        }
    }

    /// - Returns: nil when it waits.
    private func begin(
        _ message: String, _ lane: inout Lane, _ standing: Standing, _ told: AsyncStream<Bool>.Continuation,
        at now: ContinuousClock.Instant
    ) -> Turn? {
        switch standing {
        case .byHand: break
        case .failing:
            let isTooSoon = lane.lastTry.map { now - $0 < limits.pause } ?? false
            guard !isTooSoon, lane.sending.isEmpty else { return lane.reserve(limits.pause, at: now) }
            lane.lastTry = now
        case .usual:
            guard lane.sending.count >= limits.atOnce || !lane.waiting.isEmpty else { break }
            let isStuck = lane.sending.values.min().map { now - $0 > limits.patience } ?? false
            guard !isStuck, lane.waiting.count < limits.waiting else { return lane.reserve(lane.typical / limits.atOnce, at: now) }
            lane.waiting.append((message, told))
            return nil
        }
        lane.sending[message] = now
        return .now
    }

    private func giveUp(_ message: String, _ webhook: String) async {
        try? await Task.sleep(for: limits.patience)
        withdraw(message, webhook)
    }

    /// It waits no longer. Whose turn has come keeps it.
    private func withdraw(_ message: String, _ webhook: String) {
        let told = state.withLock { state -> AsyncStream<Bool>.Continuation? in
            guard let index = state.lanes[webhook]?.waiting.firstIndex(where: { $0.id == message }) else { return nil }
            return state.lanes[webhook]?.waiting.remove(at: index).told
        }
        told?.yield(false)
    }

    /// - Parameter accepted: nil when there was no try.
    func leave(_ message: String, _ webhook: String, accepted: Bool?) {
        let now = ContinuousClock.now
        let next = state.withLock { state -> [AsyncStream<Bool>.Continuation] in
            state.inHand.remove(message)
            guard var lane = state.lanes[webhook] else { return [] }
            defer { state.lanes[webhook] = lane }
            let begun = lane.sending.removeValue(forKey: message)
            if let begun, accepted != nil { lane.typical = lane.typical * 0.7 + (now - begun) * 0.3 }
            // It has recovered: what was sent back before says nothing of how long others have to wait.
            if accepted == true, lane.lastTry != nil { (lane.lastTry, lane.next) = (nil, now) }
            var next: [AsyncStream<Bool>.Continuation] = []
            while lane.sending.count < limits.atOnce, !lane.waiting.isEmpty {
                let first = lane.waiting.removeFirst()
                lane.sending[first.id] = now
                next.append(first.told)
            }
            return next
        }
        for told in next { told.yield(true) }
    }
}
