import AMQP
import Bootstrap
import Jobs
import Pipeline

/// What a worker says to the router. Errors mean "not now": the caller tries again.
protocol RouterLink: Sendable {
    /// Asks to start an attempt.
    func claim(_ claim: ClaimMessage) async throws -> ClaimReply
    /// Renews leases; the heartbeat.
    func renew(_ renewal: RenewMessage, limit: Duration) async throws -> RenewReply
    /// Returns once the broker has taken responsibility for the result, or, when it asks for the next job, once the router has.
    /// - Returns: the answer when the result asks for the next job; nil when it does not.
    func report(_ result: ResultMessage) async throws -> ClaimReply?
    /// Puts aside what cannot be read; returns once the broker has it.
    func putAside(_ delivery: AMQPDelivery, queue: String, reason: String) async throws
}

struct BrokerLink: RouterLink {
    let broker: AMQPClient

    /// How long a request stays in the router's queue while the router restarts.
    private static let lifetime = Duration.seconds(30)

    /// Well within a lease: a router that ends after it has granted a claim may take the answer with it. Asked again it gives the same
    /// answer to the same id, and the lease still has time left. A lost connection ends the wait at once.
    private static let claimLimit = Pace.scaled(.seconds(8))

    func claim(_ claim: ClaimMessage) async throws -> ClaimReply {
        let request = request(PipelineKey.claim, ClaimMessage.type, claim, Self.lifetime)
        return try decode(try await broker.call(request, timeout: Self.claimLimit), ClaimReply.type)
    }

    func renew(_ renewal: RenewMessage, limit: Duration) async throws -> RenewReply {
        // A renewal counts also when nobody waits for its answer any more, so it stays in the queue for longer than that.
        let request = request(PipelineKey.renew, RenewMessage.type, renewal, max(limit, Self.lifetime))
        return try decode(try await broker.call(request, timeout: limit), RenewReply.type)
    }

    func report(_ result: ResultMessage) async throws -> ClaimReply? {
        let message = AMQPPublishing.pipeline(
            exchange: PipelineExchange.router,
            routingKey: PipelineKey.result,
            type: ResultMessage.type,
            body: result,
            messageID: "\(result.job).\(result.attempt).\(result.token)",
            correlationID: result.job.run.rawValue
        )
        guard let next = result.next, next.isWithdrawn != true else {
            try await broker.publish(message)
            return nil
        }
        // The answer comes after the router's commit, which is more than the broker's confirm.
        return try decode(try await broker.call(message, timeout: Self.claimLimit), ClaimReply.type)
    }

    func putAside(_ delivery: AMQPDelivery, queue: String, reason: String) async throws {
        try await broker.publish(.deadLetter(delivery, queue: queue, reason: reason))
    }

    private func request(_ key: String, _ type: String, _ body: some Encodable, _ lifetime: Duration) -> AMQPPublishing {
        var request = AMQPPublishing.pipeline(
            exchange: PipelineExchange.router,
            routingKey: key,
            type: type,
            body: body,
            persistent: false
        )
        // What is older is of no use to anybody.
        request.properties.expiration = "\(lifetime.components.seconds * 1000)"
        return request
    }

    private func decode<Reply: Decodable>(_ reply: AMQPReply, _ type: String) throws -> Reply {
        guard reply.properties.type == type else {
            throw UndecodableReply(reason: "the router answered with '\(reply.properties.type ?? "no type")' instead of '\(type)'")
        }
        do {
            return try PipelineJSON.decode(Reply.self, from: reply.body)
        } catch {
            throw UndecodableReply(reason: "the router's answer '\(type)' cannot be read: \(error)")
        }
    }
}

/// The router speaks another version.
struct UndecodableReply: Error, CustomStringConvertible {
    var reason: String
    var description: String { reason }
}

/// Where hints and control messages come from.
protocol DeliverySource: Sendable {
    /// Hands over each delivery of a queue until the task is cancelled. What is not settled then goes back to the queue.
    func consume(_ queue: String, prefetch: Int, _ take: (AMQPDelivery) async -> Void) async throws
    /// Returns once the broker has everything that a worker needs.
    func waitUntilReady() async throws
}

struct BrokerSource: DeliverySource {
    let broker: AMQPClient

    func consume(_ queue: String, prefetch: Int, _ take: (AMQPDelivery) async -> Void) async throws {
        try await broker.consume(queue, prefetch: prefetch) { deliveries in
            for await delivery in deliveries { await take(delivery) }
        }
    }

    func waitUntilReady() async throws {
        try await broker.waitUntilReady()
    }
}
