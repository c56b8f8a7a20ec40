import Foundation
import Synchronization

/// What waits in a queue of the broker.
package struct QueueDepth: Sendable, Hashable {
    /// Those that were delivered and not yet settled are not among them.
    package var messages: Int
    package var consumers: Int

    package init(messages: Int, consumers: Int) {
        self.messages = messages
        self.consumers = consumers
    }
}

/// Somebody who can look into the broker.
package protocol BrokerQueues: Sendable {
    /// - Returns: nil when there is no such queue, or nobody answers in time.
    func depth(of queue: String) async -> QueueDepth?
}

/// The depths of queues as the broker has them now, and how they change: looked at for all pages together, and only while somebody asks.
actor QueueDepths {
    struct Reading: Sendable, Hashable {
        var depth: QueueDepth
        /// Messages a minute that it grew by since it was looked at some time ago; nil before that.
        var growth: Double?
    }

    private let source: any BrokerQueues
    private var readings: [String: Reading] = [:]
    /// The last few minutes, oldest first.
    private var samples: [String: [(at: ContinuousClock.Instant, messages: Int)]] = [:]
    private var looked: ContinuousClock.Instant?
    private var looking: Task<Void, Never>?

    private static let lifetime = Duration.seconds(2)
    private static let memory = Duration.seconds(120)

    init(_ source: any BrokerQueues) { self.source = source }

    /// - Parameter wait: a broker that does not answer holds no page up for longer; what was known then is shown.
    func get(_ queues: [String], waitingAtMost wait: Duration = .milliseconds(800)) async -> [String: Reading] {
        if looking == nil, looked.map({ $0 + Self.lifetime < .now }) ?? true || !queues.allSatisfy({ samples[$0] != nil }) {
            looking = Task { await self.look(queues) }
        }
        if let looking {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await looking.value }
                group.addTask { try? await Task.sleep(for: wait) }
                await group.next()
                group.cancelAll()
            }
        }
        return readings
    }

    private func look(_ queues: [String]) async {
        for queue in queues {
            let depth = await source.depth(of: queue)
            take(depth, of: queue)
        }
        looked = .now
        looking = nil
    }

    private func take(_ depth: QueueDepth?, of queue: String) {
        guard let depth else {
            readings[queue] = nil
            samples[queue] = samples[queue] ?? []
            return
        }
        let now = ContinuousClock.now
        var known = samples[queue] ?? []
        known.append((now, depth.messages))
        known.removeAll { $0.at + Self.memory < now }
        samples[queue] = known
        var growth: Double?
        if let first = known.first, first.at + .seconds(5) < now {
            growth = Double(depth.messages - first.messages) / (first.at.duration(to: now) / .seconds(60))
        }
        readings[queue] = Reading(depth: depth, growth: growth)
    }
}
