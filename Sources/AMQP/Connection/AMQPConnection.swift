import Glibc
import Logging
import Metrics

/// One connection for the whole life of a client, with its thread: connects, declares the topology, keeps every ``ChannelUser`` on a
/// channel, sleeps when there is nothing to do, and starts over when the link is lost.
///
/// The object and all it holds live on that thread alone; others reach it through its ``AMQPInbox``. Nothing here is `Sendable`, so
/// the compiler keeps it so.
final class AMQPConnection {
    typealias Instant = ContinuousClock.Instant

    private let configuration: AMQPConfiguration
    private let topology: GrowingTopology
    private let role: any AMQPRole
    private let inbox: AMQPInbox
    private let status: AMQPStatus
    private let breaker: StuckCallBreaker
    private let metrics: AMQPMetrics
    private let logger: Logger

    private var machine: ConnectionStateMachine
    /// The attempt that is under way.
    private var dial: Dial?
    private var link: AMQPLink?
    private var names: TopologyDeclaration.Names = [:]
    private var declaration: TopologyDeclaration?
    private var serial: UInt64 = 0
    /// What `declaration` ended with, until the turn looks at it.
    private var declared: Result<TopologyDeclaration.Names, AMQPError>?
    private var declaredOnce = false
    private var shownBlocked: String?
    /// A failure is logged when it is not the one that was logged last.
    private var logged: AMQPError?

    init(
        role: any AMQPRole,
        configuration: AMQPConfiguration,
        topology: GrowingTopology,
        inbox: AMQPInbox,
        status: AMQPStatus,
        breaker: StuckCallBreaker,
        metrics: AMQPMetrics,
        logger: Logger,
    ) {
        self.role = role
        self.configuration = configuration
        self.topology = topology
        self.inbox = inbox
        self.status = status
        self.breaker = breaker
        self.metrics = metrics
        self.logger = logger
        machine = ConnectionStateMachine(
            endpoints: configuration.endpoints.count,
            backoff: configuration.backoff,
            // A little more than the attempt gives itself: what it says when its own limit ends it is worth more.
            connectTimeout: configuration.connectTimeout + .milliseconds(500),
            drainTimeout: configuration.drainTimeout,
            now: .now,
        )
    }

    /// The thread's whole life.
    func run() {
        var readable = false
        while true {
            let now = ContinuousClock.now
            let (commands, stop) = inbox.take()
            for command in commands { role.handle(command, link: link) }
            if let dial, let result = dial.take() { connected(result) }

            let step = machine.next(now: now, stop: stop, isDrained: role.isIdle, isAnswered: link?.isClosed ?? true)
            var until: Instant?
            switch step {
            case .connect(let endpoint):
                connect(configuration.endpoints[endpoint])
                continue
            case .giveUp:
                dial?.abandon()
                dial = nil
                lose(AMQPError(.connectionFailed, "Connecting took longer than \(configuration.connectTimeout), name look-up included."))
                continue
            case .beginDrain:
                status.update(role.part, .draining)
                role.beginDrain()
                continue
            case .sayGoodbye(let limit):
                until = limit
                guard let link else { break }
                // The last acks.
                role.work(link, now: now)
                link.sayGoodbye()
            case .finish:
                return finish()
            case .serve(let limit):
                until = limit
            }

            let before = (role.isIdle, link?.isClosed)
            do {
                let next = try serve(readable: readable, now: now)
                until = [until, next].compactMap(\.self).min()
            } catch {
                readable = false
                lose(error)
                continue
            }
            if stop != nil, before != (role.isIdle, link?.isClosed) {
                // What the stop was waiting for has just come.
                readable = false
                continue
            }
            readable = sleep(until: until, stop: stop)
        }
    }

    // MARK: A turn

    /// - Returns: when to come back.
    private func serve(readable: Bool, now: Instant) throws(AMQPError) -> Instant? {
        role.expire(now: now, blockedReason: link?.blockedReason)
        var next = role.nextDeadline
        guard let link else { return next }
        try link.receive(readable: readable, now: now)
        // After our goodbye nothing may follow.
        if !machine.isClosing {
            if let declared {
                self.declared = nil
                try applyTopology(declared, link)
            }
            if declaredOnce { restoreChannels(link, now: now) }
            showState(link)
            role.work(link, now: now)
        }
        try link.flush(now: now)
        // An empty topology is declared without an answer to wait for.
        if declared != nil || link.isBehind { next = now }
        next = [next, role.nextDeadline, try link.heartbeat(now: now), try link.checkRequests(now: now), restoreAt].compactMap(\.self).min()
        return next
    }

    private func sleep(until: Instant?, stop: AMQPStop?) -> Bool {
        var descriptors = [pollfd(fd: inbox.wakeUp.descriptor, events: Int16(POLLIN), revents: 0)]
        if let link {
            let events = link.backlog > 0 ? POLLIN | POLLOUT : POLLIN
            descriptors.append(pollfd(fd: link.descriptor, events: Int16(events), revents: 0))
        }
        var timeout: Int32 = 0
        if inbox.prepareToSleep(seen: stop) {
            // Rounded up: waking early would mean another turn for nothing.
            timeout = until.map { Int32(clamping: max(0, Int(ceil(($0 - .now) / .milliseconds(1))))) } ?? -1
        }
        guard poll(&descriptors, nfds_t(descriptors.count), timeout) > 0 else { return false }
        if descriptors[0].revents != 0 { inbox.wakeUp.clear() }
        return descriptors.count > 1 && descriptors[1].revents & ~Int16(POLLOUT) != 0
    }

    // MARK: Coming up

    private func connect(_ endpoint: AMQPEndpoint) {
        dial = Dial(
            endpoint,
            configuration: configuration,
            role: "\(role.part)",
            limit: configuration.connectTimeout,
            sending: breaker,
        ) { [inbox] in inbox.wakeUp.signal() }
    }

    private func connected(_ result: Result<RabbitMQHandle, AMQPError>) {
        dial = nil
        switch result {
        case .success(let handle):
            let link = AMQPLink(
                handle,
                maximumBodySize: configuration.maximumBodySize,
                requestTimeout: configuration.requestTimeout,
                serial: serial,
                now: .now,
            )
            self.link = link
            machine.connected()
            metrics.connections.increment()
            logger.debug("Connected to the broker")
            declare(on: link)
        case .failure(let error):
            lose(error)
        }
    }

    private func declare(on link: AMQPLink) {
        // For a server-named queue that is in use the broker would make another one, which fills up with nobody to take from it.
        names = names.filter { name in role.users.contains { $0.isReady && $0.queue == name.key } }
        let declaration = TopologyDeclaration(topology.current, includesExclusive: role.part == .consume, names: names) {
            [unowned self] result in
            declared = result
        }
        self.declaration = declaration
        declaration.start(on: link)
    }

    private func applyTopology(_ result: Result<TopologyDeclaration.Names, AMQPError>, _ link: AMQPLink) throws(AMQPError) {
        declaration = nil
        switch result {
        case .success(let names):
            self.names = names
            // Without a time of their own, this is the start of the link: all of them are due.
            let now = ContinuousClock.now
            for user in role.users where user.channel == nil && (user.retryAt ?? now) <= now { user.open(on: link, names: names) }
            declaredOnce = true
        case .failure(let error):
            // At the start of a link the topology is what everything stands on. Later, only those who lost their channel wait for it.
            guard declaredOnce else { throw error }
            for user in role.users where user.channel == nil { user.failed(error) }
        }
    }

    /// Gives a channel to those who have none: new consumers at once, those whose channel the broker closed after the topology was
    /// declared again, for a deleted queue is the usual reason.
    private func restoreChannels(_ link: AMQPLink, now: Instant) {
        guard declaration == nil else { return }
        var redeclare = false
        for user in role.users where user.channel == nil {
            user.report = { [logger] user, error in
                logger.warning(
                    "The broker closed a channel; it is opened again",
                    metadata: ["amqp.channel": "\(user.name)", "amqp.error": "\(error)"],
                )
            }
            if let retryAt = user.retryAt {
                redeclare = redeclare || retryAt <= now
            } else {
                user.open(on: link, names: names)
            }
        }
        if redeclare { declare(on: link) }
    }

    private var restoreAt: Instant? {
        guard declaration == nil, declaredOnce else { return nil }
        return role.users.compactMap(\.retryAt).min()
    }

    private func showState(_ link: AMQPLink) {
        let wasOpen = machine.phase == .open
        if declaredOnce, role.isReady { machine.ready() }
        guard machine.phase == .open else { return }
        guard !wasOpen || shownBlocked != link.blockedReason else { return }
        if let reason = link.blockedReason {
            if role.part == .publish { metrics.blocked.record(1) }
            logger.warning("The broker takes no messages", metadata: ["amqp.reason": "\(reason)"])
            status.update(role.part, .blocked(reason: reason))
        } else {
            if role.part == .publish { metrics.blocked.record(0) }
            logger.info(wasOpen ? "The broker takes messages again" : "Connection to the broker is open")
            status.update(role.part, .open)
        }
        shownBlocked = link.blockedReason
        logged = nil
    }

    // MARK: Going down

    private func lose(_ error: AMQPError) {
        dropLink(error)
        machine.failed(now: .now, jitter: .random(in: 0...1))
        guard case .disconnected = machine.phase else { return }
        status.update(role.part, .reconnecting(error))
        guard logged != error else { return }
        logged = error
        let metadata: Logger.Metadata = [
            "amqp.endpoints": "\(configuration.endpoints.map(\.address).joined(separator: ", "))",
            "amqp.error": "\(error)",
        ]
        switch error.code {
        case .authentication, .topologyMismatch, .accessRefused, .notFound:
            logger.error("The broker refuses us; trying again until that is repaired", metadata: metadata)
        default:
            logger.warning("Waiting for the broker", metadata: metadata)
        }
    }

    private func dropLink(_ error: AMQPError) {
        if let link { serial = link.nextSerial }
        // A broker that hears a goodbye frees exclusive queues at once; whether it answers does not matter here.
        if let link, !link.isClosed, error.code != .connectionLost {
            link.sayGoodbye()
            try? link.flush(now: .now)
        }
        link = nil
        declaration = nil
        declared = nil
        declaredOnce = false
        names = [:]
        if shownBlocked != nil, role.part == .publish { metrics.blocked.record(0) }
        shownBlocked = nil
        role.linkLost(error)
        for user in role.users { user.linkLost(error) }
    }

    private func finish() {
        let error = AMQPError(.shutdown, "The AMQP client has stopped.")
        // Commands that come from here on are refused; those that came before are answered.
        for command in inbox.close() { role.handle(command, link: nil) }
        dial?.abandon()
        dial = nil
        dropLink(error)
        role.finish(error)
        status.update(role.part, .closed)
    }
}
