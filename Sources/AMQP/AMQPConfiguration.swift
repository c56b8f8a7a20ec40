/// How a client connects and how long it waits.
package struct AMQPConfiguration: Sendable {
    /// How long to wait between attempts.
    package struct Backoff: Sendable {
        /// The first delay after a failure; it doubles with each further one.
        package var initial: Duration
        /// The delay that is not exceeded.
        package var maximum: Duration

        package init(initial: Duration = .milliseconds(250), maximum: Duration = .seconds(10)) {
            self.initial = initial
            self.maximum = maximum
        }

        /// The delay before attempt `attempt + 1` (from 0), spread over the upper half so that clients do not return in step.
        func delay(attempt: Int, jitter: Double) -> Duration {
            let doubled = initial * Double(1 << min(attempt, 20))
            return min(doubled, maximum) * (0.5 + 0.5 * jitter)
        }
    }

    /// The brokers, tried in turn. At least one.
    package var endpoints: [AMQPEndpoint]
    /// Shown in the RabbitMQ UI, followed by `consume` or `publish`.
    package var connectionName: String
    /// Shown in the RabbitMQ UI as what the client is.
    package var product: String
    /// Shown in the RabbitMQ UI beside `product`.
    package var version: String
    /// Proposed to the broker; the lower of both wins, 0 means none. A peer that is silent for twice this time counts as dead.
    package var heartbeat: Duration
    /// How many messages may wait for their confirm at a time.
    package var confirmWindow: Int
    /// From the call of `publish` to its answer, waiting for a connection included.
    package var publishTimeout: Duration
    /// In bytes, both ways. A larger delivery is rejected without requeue, which sends it to its queue's dead-letter exchange.
    package var maximumBodySize: Int
    /// Between attempts to connect, and between attempts to open a channel that the broker closes.
    package var backoff: Backoff
    /// From the start of an attempt to the end of its login: name look-up, TCP, TLS. Then the next endpoint has its turn.
    package var connectTimeout: Duration
    /// How long the broker may take to answer a request (`declare`, `inspect`, and what opens channels). `declare` and `inspect` wait
    /// no longer than this in all; a connection whose broker is silent for as long on any request is given up.
    package var requestTimeout: Duration
    /// How long a graceful shutdown waits for confirms that are still out.
    package var drainTimeout: Duration

    package init(
        endpoints: [AMQPEndpoint],
        connectionName: String,
        product: String = "DCM Processor",
        version: String = "0",
        heartbeat: Duration = .seconds(30),
        confirmWindow: Int = 512,
        publishTimeout: Duration = .seconds(30),
        maximumBodySize: Int = 16 << 20,
        backoff: Backoff = Backoff(),
        connectTimeout: Duration = .seconds(10),
        requestTimeout: Duration = .seconds(30),
        drainTimeout: Duration = .seconds(10),
    ) {
        precondition(!endpoints.isEmpty, "An AMQP client needs at least one endpoint.")
        precondition(confirmWindow > 0, "The confirm window must hold at least one message.")
        self.endpoints = endpoints
        self.connectionName = connectionName
        self.product = product
        self.version = version
        self.heartbeat = heartbeat
        self.confirmWindow = confirmWindow
        self.publishTimeout = publishTimeout
        self.maximumBodySize = maximumBodySize
        self.backoff = backoff
        self.connectTimeout = connectTimeout
        self.requestTimeout = requestTimeout
        self.drainTimeout = drainTimeout
    }
}
