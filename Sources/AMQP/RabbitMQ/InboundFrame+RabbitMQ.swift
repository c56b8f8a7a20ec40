import CRabbitMQ

extension InboundFrame {
    /// Copies a frame of the C library. Nil for a frame that means nothing after the login.
    init?(_ frame: amqp_frame_t) {
        switch Int32(frame.frame_type) {
        case Int32(AMQP_FRAME_METHOD):
            self = .method(channel: frame.channel, InboundMethod(frame.payload.method))
        case Int32(AMQP_FRAME_HEADER):
            let header = frame.payload.properties
            let properties = header.decoded.flatMap {
                header.class_id == UInt16(AMQP_BASIC_CLASS)
                    ? AMQPProperties($0.assumingMemoryBound(to: amqp_basic_properties_t.self).pointee) : nil
            }
            self = .header(channel: frame.channel, bodySize: header.body_size, properties: properties)
        case Int32(AMQP_FRAME_BODY):
            self = .body(channel: frame.channel, [UInt8](UnsafeRawBufferPointer(frame.payload.body_fragment)))
        default:
            return nil
        }
    }
}

extension InboundMethod {
    fileprivate init(_ method: amqp_method_t) {
        func decoded<Method>(_ type: Method.Type) -> Method {
            method.decoded.assumingMemoryBound(to: type).pointee
        }
        switch method.id {
        case AMQP_BASIC_DELIVER_METHOD:
            let deliver = decoded(amqp_basic_deliver_t.self)
            self = .deliver(
                consumerTag: String(deliver.consumer_tag),
                deliveryTag: deliver.delivery_tag,
                redelivered: deliver.redelivered != 0,
                exchange: String(deliver.exchange),
                routingKey: String(deliver.routing_key),
            )
        case AMQP_BASIC_ACK_METHOD:
            let ack = decoded(amqp_basic_ack_t.self)
            self = .ack(deliveryTag: ack.delivery_tag, multiple: ack.multiple != 0)
        case AMQP_BASIC_NACK_METHOD:
            let nack = decoded(amqp_basic_nack_t.self)
            self = .nack(deliveryTag: nack.delivery_tag, multiple: nack.multiple != 0)
        case AMQP_BASIC_RETURN_METHOD:
            let returned = decoded(amqp_basic_return_t.self)
            self = .returned(
                code: Int(returned.reply_code),
                text: String(returned.reply_text),
                exchange: String(returned.exchange),
                routingKey: String(returned.routing_key),
            )
        case AMQP_BASIC_CANCEL_METHOD:
            self = .cancel(consumerTag: String(decoded(amqp_basic_cancel_t.self).consumer_tag))
        case AMQP_QUEUE_DECLARE_OK_METHOD:
            let ok = decoded(amqp_queue_declare_ok_t.self)
            self = .queueDeclareOK(queue: String(ok.queue), messages: Int(ok.message_count), consumers: Int(ok.consumer_count))
        case AMQP_CHANNEL_CLOSE_METHOD:
            let close = decoded(amqp_channel_close_t.self)
            self = .channelClose(
                code: Int(close.reply_code),
                text: String(close.reply_text),
                classID: Int(close.class_id),
                methodID: Int(close.method_id),
            )
        case AMQP_CONNECTION_CLOSE_METHOD:
            let close = decoded(amqp_connection_close_t.self)
            self = .connectionClose(code: Int(close.reply_code), text: String(close.reply_text))
        case AMQP_CONNECTION_BLOCKED_METHOD:
            self = .connectionBlocked(reason: String(decoded(amqp_connection_blocked_t.self).reason))
        case AMQP_CONNECTION_UNBLOCKED_METHOD: self = .connectionUnblocked
        case AMQP_CONNECTION_CLOSE_OK_METHOD: self = .connectionCloseOK
        case AMQP_CHANNEL_OPEN_OK_METHOD: self = .channelOpenOK
        case AMQP_CHANNEL_CLOSE_OK_METHOD: self = .channelCloseOK
        case AMQP_EXCHANGE_DECLARE_OK_METHOD: self = .exchangeDeclareOK
        case AMQP_QUEUE_BIND_OK_METHOD: self = .queueBindOK
        case AMQP_BASIC_QOS_OK_METHOD: self = .qosOK
        case AMQP_BASIC_CONSUME_OK_METHOD: self = .consumeOK
        case AMQP_BASIC_CANCEL_OK_METHOD: self = .cancelOK
        case AMQP_CONFIRM_SELECT_OK_METHOD: self = .confirmSelectOK
        default: self = .other(method.id)
        }
    }
}
