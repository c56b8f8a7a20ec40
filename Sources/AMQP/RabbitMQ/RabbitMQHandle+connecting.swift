import CRabbitMQ
import Glibc

/// Setting a connection up. All of it blocks, up to the deadline, on the thread of a ``Dial``.
extension RabbitMQHandle {
    /// Connects and logs in.
    ///
    /// - Parameters:
    ///   - deadline: for all of it. Looking a name up is the one thing that it does not bound: the resolver has limits of its own.
    ///   - dialing: ends a connect or a login from another thread.
    ///   - sending: for the connection's later life.
    /// - Throws: `.connectionFailed`, `.authentication`, `.notFound` (the virtual host).
    static func connect(
        to endpoint: AMQPEndpoint,
        configuration: AMQPConfiguration,
        role: String,
        deadline: ContinuousClock.Instant,
        dialing: StuckCallBreaker,
        sending: StuckCallBreaker,
    ) throws(AMQPError) -> RabbitMQHandle {
        guard let state = amqp_new_connection() else { throw AMQPError(.connectionFailed, "Out of memory for an AMQP connection.") }
        var owned = false
        // Destroys the socket too. Once there is a handle, its `deinit` does it.
        defer { if !owned { amqp_destroy_connection(state) } }

        if let tls = endpoint.tls {
            // The library cannot set TLS up on a socket of ours: it connects itself, which nothing but the time limit ends.
            let socket = try makeTLSSocket(state, tls)
            var limit = timeval(until: deadline)
            let opened = amqp_socket_open_noblock(socket, endpoint.host, Int32(endpoint.port), &limit)
            guard opened == AMQP_STATUS_OK.rawValue else { throw tlsError(opened, endpoint, tls) }
        } else {
            let descriptor = try TCPConnector(deadline: deadline, breaker: dialing).connect(to: endpoint)
            guard let socket = amqp_tcp_socket_new(state) else {
                close(descriptor)
                throw AMQPError(.connectionFailed, "Out of memory for a TCP socket.")
            }
            amqp_tcp_socket_set_sockfd(socket, descriptor)
        }
        let descriptor = amqp_get_sockfd(state)
        let heartbeat = endpoint.heartbeat ?? configuration.heartbeat
        tune(descriptor, heartbeat: heartbeat)

        var limit = timeval(until: deadline)
        amqp_set_handshake_timeout(state, &limit)
        dialing.enter(descriptor: descriptor)
        let reply = logIn(state, endpoint, configuration: configuration, role: role, heartbeat: heartbeat)
        dialing.leave()
        if let error = loginError(reply, endpoint) { throw error }
        guard amqp_get_frame_max(state) >= 4096 else {
            throw AMQPError(
                .connectionFailed,
                "The broker at \(endpoint.address) wants frames of \(amqp_get_frame_max(state)) bytes; the protocol's smallest is 4096.",
            )
        }
        owned = true
        return RabbitMQHandle(state, isTLS: endpoint.tls != nil, breaker: sending)
    }

    private static func tlsError(_ status: Int32, _ endpoint: AMQPEndpoint, _ tls: AMQPEndpoint.TLS) -> AMQPError {
        let cure: String
        switch status {
        case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED.rawValue:
            cure = " The broker's certificate is not for \"\(endpoint.host)\": connect by a name that it holds (names only, not addresses)."
        case AMQP_STATUS_SSL_PEER_VERIFY_FAILED.rawValue:
            cure = " The broker's certificate is not signed by an authority of \(tls.certificateAuthorityFile ?? systemCertificates)."
        case AMQP_STATUS_SSL_CONNECTION_FAILED.rawValue:
            cure = " Is this a TLS port, does the broker offer TLS 1.2 or later, and does it ask for a client certificate?"
        default:
            cure = ""
        }
        return AMQPError(.connectionFailed, "Connecting to \(endpoint.address) by TLS failed: \(rabbitMQMessage(status)).\(cure)")
    }

    private static func makeTLSSocket(
        _ state: amqp_connection_state_t,
        _ tls: AMQPEndpoint.TLS,
    ) throws(AMQPError) -> OpaquePointer {
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
            try refuseEncryptedKey(key)
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

    /// OpenSSL would ask the terminal for the password, and wait for it.
    private static func refuseEncryptedKey(_ file: String) throws(AMQPError) {
        guard let stream = fopen(file, "r") else {
            throw AMQPError(.connectionFailed, "The client key \(file) cannot be read: \(String(cString: strerror(errno))).")
        }
        defer { fclose(stream) }
        var line = [CChar](repeating: 0, count: 4096)
        while fgets(&line, Int32(line.count), stream) != nil {
            // "BEGIN ENCRYPTED PRIVATE KEY", or "Proc-Type: 4,ENCRYPTED" in the old format.
            guard strstr(line, "ENCRYPTED") == nil else {
                throw AMQPError(
                    .connectionFailed,
                    """
                    The client key \(file) is encrypted, and there is nobody to ask for its password. Decrypt it with \
                    `openssl pkey -in \(file) -out KEY` and protect the file by its rights.
                    """,
                )
            }
        }
    }

    private static func tune(_ descriptor: Int32, heartbeat: Duration) {
        // A peer that takes nothing for as long as two heartbeats is gone, whatever TCP still hopes for.
        let seconds = heartbeat > .zero ? 2 * heartbeat.components.seconds : 60
        func set(_ level: Int32, _ option: Int32, _ value: Int32) {
            var value = value
            setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
        let tcp = Int32(IPPROTO_TCP)
        set(tcp, TCP_USER_TIMEOUT, Int32(clamping: seconds * 1000))
        // Without heartbeats these notice a peer that is gone while nothing is sent.
        set(SOL_SOCKET, SO_KEEPALIVE, 1)
        set(tcp, TCP_KEEPIDLE, Int32(clamping: max(1, seconds / 2)))
        set(tcp, TCP_KEEPINTVL, Int32(clamping: max(1, seconds / 6)))
        set(tcp, TCP_KEEPCNT, 3)
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
    /// What is left until the deadline, at least a millisecond: the library takes zero for "at once".
    init(until deadline: ContinuousClock.Instant) {
        let (seconds, attoseconds) = max(.milliseconds(1), deadline - .now).components
        self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
    }
}
