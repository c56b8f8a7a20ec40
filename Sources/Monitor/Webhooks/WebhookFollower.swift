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
    let vitals: WebhookVitals
    /// How others reach the monitor.
    let address: String?
    let logger: Logger
    var patience = Self.patience
    /// Called with the ids of all webhooks there are, again and again.
    let found: @Sendable (Set<String>) -> Void

    func run() async throws {
        // A broker that is away is not waited for at the end.
        await cancelWhenGracefulShutdown { await follow() }
    }

    private func follow() async {
        let trouble = WebhookTrouble(part: .handingOver, vitals: vitals, logger: logger, queue: queue)
        // Where the reading is; the store knows it up to the last message, or some thousand facts before.
        var places: [String: LedgerPlace] = [:]
        var nextSweep = ContinuousClock.now
        for await _ in feed.watch(isOwn: true) {
            do {
                let webhooks = try await store.webhooks()
                found(Set(webhooks.map(\.id)))
                try await handOver(to: webhooks.filter(\.isEnabled), &places)
                if nextSweep < .now {
                    for webhook in webhooks where webhook.isEnabled { try await sweep(webhook) }
                    nextSweep = .now + .seconds(patience / 4)
                }
                trouble.isOver()
            } catch let error as LedgerReaderError where [.missing, .unmigrated].contains(error.code) {
                continue
            } catch {
                trouble.note(error)
            }
        }
    }

    /// Reads the facts once for all webhooks.
    private func handOver(to webhooks: [MonitorWebhook], _ places: inout [String: LedgerPlace]) async throws {
        var webhooks = webhooks
        guard var written = webhooks.map(\.place.sequence).min() else { return places = [:] }
        for index in webhooks.indices {
            let stored = webhooks[index].place
            if let reached = places[webhooks[index].id], reached.sequence > stored.sequence { webhooks[index].place = reached }
        }
        try await findPlaces(of: &webhooks)
        places = Dictionary(uniqueKeysWithValues: webhooks.map { ($0.id, $0.place) })
        guard var place = webhooks.map(\.place).min(by: { $0.sequence < $1.sequence }) else { return }
        while !Task.isCancelled {
            let (endings, last) = try await ledger.endings(after: place)
            guard last.sequence > place.sequence else { return }
            let deliveries = endings.flatMap { ending in webhooks.filter { $0.wants(ending) }.map { delivery(ending, $0) } }
            if !deliveries.isEmpty {
                // On record first, so that whoever takes the message finds what it is about.
                try await store.queueDeliveries(deliveries)
                try await queue.send(deliveries.map { WebhookMessage($0) })
            }
            if !deliveries.isEmpty || last.sequence - written >= 5000 {
                try await store.moveWebhooks(webhooks.map(\.id), to: last)
                written = last.sequence
            }
            place = last
            for index in webhooks.indices where webhooks[index].place.sequence < last.sequence { webhooks[index].place = last }
            for webhook in webhooks { places[webhook.id] = webhook.place }
        }
    }

    /// Another ledger, or an older copy of it, has other facts under the same numbers.
    private func findPlaces(of webhooks: inout [MonitorWebhook]) async throws {
        for place in Set(webhooks.map(\.place)) {
            guard let found = try await ledger.replacement(of: place) else { continue }
            logger.warning(
                "The ledger is another one, or an older copy: webhooks go on with what happened after what they were told",
                metadata: ["fact": "\(place.sequence)", "found": "\(found.sequence)"])
            for index in webhooks.indices where webhooks[index].place == place {
                webhooks[index] = try await store.moveWebhook(webhooks[index].id, toOtherLedger: found)
            }
        }
    }

    private func delivery(_ ending: LedgerEnding, _ webhook: MonitorWebhook) -> WebhookDelivery {
        // Run and time make it another one in another ledger; no dots, which separate what is signed.
        let time = String(Int64((ending.at.timeIntervalSince1970 * 1000).rounded()), radix: 36)
        return WebhookDelivery(
            id: "\(webhook.id)_\(ending.run)_\(ending.sequence)_\(time)", webhook: webhook.id, event: ending.event.rawValue,
            run: ending.run, job: ending.job, body: WebhookDocument.make(ending, address: address).text, createdAt: Date())
    }

    /// Hands over once more what the broker must have lost. What comes twice is sent once: the store knows.
    private func sweep(_ webhook: MonitorWebhook) async throws {
        let now = Date()
        let overdue = try await store.overdueDeliveries(of: webhook.id, before: now.addingTimeInterval(-patience), limit: 200)
        guard let oldest = overdue.first?.dueAt else { return }
        // As long as others wait to be taken, these may be among them.
        guard try await queue.depth(of: webhook.id) == 0 else {
            if webhook.failures < WebhookRules.manyFailures, now.timeIntervalSince(oldest) > 10 * patience {
                WebhookTrouble(part: .delivering(webhook.id), vitals: vitals, logger: logger, queue: queue)
                    .note("messages wait in RabbitMQ's queue \(WebhookSchedule.queue(of: webhook.id)) and are hardly taken from it.")
            }
            return
        }
        logger.info(
            "Messages for a webhook are handed to the broker once more",
            metadata: ["webhook": "\(webhook.id)", "count": "\(overdue.count)"])
        try await queue.send(overdue.map { WebhookMessage($0) })
        try await store.postpone(overdue.map { ($0.id, $0.round) }, to: now)
    }
}
