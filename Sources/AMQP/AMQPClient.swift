package import Logging
import Metrics
import ServiceLifecycle
import Synchronization

/// A client of a RabbitMQ broker that stays connected for as long as its service runs.
///
/// Two connections, one to publish and one to consume: a broker short of memory stops reading from connections that publish, and
/// acks must still get through. Each has a thread of its own; every call here may come from anywhere.
///
/// Make one client a process, run it as a service that starts first and stops last.
package final class AMQPClient: Service, Sendable {
    private let configuration: AMQPConfiguration
    private let topology: GrowingTopology
    private let logger: Logger
    private let status = AMQPStatus()
    private let publishInbox = AMQPInbox()
    private let consumeInbox = AMQPInbox()
    private let breakers: [StuckCallBreaker]
    private let metrics = AMQPMetrics()
    private let isRunning = Mutex(false)
    private let lastConsumerID = Mutex<UInt64>(0)

    package init(configuration: AMQPConfiguration, topology: AMQPTopology, logger: Logger) {
        self.configuration = configuration
        self.topology = GrowingTopology(topology)
        self.logger = logger
        let limit = configuration.publishTimeout
        breakers = [StuckCallBreaker(limit: limit), StuckCallBreaker(limit: limit)]
    }

    // MARK: Life

    /// Connects, and stays connected until the service group shuts down gracefully (consumers end, confirms are awaited) or the task is
    /// cancelled (at once). Never ends because of a broker. Call it once.
    ///
    /// - Throws: ``AMQPError/Code/invalidTopology``, before anything is connected.
    package func run() async throws {
        try topology.current.check()
        let first = isRunning.withLock { running in
            defer { running = true }
            return !running
        }
        precondition(first, "AMQPClient.run() may be called once.")

        let publishing = start(.publish)
        let consuming = start(.consume)
        await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                // Consumers first: what they still have in hand may want to publish.
                _ = await consuming.result
                stop(.publish, .drain)
                _ = await publishing.result
            } onGracefulShutdown: { [self] in
                drain()
            }
        } onCancel: {
            stop(.publish, .abandon)
            stop(.consume, .abandon)
        }
    }

    /// Begins a graceful stop; `run()` does the rest.
    func drain() {
        stop(.consume, .drain)
    }

    /// For good: until here a part may still connect, for what others have in hand and want to publish.
    private func stop(_ part: AMQPStatus.Part, _ stop: AMQPStop) {
        // A peer that hangs in the middle of a send on TLS must not hold the stop.
        breakers[part.rawValue].shorten(to: stop == .drain ? configuration.drainTimeout : ConnectionStateMachine.goodbyeTimeout)
        (part == .publish ? publishInbox : consumeInbox).stop(stop)
    }

    private func start(_ part: AMQPStatus.Part) -> AMQPPromise<Void> {
        let ended = AMQPPromise<Void>()
        let inbox = part == .publish ? publishInbox : consumeInbox
        let breaker = breakers[part.rawValue]
        var logger = logger
        logger[metadataKey: "amqp.connection"] = "\(part)"
        // 15 characters show in ps and top; the name's first ones tell clients of one process apart.
        let started = ConnectionThread.start(name: "amqp-\("\(part)".prefix(1)) \(configuration.connectionName)") {
            [configuration, topology, status, metrics, logger] in
            let role: any AMQPRole =
                switch part {
                case .publish: PublishRole(configuration: configuration, metrics: metrics)
                case .consume: ConsumeRole(configuration: configuration, inbox: inbox, metrics: metrics, logger: logger)
                }
            AMQPConnection(
                role: role,
                configuration: configuration,
                topology: topology,
                inbox: inbox,
                status: status,
                breaker: breaker,
                metrics: metrics,
                logger: logger,
            ).run()
            ended.complete(.success(()))
        }
        precondition(started, "The system gives no thread for an AMQP connection.")
        return ended
    }

    /// How we stand with the broker, now.
    package var state: AMQPConnectionState {
        status.current
    }

    /// The state now and each change; a slow reader sees the newest. Ends when the client has stopped.
    package var states: AsyncStream<AMQPConnectionState> {
        status.stream()
    }

    /// Returns once both connections are open and the topology is declared, however long that takes.
    ///
    /// - Throws: ``AMQPError/Code/shutdown``; `CancellationError` when the task is cancelled.
    package func waitUntilReady() async throws {
        for await state in states {
            switch state {
            case .open, .blocked: return
            case .draining, .closed: throw Self.stopped
            case .connecting, .reconnecting: continue
            }
        }
        try Task.checkCancellation()
        throw Self.stopped
    }

    // MARK: Topology

    /// Adds to what is declared at each connect, and declares it now, exclusive queues apart. Waits for a connection, up to
    /// `requestTimeout` in all. What the broker refuses is forgotten; after another error the next connect declares the addition.
    ///
    /// - Throws: `.invalidTopology`, `.topologyMismatch`, `.accessRefused`, `.connectionLost`, `.timeout`, `.shutdown`, `.cancelled`.
    package func declare(_ addition: AMQPTopology) async throws(AMQPError) {
        try (topology.current + addition).check()
        guard topology.add(addition) else { return }
        let promise = AMQPPromise<Void>()
        let deadline = ContinuousClock.now + configuration.requestTimeout
        let watch = expire(at: deadline) { promise.complete(.failure(Self.notRunning)) }
        defer { watch?.cancel() }
        guard publishInbox.submit(.declare(addition, deadline: deadline, promise)) else { throw Self.stopped }
        do throws(AMQPError) {
            try await promise.value(cancelled: "The task was cancelled while a topology was declared.")
        } catch {
            if [.topologyMismatch, .accessRefused, .notFound].contains(error.code) { topology.forget(addition) }
            throw error
        }
        topology.take(addition)
    }

    /// How many messages wait in a queue and how many consumers it has, now. Waits for a connection, up to `requestTimeout` in all.
    ///
    /// - Throws: `.notFound`, `.accessRefused`, `.connectionLost`, `.timeout`, `.shutdown`, `.cancelled`.
    package func inspect(_ queue: String) async throws(AMQPError) -> AMQPQueueStatus {
        let promise = AMQPPromise<AMQPQueueStatus>()
        let deadline = ContinuousClock.now + configuration.requestTimeout
        let watch = expire(at: deadline) { promise.complete(.failure(Self.notRunning)) }
        defer { watch?.cancel() }
        guard publishInbox.submit(.inspect(queue: queue, deadline: deadline, promise)) else { throw Self.stopped }
        return try await promise.value(cancelled: "The task was cancelled while a queue was looked at.")
    }

    // MARK: Publishing

    /// Publishes a message and returns when the broker has confirmed it. Waits for a connection, up to `publishTimeout` in all.
    ///
    /// - Throws: `.returned` (mandatory, and no queue wanted it), `.nacked`, `.connectionLost`, `.channelClosed`, `.timeout` and
    ///   `.cancelled` (it may have arrived or not), `.invalidMessage`, `.shutdown`.
    package func publish(_ message: AMQPPublishing) async throws(AMQPError) {
        if let error = validate(message) { throw error }
        let submission = PublishSubmission([message], deadline: .now + configuration.publishTimeout)
        let watch = expire(at: submission.deadline) { submission.settle(0, .failure(Self.notRunning)) }
        defer { watch?.cancel() }
        guard publishInbox.submit(.publish(submission)) else { throw Self.stopped }
        try await submission.outcome().get()
    }

    /// Publishes messages in order without waiting in between.
    ///
    /// - Returns: one outcome a message, in their order; see ``publish(_:)-(AMQPPublishing)`` for the errors.
    package func publish(_ batch: [AMQPPublishing]) async -> [Result<Void, AMQPError>] {
        guard !batch.isEmpty else { return [] }
        let submission = PublishSubmission(batch, deadline: .now + configuration.publishTimeout)
        for (index, message) in batch.enumerated() {
            if let error = validate(message) { submission.settle(index, .failure(error)) }
        }
        let watch = expire(at: submission.deadline) {
            for index in batch.indices { submission.settle(index, .failure(Self.notRunning)) }
        }
        defer { watch?.cancel() }
        if !publishInbox.submit(.publish(submission)) {
            for index in batch.indices { submission.settle(index, .failure(Self.stopped)) }
        }
        return await submission.outcomes()
    }

    /// Sends a message that may be lost: no confirm, and dropped when there is no connection, while the broker is blocked, when 4 MiB wait
    /// for the socket or 10,000 messages for the connection's thread. Never waits.
    package func publishTransient(_ message: AMQPPublishing) {
        if let error = validate(message) {
            logger.error("Dropped a message that cannot be sent", metadata: ["amqp.error": "\(error)"])
            return
        }
        guard isRunning.withLock({ $0 }), publishInbox.submitTransient(message) else { return metrics.dropped.increment() }
    }

    // MARK: Consuming

    /// Consumes from a queue while `body` runs, on a channel of its own. Deliveries go on after a reconnect, and after the queue was
    /// deleted and declared again. When `body` ends, the consumer is cancelled and what it did not settle goes back to the queue.
    ///
    /// - Parameters:
    ///   - queue: its name, or the alias of a server-named queue of the topology.
    ///   - prefetch: how many deliveries may be unsettled at a time, 1...65535.
    ///   - consumerPriority: higher ones get messages first.
    /// - Throws: what `body` throws, or ``AMQPError/Code/shutdown`` when the client has stopped.
    package func consume<R>(
        _ queue: String,
        prefetch: Int,
        consumerPriority: Int? = nil,
        _ body: (AMQPDeliveries) async throws -> R,
    ) async throws -> R {
        precondition((1...65535).contains(prefetch), "A prefetch of \(prefetch) is not within 1...65535.")
        let request = ConsumerRequest(
            id: nextConsumerID(),
            queue: queue,
            prefetch: UInt16(prefetch),
            priority: consumerPriority,
            buffer: DeliveryBuffer(),
            stopped: AMQPPromise(),
        )
        guard consumeInbox.submit(.startConsumer(request)) else { throw Self.stopped }
        let result: R
        do {
            result = try await body(AMQPDeliveries(buffer: request.buffer))
        } catch {
            await stop(request)
            throw error
        }
        await stop(request)
        return result
    }

    private func nextConsumerID() -> UInt64 {
        lastConsumerID.withLock { id in
            id += 1
            return id
        }
    }

    /// Not cancellable: whoever leaves the scope may rely on the queue having its messages back. Bounded by the connection's thread.
    private func stop(_ request: ConsumerRequest) async {
        guard consumeInbox.submit(.stopConsumer(id: request.id)), isRunning.withLock({ $0 }) else { return }
        _ = await request.stopped.result
    }

    // MARK: Requests and replies

    /// Sends a request and waits for its reply. The correlation identifier and the reply address are ours; many calls may be under way.
    ///
    /// - Throws: `.timeout`, `.connectionLost`, `.returned` (a mandatory request that no queue wanted), `.cancelled`,
    ///   `.invalidMessage`, `.shutdown`.
    package func call(_ request: AMQPPublishing, timeout: Duration) async throws(AMQPError) -> AMQPReply {
        if let error = validate(request) { throw error }
        let call = AMQPCall(request: request, deadline: .now + timeout, promise: AMQPPromise())
        let watch = expire(at: call.deadline) { call.promise.complete(.failure(Self.notRunning)) }
        defer { watch?.cancel() }
        guard publishInbox.submit(.call(call)) else { throw Self.stopped }
        return try await call.promise.value(cancelled: "The task was cancelled while it waited for a reply.")
    }

    /// Answers a request that came by ``call(_:timeout:)``. Does nothing for one without a reply address. May be lost: who asked, asks again.
    package func reply(to request: AMQPDelivery, with properties: AMQPProperties, body: [UInt8]) {
        guard let replyTo = request.properties.replyTo else { return }
        var properties = properties
        properties.correlationID = request.properties.correlationID
        properties.deliveryMode = .transient
        publishTransient(AMQPPublishing(exchange: "", routingKey: replyTo, mandatory: false, properties: properties, body: body))
    }

    // MARK: -

    /// Before `run()` there is no thread that looks at deadlines. Whoever calls so early gets a task that does.
    private func expire(at deadline: ContinuousClock.Instant, _ expire: @escaping @Sendable () -> Void) -> Task<Void, Never>? {
        guard !isRunning.withLock({ $0 }) else { return nil }
        return Task {
            try? await Task.sleep(until: deadline, clock: .continuous)
            if !Task.isCancelled { expire() }
        }
    }

    private static var notRunning: AMQPError {
        AMQPError(.timeout, "Nothing was sent in time: the AMQP client was not running when this was asked of it.")
    }

    private func validate(_ message: AMQPPublishing) -> AMQPError? {
        message.problem(maximumBodySize: configuration.maximumBodySize).map { problem in
            AMQPError(
                .invalidMessage,
                "The message to exchange \"\(message.exchange.prefix(255))\" with the key \"\(message.routingKey.prefix(255))\": \(problem).",
            )
        }
    }

    private static var stopped: AMQPError {
        AMQPError(.shutdown, "The AMQP client has stopped.")
    }
}
