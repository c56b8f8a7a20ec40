import CRabbitMQ
import Glibc

func rabbitMQMessage(_ status: Int32) -> String {
    String(cString: amqp_error_string2(status))
}

/// One connection of the C library, logged in. Created, used and destroyed on one thread: the class is not `Sendable`.
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

    /// Connects and logs in; blocks up to the configured time limits.
    init(_ endpoint: AMQPEndpoint, configuration: AMQPConfiguration, role: String, breaker: StuckCallBreaker) throws(AMQPError) {
        guard let state = amqp_new_connection() else { throw AMQPError(.connectionFailed, "Out of memory for an AMQP connection.") }
        var owned = false
        // Destroys the socket too. Once `self` is whole, `deinit` does it.
        defer { if !owned { amqp_destroy_connection(state) } }

        let socket = try Self.makeSocket(state, endpoint)
        var limit = timeval(configuration.connectTimeout)
        let opened = amqp_socket_open_noblock(socket, endpoint.host, Int32(endpoint.port), &limit)
        guard opened == AMQP_STATUS_OK.rawValue else {
            throw AMQPError(.connectionFailed, "Connecting to \(endpoint.address) failed: \(rabbitMQMessage(opened)).")
        }
        let descriptor = amqp_get_sockfd(state)
        let proposed = endpoint.heartbeat ?? configuration.heartbeat
        Self.tune(descriptor, heartbeat: proposed)

        amqp_set_handshake_timeout(state, &limit)
        breaker.enter(descriptor: descriptor)
        let reply = Self.logIn(state, endpoint, configuration: configuration, role: role, heartbeat: proposed)
        breaker.leave()
        if let error = Self.loginError(reply, endpoint) { throw error }

        let heartbeat = Int(amqp_get_heartbeat(state))
        let frameMax = amqp_get_frame_max(state)
        // From here on heartbeats are ours: the library would put its own between the halves of a frame that the socket took in
        // two pieces, and 0.11 waits for ever for a dead peer when they are on.
        amqp_tune_connection(state, amqp_get_channel_max(state), frameMax, 0)

        self.state = state
        self.descriptor = descriptor
        self.heartbeat = heartbeat > 0 ? .seconds(heartbeat) : nil
        channelMax = max(1, Int(amqp_get_channel_max(state)))
        isTLS = endpoint.tls != nil
        writer = RabbitMQWriter(
            state: state,
            descriptor: descriptor,
            frameMax: Int(frameMax),
            isTLS: endpoint.tls != nil,
            breaker: breaker,
        )
        owned = true
    }

    deinit {
        // Without this, closing TLS would wait for the peer's farewell.
        shutdown(descriptor, Int32(SHUT_RDWR))
        amqp_destroy_connection(state)
    }

    // MARK: Reading

    /// The next frame that is already here; nil when there is none. Heartbeats are not frames to us.
    func nextFrame() throws(AMQPError) -> InboundFrame? {
        while true {
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
    }

    /// Whether another frame may be had without waiting for the socket to become readable.
    var mayHaveFrames: Bool {
        // What OpenSSL has decrypted shows in neither, so on TLS only a read can tell.
        isTLS || amqp_frames_enqueued(state) != 0 || amqp_data_in_buffer(state) != 0
    }

    // MARK: Setting up

    private static func makeSocket(
        _ state: amqp_connection_state_t,
        _ endpoint: AMQPEndpoint,
    ) throws(AMQPError) -> OpaquePointer {
        guard let tls = endpoint.tls else {
            guard let socket = amqp_tcp_socket_new(state) else { throw AMQPError(.connectionFailed, "No TCP socket.") }
            return socket
        }
        guard amqp_initialize_ssl_library() == AMQP_STATUS_OK.rawValue, let socket = amqp_ssl_socket_new(state) else {
            throw AMQPError(.connectionFailed, "TLS cannot be initialised.")
        }
        amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST)
        amqp_ssl_socket_set_verify_peer(socket, tls.verifyPeer ? 1 : 0)
        amqp_ssl_socket_set_verify_hostname(socket, tls.verifyPeer ? 1 : 0)
        if tls.verifyPeer {
            let file = tls.certificateAuthorityFile ?? systemCertificates
            guard amqp_ssl_socket_set_cacert(socket, file) == AMQP_STATUS_OK.rawValue else {
                throw AMQPError(
                    .connectionFailed,
                    "The certificate authorities in \(file) cannot be read; name a PEM file with ?cacertfile= in the AMQP URI.",
                )
            }
        }
        if let certificate = tls.certificateFile, let key = tls.keyFile {
            guard amqp_ssl_socket_set_key(socket, certificate, key) == AMQP_STATUS_OK.rawValue else {
                throw AMQPError(.connectionFailed, "The client certificate \(certificate) with the key \(key) cannot be used.")
            }
        }
        return socket
    }

    /// The bundle of Debian and its kin, unless OpenSSL's own variable names another.
    private static var systemCertificates: String {
        getenv("SSL_CERT_FILE").map { String(cString: $0) } ?? "/etc/ssl/certs/ca-certificates.crt"
    }

    private static func tune(_ descriptor: Int32, heartbeat: Duration) {
        // A peer that takes nothing for as long as two heartbeats is gone, whatever TCP still hopes for.
        let seconds = heartbeat > .zero ? 2 * heartbeat.components.seconds : 60
        var milliseconds = Int32(clamping: seconds * 1000)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds, socklen_t(MemoryLayout<Int32>.size))
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func logIn(
        _ state: amqp_connection_state_t,
        _ endpoint: AMQPEndpoint,
        configuration: AMQPConfiguration,
        role: String,
        heartbeat: Duration,
    ) -> amqp_rpc_reply_t {
        // The library announces only two capabilities of its own; without these the broker would say neither that a queue was
        // deleted under a consumer nor that it is blocked.
        let properties: AMQPTable = [
            "product": .string(configuration.product),
            "version": .string(configuration.version),
            "platform": "Swift, librabbitmq \(String(cString: amqp_version()))",
            "connection_name": .string("\(configuration.connectionName) \(role)"),
            "capabilities": [
                "publisher_confirms": true,
                "basic.nack": true,
                "consumer_cancel_notify": true,
                "connection.blocked": true,
                "authentication_failure_close": true,
                "exchange_exchange_bindings": true,
            ],
        ]
        let pool = RabbitMQPool()
        var table = pool.table(properties)
        return dcm_amqp_login_plain(
            state,
            endpoint.virtualHost,
            2047,
            131_072,
            Int32(clamping: heartbeat.components.seconds),
            &table,
            endpoint.user,
            endpoint.password,
        )
    }

    private static func loginError(_ reply: amqp_rpc_reply_t, _ endpoint: AMQPEndpoint) -> AMQPError? {
        switch reply.reply_type {
        case AMQP_RESPONSE_NORMAL:
            return nil
        case AMQP_RESPONSE_SERVER_EXCEPTION where reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD:
            let close = reply.reply.decoded.assumingMemoryBound(to: amqp_connection_close_t.self).pointee
            let code = Int(close.reply_code)
            let text = String(close.reply_text)
            if code == 403 {
                return AMQPError(
                    .authentication,
                    """
                    The broker at \(endpoint.address) refused the user "\(endpoint.user)": \(text). Check user and password in the \
                    AMQP URI (AMQP_URL), or create the user with rabbitmqctl add_user.
                    """,
                    replyCode: code,
                )
            }
            return AMQPError(
                code == 530 ? .notFound : .connectionFailed,
                "The broker at \(endpoint.address) refused the virtual host \"\(endpoint.virtualHost)\": \(text).",
                replyCode: code,
            )
        default:
            let why = rabbitMQMessage(reply.library_error)
            return AMQPError(.connectionFailed, "The login at \(endpoint.address) failed: \(why).")
        }
    }
}

extension timeval {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
    }
}
