import AMQP
import Curl
import Dashboard
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Synchronization

/// Takes messages from the broker to webhooks.
///
/// A 2xx is the end of a message; after anything else it waits in a queue of the broker that brings it back, until it is given up. How a try
/// ended is on record first, then the next one is handed to the broker, then the message is acknowledged: what the broker did not take,
/// the follower finds overdue. Wherever the monitor is killed, a message comes at least once.
final class WebhookCourier: Service {
    struct Limits: Sendable {
        /// Requests to one receiver at a time.
        var atOnce = 4
        /// For one request, from the look-up of the name to the end of the answer.
        var timeout = Duration.seconds(15)
        /// After so many failed tries in a row it accepts nothing.
        var failures = WebhookRules.manyFailures
        /// A webhook that accepts nothing is tried by one message at a time, so far apart.
        var pause = Duration.seconds(30)
        /// A webhook that accepts nothing for so long is disabled.
        var endurance: TimeInterval = 3 * 86400
        /// After what went wrong on our side.
        var patience = Duration.seconds(1)
    }

    private let store: MonitorStore
    private let queue: WebhookQueue
    private let vitals: WebhookVitals
    private let limits: Limits
    private let logger: Logger
    private let session: CurlSession
    private let inHand = Mutex<Set<String>>([])
    private let lists: AsyncStream<Set<String>>
    private let lister: AsyncStream<Set<String>>.Continuation

    init(store: MonitorStore, queue: WebhookQueue, vitals: WebhookVitals, limits: Limits = Limits(), logger: Logger) {
        self.store = store
        self.queue = queue
        self.vitals = vitals
        self.limits = limits
        self.logger = logger
        // Nobody waits for another webhook's requests.
        session = CurlSession(parallelism: WebhookRules.most * limits.atOnce)
        (lists, lister) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// From now on these are served, by id; those that are disabled, too: what is left for them has to go. Cheap, as often as you like.
    func serve(_ webhooks: Set<String>) { lister.yield(webhooks) }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var lanes: [String: Task<Void, Never>] = [:]
            for await webhooks in self.lists {
                for webhook in webhooks where lanes[webhook] == nil { lanes[webhook] = Task { await self.deliver(to: webhook) } }
                for (webhook, lane) in lanes where !webhooks.contains(webhook) {
                    lane.cancel()
                    lanes[webhook] = nil
                }
            }
            for lane in lanes.values { lane.cancel() }
            for lane in lanes.values { await lane.value }
        }
    }

    private func deliver(to webhook: String) async {
        let lane = Lane(
            webhook: webhook, pace: WebhookPace(apart: limits.pause),
            trouble: WebhookTrouble(part: .delivering(webhook), vitals: vitals, logger: logger, queue: queue))
        while !Task.isCancelled {
            do {
                try await queue.consume(webhook, prefetch: limits.atOnce) { deliveries in
                    await withDiscardingTaskGroup { group in
                        for await delivery in deliveries { group.addTask { await self.take(delivery, lane) } }
                    }
                }
            } catch {
                lane.trouble.note(error)
                try? await Task.sleep(for: limits.patience)
            }
        }
        lane.trouble.isOver()
    }

    /// One webhook's queue.
    private struct Lane {
        var webhook: String
        var pace: WebhookPace
        var trouble: WebhookTrouble
    }

    private func take(_ delivery: AMQPDelivery, _ lane: Lane) async {
        do {
            let message: WebhookMessage
            do {
                message = try delivery.decode(WebhookMessage.self, type: WebhookMessage.type)
            } catch {
                try await queue.sendDead(delivery, of: lane.webhook, because: error.reason)
                delivery.ack()
                return
            }
            // A copy of what is in hand. After a reconnect it is the message itself; the follower would miss it in time.
            guard inHand.withLock({ $0.insert(message.id).inserted }) else { return delivery.ack() }
            defer { inHand.withLock { _ = $0.remove(message.id) } }
            let isDone = try await carry(message, isByHand: delivery.properties.priority != nil, lane)
            delivery.ack()
            if isDone { lane.trouble.isOver() }
        } catch {
            lane.trouble.note(error)
            // Cancelled, or the broker or the store is away. Not at once again: that would be as fast as the machine is.
            if !(error is CancellationError) { try? await Task.sleep(for: limits.patience) }
            delivery.nack(requeue: true)
        }
    }

    /// Returns when this message may be forgotten.
    ///
    /// - Returns: false when the broker did not take its next try.
    private func carry(_ message: WebhookMessage, isByHand: Bool, _ lane: Lane) async throws -> Bool {
        guard let (webhook, _) = try await due(message) else { return true }
        if !isByHand, webhook.failures >= limits.failures { try await Task.sleep(until: lane.pace.reserve()) }
        // A store that takes nothing would not take how the try ends either: the receiver would be told the same again and again.
        try await store.postpone([(message.id, message.round)], to: Date())
        // As they are now, after it may have waited for its turn.
        guard let (webhook, delivery) = try await due(message) else { return true }
        return try await tryOnce(message, delivery, webhook, lane)
    }

    /// - Returns: nil for what was tried already (the acknowledgement was lost, or it was handed over twice) and for what nobody wants.
    private func due(_ message: WebhookMessage) async throws -> (MonitorWebhook, WebhookDelivery)? {
        guard let webhook = try await store.webhook(message.webhook), webhook.isEnabled,
            let delivery = try await store.delivery(message.id),
            !delivery.state.isOver, delivery.round == message.round, delivery.attempt < message.attempt
        else { return nil }
        return (webhook, delivery)
    }

    private func tryOnce(
        _ message: WebhookMessage, _ delivery: WebhookDelivery, _ webhook: MonitorWebhook, _ lane: Lane
    ) async throws -> Bool {
        let now = Date()
        let answer = await attempt(message, webhook, at: now)
        if answer.isCancelled { throw CancellationError() }
        let milliseconds = Int(Date().timeIntervalSince(now) * 1000)
        func ended(_ state: WebhookDelivery.State, due: Date? = nil) -> WebhookTry {
            WebhookTry(
                state, attempt: message.attempt, at: now, dueAt: due, status: answer.status, milliseconds: milliseconds,
                problem: answer.problem)
        }
        if answer.problem == nil {
            _ = try await store.record(ended(.delivered), of: message.id, round: message.round)
            return true
        }
        let delay = answer.isFinal ? nil : queue.schedule.delay(afterAttempt: message.attempt, atLeast: answer.retryAfter)
        let end = delay.map { ended(.retrying, due: Date().addingTimeInterval(Double($0))) } ?? ended(.dead)
        guard let after = try await store.record(end, of: message.id, round: message.round) else { return true }
        var isDone = true
        if let delay {
            var next = message
            next.attempt += 1
            do {
                try await queue.send(next, after: delay)
            } catch {
                isDone = false
                lane.trouble.note(error)
            }
        } else {
            logger.warning(
                "A webhook did not accept a message, which is given up",
                metadata: [
                    "webhook": "\(webhook.id)", "delivery": "\(message.id)", "status": "\(answer.status.map(String.init) ?? "none")",
                ])
        }
        // Where much waits, no message is tried often enough to be given up: then its age counts, unless somebody has sent it once more.
        let isOld = message.round == 1 && now.timeIntervalSince(delivery.createdAt) >= limits.endurance
        if delay == nil || isOld { try await giveUp(after, webhook.url, answer, at: now) }
        return isDone
    }

    /// Disables a webhook that wants it so, or that nobody seems to look after.
    ///
    /// - Parameter url: where it answered so.
    private func giveUp(_ webhook: MonitorWebhook, _ url: String, _ answer: Answer, at now: Date) async throws {
        let reason: String
        if answer.status == 410 {
            reason = "The receiver answered 410: it wants no more messages."
        } else if let since = webhook.failingSince, now.timeIntervalSince(since) >= limits.endurance {
            reason = "It has accepted nothing for \(Int(limits.endurance / 86400)) days."
        } else {
            return
        }
        let audit = AuditEntry(
            actor: "monitor", action: "disable-webhook", target: .init("webhook", webhook.id),
            detail: ["name": .string(webhook.name), "reason": .string(reason)])
        let after = try await store.disableWebhook(webhook.id, because: reason, ifStillAt: url, audit: audit)
        guard !after.isEnabled else { return }
        logger.warning("A webhook is disabled", metadata: ["webhook": "\(webhook.id)", "reason": "\(reason)"])
    }

    // MARK: One request

    private struct Answer {
        var status: Int?
        /// nil when the message was accepted.
        var problem: String?
        /// Trying again makes no sense.
        var isFinal = false
        var retryAfter = 0
        var isCancelled = false
    }

    private func attempt(_ message: WebhookMessage, _ webhook: MonitorWebhook, at now: Date) async -> Answer {
        let signature = WebhookSignature(id: message.id, body: message.body, secrets: webhook.secrets(at: now), at: now)
        let request = CurlRequest(
            url: webhook.url, body: .init(Data(message.body.utf8), type: "application/json"), headers: signature.headers,
            sink: .nothing(limit: 64 << 10), connectTimeout: min(.seconds(5), limits.timeout), stallTimeout: limits.timeout,
            timeout: limits.timeout, refusal: .linkLocal)
        do {
            return Self.answer(try await session.perform(request))
        } catch is CancellationError {
            return Answer(isCancelled: true)
        } catch let failure as CurlFailure {
            return Answer(problem: Self.words(failure))
        } catch {
            return Answer(problem: "The request failed.")
        }
    }

    private static func answer(_ response: CurlResponse) -> Answer {
        switch response.status {
        case 200..<300: Answer(status: response.status)
        case 300..<400:
            Answer(status: response.status, problem: "It redirects, which is not followed: the webhook's address has to be the final one.")
        case 410: Answer(status: response.status, problem: "It wants no more messages.", isFinal: true)
        default: Answer(status: response.status, problem: "It did not accept the message.", retryAfter: response.retryAfter)
        }
    }

    /// libcurl's own sentences hold hosts and ports, and now and then a part of the answer: only of some of them is that known.
    private static func words(_ failure: CurlFailure) -> String {
        switch failure.kind {
        case .unreachable: "It cannot be reached: \(failure.text)"
        case .timedOut: "It did not answer in time."
        case .tls: "No secure connection: \(failure.text)"
        case .refusedAddress: "The host's address is link-local, where no webhook is sent."
        case .interrupted: "The connection broke before there was an answer."
        case .tooLarge, .sink, .other: "What it answered is no HTTP."
        }
    }
}
