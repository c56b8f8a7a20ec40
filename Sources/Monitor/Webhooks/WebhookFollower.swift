import AMQP
import Dashboard
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle

/// Turns the ends of runs and jobs into messages for webhooks.
///
/// It reads the ledger's facts from each webhook's own place on, which stands in the monitor's store and moves only after the broker has
/// confirmed: what happened while the monitor or the broker was away is told later. A message may be handed over twice, with the same id.
struct WebhookFollower: Service {
    /// How long after its time a message is missed. RabbitMQ's dead-letter exchanges promise no more than a try, and a broker may lose its disk.
    static let patience: TimeInterval = 120

    let ledger: LedgerReader
    let store: MonitorStore
    let feed: FactFeed
    let queue: WebhookQueue
    /// How others reach the monitor.
    let address: String?
    let logger: Logger
    var patience = Self.patience
    /// Called when there is a webhook.
    let found: @Sendable () -> Void

    func run() async throws {
        // A broker that is away is not waited for at the end.
        await cancelWhenGracefulShutdown { await follow() }
    }

    private func follow() async {
        // Where the reading is; the store knows it up to the last message, and some thousand facts.
        var positions: [String: Int64] = [:]
        var nextSweep = ContinuousClock.now
        for await _ in feed.watch(isOwn: true) {
            do {
                let webhooks = try await store.webhooks()
                guard !webhooks.isEmpty else { continue }
                found()
                for webhook in webhooks where webhook.isEnabled { try await follow(webhook, &positions) }
                if nextSweep < .now {
                    try await sweep()
                    nextSweep = .now + .seconds(patience / 4)
                }
            } catch is CancellationError {
                return
            } catch let error as LedgerReaderError where [.missing, .unmigrated].contains(error.code) {
                continue
            } catch {
                logger.debug("What webhooks are to be told waits", metadata: ["error": "\(error)"])
            }
        }
    }

    func follow(_ webhook: MonitorWebhook, _ positions: inout [String: Int64]) async throws {
        var position = max(positions[webhook.id] ?? webhook.fact, webhook.fact)
        var stored = webhook.fact
        let newest = try await ledger.latestFact()
        if newest < position {
            // Another ledger, or an older copy of it: its facts begin anew.
            logger.warning(
                "The ledger is behind what webhooks were told: they go on from its end",
                metadata: ["webhook": "\(webhook.id)", "fact": "\(position)", "newest": "\(newest)"])
            try await store.moveWebhook(webhook.id, to: newest)
            positions[webhook.id] = newest
            return
        }
        while position < newest, !Task.isCancelled {
            let (endings, last) = try await ledger.endings(after: position)
            guard last > position else { break }
            let deliveries = endings.filter { webhook.events.contains($0.event) }.map { delivery($0, webhook) }
            if !deliveries.isEmpty {
                // On record first, so that whoever takes the message finds what it is about.
                try await store.queueDeliveries(deliveries)
                try await queue.send(deliveries.map { WebhookMessage($0) })
            }
            position = last
            positions[webhook.id] = position
            guard !deliveries.isEmpty || position - stored >= 5000 else { continue }
            try await store.moveWebhook(webhook.id, to: position)
            stored = position
        }
    }

    private func delivery(_ ending: LedgerEnding, _ webhook: MonitorWebhook) -> WebhookDelivery {
        WebhookDelivery(
            // The run makes it another one in another ledger; no dots, which separate what is signed.
            id: "\(webhook.id)_\(ending.run)_\(ending.sequence)", webhook: webhook.id, event: ending.event.rawValue, run: ending.run,
            job: ending.job, body: WebhookDocument.make(ending, address: address).text, createdAt: Date())
    }

    /// Hands over once more what the broker must have lost. What comes twice is sent once: the store knows.
    func sweep() async throws {
        let overdue = try await store.overdueDeliveries(before: Date().addingTimeInterval(-patience), limit: 200)
        // As long as others wait to be taken, these may be among them.
        guard !overdue.isEmpty, try await queue.depth() == 0 else { return }
        logger.info("Messages for webhooks are handed to the broker once more", metadata: ["count": "\(overdue.count)"])
        try await queue.send(overdue.map { WebhookMessage($0) })
        for delivery in overdue { try await store.postponeDelivery(delivery.id, round: delivery.round, to: Date()) }
    }
}
