/// What a connection does next. A value: it decides, ``AMQPConnection`` acts.
///
///     disconnected --> connecting --> declaring --ready--> open --stop--> draining --> closing --> closed
///          ^               |              |                 |
///          +--- failed ----+--------------+-----------------+
struct ConnectionStateMachine {
    typealias Instant = ContinuousClock.Instant

    enum Phase: Equatable {
        case disconnected(retryAt: Instant)
        /// An attempt is under way.
        case connecting(until: Instant)
        /// Connected and logged in; topology and channels are being set up.
        case declaring
        case open
        case draining(until: Instant)
        /// We said goodbye.
        case closing(until: Instant)
        case closed
    }

    enum Step: Equatable {
        case connect(endpoint: Int)
        /// The attempt has taken too long.
        case giveUp
        /// Handle traffic; come back at `until` at the latest.
        case serve(until: Instant?)
        case beginDrain
        /// Say goodbye, then as `serve`.
        case sayGoodbye(until: Instant)
        case finish
    }

    private(set) var phase: Phase
    private(set) var attempt = 0
    private var endpoint = 0
    private let endpoints: Int
    private let backoff: AMQPConfiguration.Backoff
    private let connectTimeout: Duration
    private let drainTimeout: Duration
    static let goodbyeTimeout = Duration.seconds(2)

    /// - Parameter connectTimeout: after which an attempt is given up, whatever it is at.
    init(endpoints: Int, backoff: AMQPConfiguration.Backoff, connectTimeout: Duration, drainTimeout: Duration, now: Instant) {
        self.endpoints = endpoints
        self.backoff = backoff
        self.connectTimeout = connectTimeout
        self.drainTimeout = drainTimeout
        phase = .disconnected(retryAt: now)
    }

    /// - Parameters:
    ///   - isDrained: nothing of ours is in flight.
    ///   - isAnswered: the broker has answered our goodbye.
    mutating func next(now: Instant, stop: AMQPStop?, isDrained: Bool, isAnswered: Bool) -> Step {
        switch (phase, stop) {
        case (.closed, _), (.disconnected, .some), (.connecting, .some):
            phase = .closed
            return .finish
        case (.disconnected(let retryAt), nil):
            guard now >= retryAt else { return .serve(until: retryAt) }
            phase = .connecting(until: now + connectTimeout)
            return .connect(endpoint: endpoint)
        case (.connecting(let until), nil):
            return now >= until ? .giveUp : .serve(until: until)
        case (.declaring, nil), (.open, nil):
            return .serve(until: nil)
        case (.open, .drain):
            phase = .draining(until: now + drainTimeout)
            return .beginDrain
        case (.draining(let until), .drain) where !isDrained && now < until:
            return .serve(until: until)
        case (.declaring, .some), (.open, .abandon), (.draining, _):
            let until = now + Self.goodbyeTimeout
            phase = .closing(until: until)
            return .sayGoodbye(until: until)
        case (.closing(let until), _):
            guard isAnswered || now >= until else { return .serve(until: until) }
            phase = .closed
            return .finish
        }
    }

    /// Whether we have said goodbye.
    var isClosing: Bool {
        if case .closing = phase { true } else { false }
    }

    mutating func connected() {
        phase = .declaring
    }

    /// Topology and channels are there.
    mutating func ready() {
        guard case .declaring = phase else { return }
        phase = .open
        attempt = 0
    }

    /// No connection, or the one we had is lost.
    ///
    /// - Parameter jitter: 0...1.
    mutating func failed(now: Instant, jitter: Double) {
        switch phase {
        case .closing, .draining, .closed:
            // Nothing worth a new connection is left to do.
            phase = .closed
        case .disconnected, .connecting, .declaring, .open:
            // One endpoint that is down says nothing of the next: the wait grows with each round of all of them.
            let isEndOfRound = (attempt + 1).isMultiple(of: endpoints)
            phase = .disconnected(retryAt: now + backoff.delay(attempt: isEndOfRound ? attempt / endpoints : 0, jitter: jitter))
            attempt += 1
            endpoint = (endpoint + 1) % endpoints
        }
    }
}
