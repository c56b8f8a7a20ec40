import CRabbitMQ
import Glibc

/// Sends frames on one connection without ever blocking on plain TCP.
///
/// The library's own publish makes three `send` calls a message and, in 0.11, can wait for ever on a dead peer. So on plain
/// TCP the frames are encoded by the library's encoders into one buffer, which a single non-blocking `send` writes for a whole
/// turn of the connection's thread. On TLS only the library can write: there `amqp_send_frame` is used, which may block; the
/// connection's ``StuckCallBreaker`` ends that.
final class RabbitMQWriter {
    private let state: amqp_connection_state_t
    private let descriptor: Int32
    private let frameMax: Int
    private let usesLibrary: Bool
    private let pool = RabbitMQPool()
    private let breaker: StuckCallBreaker

    private var buffer: UnsafeMutableRawPointer
    private var capacity: Int
    private var start = 0
    private var end = 0
    private var failure: AMQPError?

    init(state: amqp_connection_state_t, descriptor: Int32, frameMax: Int, isTLS: Bool, breaker: StuckCallBreaker) {
        self.state = state
        self.descriptor = descriptor
        self.frameMax = frameMax
        usesLibrary = isTLS
        self.breaker = breaker
        capacity = isTLS ? 0 : 2 * frameMax
        buffer = .allocate(byteCount: max(capacity, 1), alignment: 16)
    }

    deinit {
        buffer.deallocate()
    }

    /// Bytes that the kernel has not taken yet.
    var backlog: Int { end - start }

    // MARK: Frames

    func write(_ method: OutboundMethod, channel: UInt16) {
        defer { pool.recycle() }
        switch method {
        case .connectionClose:
            var close = amqp_connection_close_t(
                reply_code: 200,
                reply_text: pool.bytes("goodbye"),
                class_id: 0,
                method_id: 0,
            )
            writeMethod(AMQP_CONNECTION_CLOSE_METHOD, &close, channel)
        case .connectionCloseOK:
            var ok = amqp_connection_close_ok_t()
            writeMethod(AMQP_CONNECTION_CLOSE_OK_METHOD, &ok, channel)
        case .channelOpen:
            var open = amqp_channel_open_t(out_of_band: amqp_empty_bytes)
            writeMethod(AMQP_CHANNEL_OPEN_METHOD, &open, channel)
        case .channelClose:
            var close = amqp_channel_close_t(reply_code: 200, reply_text: pool.bytes("done"), class_id: 0, method_id: 0)
            writeMethod(AMQP_CHANNEL_CLOSE_METHOD, &close, channel)
        case .channelCloseOK:
            var ok = amqp_channel_close_ok_t()
            writeMethod(AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, channel)
        case .exchangeDeclare(let exchange):
            var declare = amqp_exchange_declare_t()
            declare.exchange = pool.bytes(exchange.name)
            declare.type = pool.bytes(exchange.kind.rawValue)
            declare.durable = exchange.durable ? 1 : 0
            declare.arguments = pool.table(exchange.arguments)
            writeMethod(AMQP_EXCHANGE_DECLARE_METHOD, &declare, channel)
        case .queueDeclare(let queue, let name):
            var declare = amqp_queue_declare_t()
            declare.queue = pool.bytes(name)
            declare.durable = queue.durable ? 1 : 0
            declare.exclusive = queue.exclusive ? 1 : 0
            declare.auto_delete = queue.autoDelete ? 1 : 0
            declare.arguments = pool.table(queue.arguments)
            writeMethod(AMQP_QUEUE_DECLARE_METHOD, &declare, channel)
        case .queueInspect(let queue):
            var declare = amqp_queue_declare_t()
            declare.queue = pool.bytes(queue)
            declare.passive = 1
            declare.arguments = amqp_empty_table
            writeMethod(AMQP_QUEUE_DECLARE_METHOD, &declare, channel)
        case .queueBind(let queue, let exchange, let routingKey, let arguments):
            var bind = amqp_queue_bind_t()
            bind.queue = pool.bytes(queue)
            bind.exchange = pool.bytes(exchange)
            bind.routing_key = pool.bytes(routingKey)
            bind.arguments = pool.table(arguments)
            writeMethod(AMQP_QUEUE_BIND_METHOD, &bind, channel)
        case .qos(let prefetch):
            var qos = amqp_basic_qos_t(prefetch_size: 0, prefetch_count: prefetch, global: 0)
            writeMethod(AMQP_BASIC_QOS_METHOD, &qos, channel)
        case .consume(let queue, let consumerTag, let noAck, let arguments):
            var consume = amqp_basic_consume_t()
            consume.queue = pool.bytes(queue)
            consume.consumer_tag = pool.bytes(consumerTag)
            consume.no_ack = noAck ? 1 : 0
            consume.arguments = pool.table(arguments)
            writeMethod(AMQP_BASIC_CONSUME_METHOD, &consume, channel)
        case .confirmSelect:
            var select = amqp_confirm_select_t(nowait: 0)
            writeMethod(AMQP_CONFIRM_SELECT_METHOD, &select, channel)
        case .ack(let deliveryTag, let multiple):
            var ack = amqp_basic_ack_t(delivery_tag: deliveryTag, multiple: multiple ? 1 : 0)
            writeMethod(AMQP_BASIC_ACK_METHOD, &ack, channel)
        case .nack(let deliveryTag, let multiple, let requeue):
            var nack = amqp_basic_nack_t(delivery_tag: deliveryTag, multiple: multiple ? 1 : 0, requeue: requeue ? 1 : 0)
            writeMethod(AMQP_BASIC_NACK_METHOD, &nack, channel)
        case .reject(let deliveryTag, let requeue):
            var reject = amqp_basic_reject_t(delivery_tag: deliveryTag, requeue: requeue ? 1 : 0)
            writeMethod(AMQP_BASIC_REJECT_METHOD, &reject, channel)
        }
    }

    /// Writes a message whole, or nothing of it.
    ///
    /// - Parameter messageID: in place of the one that the properties have.
    /// - Returns: false when the header does not fit into a frame.
    func write(
        _ message: AMQPPublishing,
        properties: AMQPProperties,
        messageID: String?,
        mandatory: Bool,
        channel: UInt16,
    ) -> Bool {
        defer { pool.recycle() }
        var header = pool.properties(properties, messageID: messageID)
        guard encodedSizeFits(&header) else { return false }
        var publish = amqp_basic_publish_t()
        publish.exchange = pool.bytes(message.exchange)
        publish.routing_key = pool.bytes(message.routingKey)
        publish.mandatory = mandatory ? 1 : 0
        writeMethod(AMQP_BASIC_PUBLISH_METHOD, &publish, channel)
        writeHeader(&header, bodySize: message.body.count, channel)
        message.body.withUnsafeBytes { body in
            var offset = 0
            while offset < body.count {
                let size = min(body.count - offset, frameMax - 8)
                writeBody(UnsafeRawBufferPointer(rebasing: body[offset..<offset + size]), channel)
                offset += size
            }
        }
        return true
    }

    func writeHeartbeat() {
        if usesLibrary {
            var frame = amqp_frame_t()
            frame.frame_type = UInt8(AMQP_FRAME_HEARTBEAT)
            sendFrame(&frame)
        } else {
            reserve(8)
            finishFrame(type: UInt8(AMQP_FRAME_HEARTBEAT), channel: 0, payloadSize: 0)
        }
    }

    // MARK: Encoding

    private func encodedSizeFits(_ header: inout amqp_basic_properties_t) -> Bool {
        // Without headers, thirteen short fields cannot come near the smallest frame.
        guard header.headers.num_entries > 0 else { return true }
        return withUnsafeTemporaryAllocation(byteCount: frameMax, alignment: 1) { scratch in
            let output = amqp_bytes_t(len: frameMax - 32, bytes: scratch.baseAddress)
            return amqp_encode_properties(UInt16(AMQP_BASIC_CLASS), &header, output) >= 0
        }
    }

    private func writeMethod(_ id: amqp_method_number_t, _ decoded: UnsafeMutableRawPointer, _ channel: UInt16) {
        guard !usesLibrary else {
            var frame = amqp_frame_t()
            frame.frame_type = UInt8(AMQP_FRAME_METHOD)
            frame.channel = channel
            frame.payload.method.id = id
            frame.payload.method.decoded = decoded
            sendFrame(&frame)
            return
        }
        reserve(frameMax)
        let payload = buffer + end + 7
        payload.storeBytes(of: id.bigEndian, as: UInt32.self)
        let size = amqp_encode_method(id, decoded, amqp_bytes_t(len: frameMax - 12, bytes: payload + 4))
        guard size >= 0 else { return fail(size, "encoding a method") }
        finishFrame(type: UInt8(AMQP_FRAME_METHOD), channel: channel, payloadSize: 4 + Int(size))
    }

    private func writeHeader(_ properties: UnsafeMutablePointer<amqp_basic_properties_t>, bodySize: Int, _ channel: UInt16) {
        guard !usesLibrary else {
            var frame = amqp_frame_t()
            frame.frame_type = UInt8(AMQP_FRAME_HEADER)
            frame.channel = channel
            frame.payload.properties.class_id = UInt16(AMQP_BASIC_CLASS)
            frame.payload.properties.body_size = UInt64(bodySize)
            frame.payload.properties.decoded = UnsafeMutableRawPointer(properties)
            sendFrame(&frame)
            return
        }
        reserve(frameMax)
        let payload = buffer + end + 7
        payload.storeBytes(of: UInt16(AMQP_BASIC_CLASS).bigEndian, as: UInt16.self)
        payload.storeBytes(of: 0, toByteOffset: 2, as: UInt16.self)
        payload.storeBytes(of: UInt64(bodySize).bigEndian, toByteOffset: 4, as: UInt64.self)
        let output = amqp_bytes_t(len: frameMax - 20, bytes: payload + 12)
        let size = amqp_encode_properties(UInt16(AMQP_BASIC_CLASS), properties, output)
        guard size >= 0 else { return fail(size, "encoding a header") }
        finishFrame(type: UInt8(AMQP_FRAME_HEADER), channel: channel, payloadSize: 12 + Int(size))
    }

    private func writeBody(_ fragment: UnsafeRawBufferPointer, _ channel: UInt16) {
        guard !usesLibrary else {
            var frame = amqp_frame_t()
            frame.frame_type = UInt8(AMQP_FRAME_BODY)
            frame.channel = channel
            // The library only reads the fragment.
            frame.payload.body_fragment = amqp_bytes_t(len: fragment.count, bytes: UnsafeMutableRawPointer(mutating: fragment.baseAddress))
            sendFrame(&frame)
            return
        }
        reserve(fragment.count + 8)
        (buffer + end + 7).copyMemory(from: fragment.baseAddress!, byteCount: fragment.count)
        finishFrame(type: UInt8(AMQP_FRAME_BODY), channel: channel, payloadSize: fragment.count)
    }

    private func finishFrame(type: UInt8, channel: UInt16, payloadSize: Int) {
        let frame = buffer + end
        frame.storeBytes(of: type, as: UInt8.self)
        frame.storeBytes(of: channel.bigEndian, toByteOffset: 1, as: UInt16.self)
        frame.storeBytes(of: UInt32(payloadSize).bigEndian, toByteOffset: 3, as: UInt32.self)
        frame.storeBytes(of: UInt8(AMQP_FRAME_END), toByteOffset: 7 + payloadSize, as: UInt8.self)
        end += payloadSize + 8
    }

    private func reserve(_ count: Int) {
        guard end + count > capacity else { return }
        let needed = backlog + count
        if needed <= capacity {
            memmove(buffer, buffer + start, backlog)
        } else {
            capacity = max(2 * capacity, needed)
            let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
            larger.copyMemory(from: buffer + start, byteCount: backlog)
            buffer.deallocate()
            buffer = larger
        }
        end -= start
        start = 0
    }

    // MARK: Sending

    /// Hands the kernel what it takes.
    ///
    /// - Returns: whether anything was sent.
    func flush() throws(AMQPError) -> Bool {
        if let failure { throw failure }
        var sent = false
        while backlog > 0 {
            let count = Glibc.send(descriptor, buffer + start, backlog, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            if count > 0 {
                start += count
                sent = true
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN: return sent
            default: throw AMQPError(.connectionLost, "Sending to the broker failed: \(String(cString: strerror(errno))).")
            }
        }
        start = 0
        end = 0
        return sent
    }

    private func sendFrame(_ frame: inout amqp_frame_t) {
        guard failure == nil else { return }
        breaker.enter(descriptor: descriptor)
        let status = amqp_send_frame(state, &frame)
        breaker.leave()
        if status != AMQP_STATUS_OK.rawValue { fail(status, "sending to the broker") }
    }

    private func fail(_ status: Int32, _ doing: String) {
        failure = failure ?? AMQPError(.connectionLost, "The connection failed while \(doing): \(rabbitMQMessage(status)).")
    }
}
