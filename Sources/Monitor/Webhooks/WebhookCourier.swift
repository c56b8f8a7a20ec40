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
/// A 2xx is the end of a message; after anything else it waits in a queue of the broker that brings it back, until it is given up.
/// In each case what follows is confirmed, then on record, then acknowledged: wherever the monitor is killed, a message comes at least once.
struct WebhookCourier: Service {
    struct Limits: Sendable {
        /// Requests at once.
        var parallelism = 8
        /// For one request, from the look-up of the name to the end of the answer.
        var timeout = Duration.seconds(15)
        /// After so many failed tries in a row it accepts nothing.
        var failures = 5
        /// Webhooks that accept nothing are tried no more often than this, whatever waits for them.
        var pause: TimeInterval = 30
        /// A webhook that accepts nothing for so long is disabled.
        var endurance: TimeInterval = 3 * 86400
    }

    private let store: MonitorStore
    private let queue: WebhookQueue
    private let limits: Limits
    private let logger: Logger
    private let session: CurlSession
    private let starts: AsyncStream<Void>
    private let starter: AsyncStream<Void>.Continuation
    /// When each webhook that fails was last tried.
    private let tried = LastTries()
    private let underWay = MessagesUnderWay()

    init(store: MonitorStore, queue: WebhookQueue, limits: Limits = Limits(), logger: Logger) {
        self.store = store
        self.queue = queue
        self.limits = limits
        self.logger = logger
        session = CurlSession(parallelism: limits.parallelism)
        (starts, starter) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// There is a webhook. Cheap, as often as you like.
    func start() { starter.yield() }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await _ in starts {
                do {
                    try await deliverAll()
                } catch is CancellationError {
                    return
                } catch let error as AMQPError where error.code == .shutdown || error.code == .cancelled {
                    return
                } catch {
                    logger.debug("Webhooks are not told anything yet", metadata: ["error": "\(error)"])
                }
            }
        }
    }

    private func deliverAll() async throws {
        try await queue.consume(prefetch: limits.parallelism) { deliveries in
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
            // Handed over twice: the other one is not acknowledged yet, so nothing is lost with this one.
            guard underWay.begin(message.id) else { return delivery.ack() }
            defer { underWay.end(message.id) }
            try await carry(message)
            delivery.ack()
        } catch {
            // Cancelled, or the broker or the store is away. Not at once again: that would be as fast as the machine is.
            if !(error is CancellationError) {
                logger.debug("A webhook's message goes back to its queue", metadata: ["error": "\(error)"])
                try? await Task.sleep(for: .seconds(1))
            }
            delivery.nack(requeue: true)
        }
    }

    /// Returns when the message may be forgotten.
    private func carry(_ message: WebhookMessage) async throws {
        guard let webhook = try await store.webhook(message.webhook), let delivery = try await store.delivery(message.id),
            // What was tried already: the acknowledgement was lost, or somebody handed it over twice.
            !delivery.state.isOver, delivery.round == message.round, delivery.attempt < message.attempt
        else { return }
        guard webhook.isEnabled else {
            try await store.cancelDelivery(
                message.id, round: message.round, because: "The webhook was disabled before it was this message's turn.")
            return
        }
        let now = Date()
        // Who has just asked for it wants to see whether it works now.
        let isByHand = message.attempt == 1 && (message.round > 1 || message.event == WebhookDocument.testEvent)
        if webhook.failures >= limits.failures, !isByHand, !tried.mayTry(webhook.id, at: now, pause: limits.pause) {
            let delay = queue.schedule.delay(atLeast: Int(limits.pause.rounded(.up)))
            try await queue.send(message, after: delay)
            try await store.postponeDelivery(message.id, round: message.round, to: now.addingTimeInterval(Double(delay)))
            return
        }
        // A store that takes nothing would not take how the try ends either: the receiver would be told the same again and again.
        try await store.postponeDelivery(message.id, round: message.round, to: now)
        let answer = await attempt(message, webhook, at: now)
        if answer.isCancelled { throw CancellationError() }
        let milliseconds = Int(Date().timeIntervalSince(now) * 1000)
        func ended(_ state: WebhookDelivery.State, due: Date? = nil) -> WebhookTry {
            WebhookTry(
                state, attempt: message.attempt, at: now, dueAt: due, status: answer.status, milliseconds: milliseconds,
                problem: answer.problem)
        }
        let delay = answer.isFinal ? nil : queue.schedule.delay(afterAttempt: message.attempt, atLeast: answer.retryAfter)
        if answer.problem == nil {
            _ = try await store.record(ended(.delivered), of: message.id, round: message.round)
        } else if let delay {
            var next = message
            next.attempt += 1
            try await queue.send(next, after: delay)
            let due = Date().addingTimeInterval(Double(delay))
            _ = try await store.record(ended(.retrying, due: due), of: message.id, round: message.round)
        } else {
            let after = try await store.record(ended(.dead), of: message.id, round: message.round)
            logger.warning(
                "A webhook did not accept a message, which is given up",
                metadata: [
                    "webhook": "\(webhook.id)", "delivery": "\(message.id)", "status": "\(answer.status.map(String.init) ?? "none")",
                ])
            try await giveUp(after, answer, at: now)
        }
    }

    /// Disables a webhook that wants it so, or that nobody seems to look after.
    private func giveUp(_ webhook: MonitorWebhook?, _ answer: Answer, at now: Date) async throws {
        guard let webhook, webhook.isEnabled else { return }
        let reason: String
        if answer.status == 410 {
            reason = "The receiver answered 410: it wants no more messages."
        } else if let since = webhook.failingSince, now.timeIntervalSince(since) >= limits.endurance {
            reason = "It has accepted nothing for \(Int(limits.endurance / 86400)) days."
        } else {
            return
        }
        _ = try await store.disableWebhook(webhook.id, because: reason)
        try await store.record(
            AuditEntry(
                actor: "monitor", action: "disable-webhook", target: .init("webhook", webhook.id),
                detail: ["name": .string(webhook.name), "reason": .string(reason)]))
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

/// Keeps copies of a message from being sent at the same time.
private final class MessagesUnderWay: Sendable {
    private let ids = Mutex<Set<String>>([])

    /// - Returns: false for one that is under way.
    func begin(_ id: String) -> Bool { ids.withLock { $0.insert(id).inserted } }

    func end(_ id: String) { ids.withLock { _ = $0.remove(id) } }
}

/// Lets one message through to a failing webhook now and then.
private final class LastTries: Sendable {
    private let times = Mutex<[String: Date]>([:])

    func mayTry(_ webhook: String, at now: Date, pause: TimeInterval) -> Bool {
        times.withLock { times in
            if let last = times[webhook], (0..<pause).contains(now.timeIntervalSince(last)) { return false }
            times[webhook] = now
            return true
        }
    }
}
