import Metrics

/// What a client counts, made once.
struct AMQPMetrics: Sendable {
    let published: Counter
    let confirmed: Counter
    let returned: Counter
    let nacked: Counter
    /// Transient messages that were not sent for want of a connection.
    let dropped: Counter
    let delivered: Counter
    let settled: Counter
    let connections: Counter
    /// 1 while the broker takes no messages from us.
    let blocked: Gauge

    init() {
        func counter(_ name: String) -> Counter { Counter(label: "amqp_client_\(name)_total") }
        published = counter("published")
        confirmed = counter("confirmed")
        returned = counter("returned")
        nacked = counter("nacked")
        dropped = counter("dropped")
        delivered = counter("delivered")
        settled = counter("settled")
        connections = counter("connections")
        blocked = Gauge(label: "amqp_client_blocked")
    }
}
