import CRabbitMQ
import Glibc

func rabbitMQMessage(_ status: Int32) -> String {
    String(cString: amqp_error_string2(status))
}

/// One connection of the C library, logged in. Made by a ``Dial`` and handed over whole; used and destroyed on one thread: the class is
/// not `Sendable`.
///
/// The library's own heartbeats are off (see `init`), so reading never writes: what goes out goes through ``writer`` alone.
final class RabbitMQHandle {
    let descriptor: Int32
    let writer: RabbitMQWriter
    /// As negotiated; nil for none.
    let heartbeat: Duration?
    let channelMax: Int
    private let state: amqp_connection_state_t
    private let isTLS: Bool

    /// Takes a connection that is logged in; `deinit` destroys it. See ``connect(to:configuration:role:deadline:dialing:sending:)``.
    ///
    /// - Parameter breaker: ends a send on TLS that takes too long.
    init(_ state: amqp_connection_state_t, isTLS: Bool, breaker: StuckCallBreaker) {
        let heartbeat = Int(amqp_get_heartbeat(state))
        let frameMax = amqp_get_frame_max(state)
        // From here on heartbeats are ours: the library would put its own between the halves of a frame that the socket took in
        // two pieces, and 0.11 waits for ever for a dead peer when they are on.
        amqp_tune_connection(state, amqp_get_channel_max(state), frameMax, 0)

        self.state = state
        self.isTLS = isTLS
        descriptor = amqp_get_sockfd(state)
        self.heartbeat = heartbeat > 0 ? .seconds(heartbeat) : nil
        channelMax = max(1, Int(amqp_get_channel_max(state)))
        writer = RabbitMQWriter(
            state: state,
            descriptor: amqp_get_sockfd(state),
            frameMax: Int(frameMax),
            isTLS: isTLS,
            breaker: breaker,
        )
    }

    deinit {
        // Without this, closing TLS would wait for the peer's farewell.
        shutdown(descriptor, Int32(SHUT_RDWR))
        amqp_destroy_connection(state)
    }

    // MARK: Reading

    /// The next frame that is already here; nil when there is none. Heartbeats are not frames to us.
    ///
    /// - Parameter budget: how many frames of any kind may be read; counted down.
    func nextFrame(budget: inout Int) throws(AMQPError) -> InboundFrame? {
        while budget > 0 {
            budget -= 1
            var frame = amqp_frame_t()
            var immediately = timeval()
            let status = amqp_simple_wait_frame_noblock(state, &frame, &immediately)
            guard status == AMQP_STATUS_OK.rawValue else {
                if status == AMQP_STATUS_TIMEOUT.rawValue { return nil }
                throw AMQPError(.connectionLost, "The connection to the broker ended: \(rabbitMQMessage(status)).")
            }
            let result = InboundFrame(frame)
            // The frame is copied. Without this call the library's memory only ever grows.
            amqp_maybe_release_buffers_on_channel(state, frame.channel)
            if let result { return result }
        }
        return nil
    }

    /// Whether another frame may be had without waiting for the socket to become readable.
    var mayHaveFrames: Bool {
        // What OpenSSL has decrypted shows in neither, so on TLS only a read can tell.
        isTLS || amqp_frames_enqueued(state) != 0 || amqp_data_in_buffer(state) != 0
    }
}
