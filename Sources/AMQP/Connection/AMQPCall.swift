/// A request that waits for its reply.
struct AMQPCall: Sendable {
    let request: AMQPPublishing
    let deadline: ContinuousClock.Instant
    let promise: AMQPPromise<AMQPReply>
}

/// A consumer as its task asked for it; it outlives channels and connections.
struct ConsumerRequest: Sendable {
    let id: UInt64
    let queue: String
    let prefetch: UInt16
    let priority: Int?
    let buffer: DeliveryBuffer
    /// Completed when no more deliveries can come.
    let stopped: AMQPPromise<Void>
}
