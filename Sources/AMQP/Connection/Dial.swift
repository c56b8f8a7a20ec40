import Synchronization

/// One attempt to connect, on a thread of its own. Looking a name up and setting TLS up block in calls that nothing interrupts; here
/// they hold up neither what the connection's thread has to answer in time, nor a stop.
final class Dial: Sendable {
    /// Locked by the dial's thread for as long as it dials.
    private let result = Mutex<Result<RabbitMQHandle, AMQPError>?>(nil)
    private let breaker: StuckCallBreaker

    /// Starts dialing.
    ///
    /// - Parameters:
    ///   - sending: the breaker of the connection's later life.
    ///   - done: called on the dial's thread once there is something to take.
    init(
        _ endpoint: AMQPEndpoint,
        configuration: AMQPConfiguration,
        role: String,
        limit: Duration,
        sending: StuckCallBreaker,
        done: @escaping @Sendable () -> Void,
    ) {
        let breaker = StuckCallBreaker(limit: limit)
        self.breaker = breaker
        let deadline = ContinuousClock.now + limit
        let started = ConnectionThread.start(name: "amqp dial") { [self] in
            result.withLock { result in
                do throws(AMQPError) {
                    let handle = try RabbitMQHandle.connect(
                        to: endpoint,
                        configuration: configuration,
                        role: role,
                        deadline: deadline,
                        dialing: breaker,
                        sending: sending,
                    )
                    result = .success(handle)
                } catch {
                    result = .failure(error)
                }
            }
            done()
        }
        guard !started else { return }
        result.withLock { result in
            result = .failure(AMQPError(.connectionFailed, "The system gives no thread for connecting to \(endpoint.address)."))
        }
        done()
    }

    /// The result, once; nil while there is none.
    func take() -> sending Result<RabbitMQHandle, AMQPError>? {
        result.withLockIfAvailable { result -> sending Result<RabbitMQHandle, AMQPError>? in
            defer { result = nil }
            return result
        } ?? nil
    }

    /// Returns at once. The thread ends when its current call does, which is at once for a connect and a login without TLS; a connection
    /// that it made nonetheless is closed with this object, which the thread is the last to hold.
    func abandon() {
        breaker.stop()
    }
}
