import AMQP
import Curl
import Dashboard
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle

/// Takes messages from the broker to webhooks.
///
/// A 2xx is the end of a message; after anything else it waits in a queue of the broker that brings it back, until it is given up.
/// In each case what follows is confirmed, then on record, then acknowledged: wherever the monitor is killed, a message comes at least once.
struct WebhookCourier: Service {
    struct Limits: Sendable {
        /// Messages in hand, for all webhooks together. Several of them may be slow at a time.
        var prefetch = 400
        var lanes = WebhookLanes.Limits()
        /// For one request, from the look-up of the name to the end of the answer.
        var timeout = Duration.seconds(15)
        /// After so many failed tries in a row it accepts nothing.
        var failures = WebhookRules.manyFailures
        /// A webhook that accepts nothing for so long is tried every ten minutes.
        var trust: TimeInterval = 600
        /// A webhook that accepts nothing for so long is disabled.
        var endurance: TimeInterval = 3 * 86400
    }

    private let store: MonitorStore
    private let queue: WebhookQueue
    private let limits: Limits
    private let trouble: WebhookTrouble
    private let logger: Logger
    private let session: CurlSession
    private let lanes: WebhookLanes
    private let starts: AsyncStream<Void>
    private let starter: AsyncStream<Void>.Continuation

    init(store: MonitorStore, queue: WebhookQueue, vitals: WebhookVitals, limits: Limits = Limits(), logger: Logger) {
        self.store = store
        self.queue = queue
        self.limits = limits
        self.logger = logger
        trouble = WebhookTrouble(part: .delivering, vitals: vitals, logger: logger)
        lanes = WebhookLanes(limits.lanes)
        // Nobody waits for another webhook's requests; one more for what is sent by hand.
        session = CurlSession(parallelism: WebhookRules.most * (limits.lanes.atOnce + 1))
        (starts, starter) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// There is a webhook. Cheap, as often as you like.
    func start() { starter.yield() }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await _ in starts {
                do {
                    try await deliverAll()
                } catch {
                    trouble.note(error)
                }
            }
        }
    }

    private func deliverAll() async throws {
        try await queue.consume(prefetch: limits.prefetch) { deliveries in
            trouble.isOver()
            await withDiscardingTaskGroup { group in
                for await delivery in deliveries { group.addTask { await take(delivery) } }
            }
        }
    }

    private func take(_ delivery: AMQPDelivery) async {
        do {
            let message: WebhookMessage
            do {
                message = try delivery.decode(WebhookMessage.self, type: WebhookMessage.type)
            } catch {
                try await queue.sendDead(delivery, because: error.reason)
                delivery.ack()
                return
            }
            try await carry(message)
            delivery.ack()
            trouble.isOver()
        } catch {
            trouble.note(error)
            // Cancelled, or the broker or the store is away. Not at once again: that would be as fast as the machine is.
            if !(error is CancellationError) { try? await Task.sleep(for: .seconds(1)) }
            delivery.nack(requeue: true)
        }
    }

    /// Returns when this message may be forgotten.
    private func carry(_ message: WebhookMessage) async throws {
        guard let webhook = try await store.webhook(message.webhook), webhook.isEnabled,
            let delivery = try await store.delivery(message.id),
            // What was tried already: the acknowledgement was lost, or somebody handed it over twice.
            !delivery.state.isOver, delivery.round == message.round, delivery.attempt < message.attempt
        else { return }
        switch await lanes.enter(message.id, webhook.id, standing(of: message, webhook)) {
        case .copy:
            // The other one is not acknowledged yet, so nothing is lost with this one.
            return
        case .later(let seconds):
            try Task.checkCancellation()
            try await sendBack(message, webhook, turn: seconds)
        case .now:
            var accepted: Bool?
            defer { lanes.leave(message.id, webhook.id, accepted: accepted) }
            accepted = try await tryOnce(message, delivery)
        }
    }

    private func standing(of message: WebhookMessage, _ webhook: MonitorWebhook) -> WebhookLanes.Standing {
        if message.attempt == 1, message.round > 1 || message.event == WebhookDocument.testEvent { return .byHand }
        return webhook.failures >= limits.failures ? .failing : .usual
    }

    /// It is none of the tries that are counted.
    private func sendBack(_ message: WebhookMessage, _ webhook: MonitorWebhook, turn: Double) async throws {
        let isFailing = webhook.failures >= limits.failures
        let isLong = webhook.failingSince.map { Date().timeIntervalSince($0) > limits.trust } ?? false
        let least = isFailing ? (isLong ? 600 : Int(limits.lanes.pause / .seconds(1))) : 0
        let delay = queue.schedule.delay(untilTurn: turn, atLeast: least)
        try await queue.send(message, after: delay)
        try await store.postpone([(message.id, message.round)], to: Date().addingTimeInterval(Double(delay)))
    }

    /// - Returns: whether it was accepted; nil when there was no try.
    private func tryOnce(_ message: WebhookMessage, _ delivery: WebhookDelivery) async throws -> Bool? {
        let now = Date()
        // A store that takes nothing would not take how the try ends either: the receiver would be told the same again and again.
        try await store.postpone([(message.id, message.round)], to: now)
        // As it is now, after it may have waited for its turn.
        guard let webhook = try await store.webhook(message.webhook), webhook.isEnabled else { return nil }
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
        let after: MonitorWebhook?
        if let delay {
            var next = message
            next.attempt += 1
            try await queue.send(next, after: delay)
            let due = Date().addingTimeInterval(Double(delay))
            after = try await store.record(ended(.retrying, due: due), of: message.id, round: message.round)
        } else {
            after = try await store.record(ended(.dead), of: message.id, round: message.round)
            logger.warning(
                "A webhook did not accept a message, which is given up",
                metadata: [
                    "webhook": "\(webhook.id)", "delivery": "\(message.id)", "status": "\(answer.status.map(String.init) ?? "none")",
                ])
        }
        // Where much waits, no message is tried often enough to be given up: then its age counts, unless somebody has sent it once more.
        let isOld = message.round == 1 && now.timeIntervalSince(delivery.createdAt) >= limits.endurance
        if let after, delay == nil || isOld { try await giveUp(after, webhook.url, answer, at: now) }
        return false
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
