/// Requests and their replies over RabbitMQ's direct reply-to: no reply queue is declared; the broker hands replies straight to the
/// channel that sent the request.
final class Caller: ChannelUser {
    private static let replyQueue = "amq.rabbitmq.reply-to"

    private let identity = String(UInt64.random(in: .min ... .max), radix: 36)
    private var sent: UInt64 = 0
    private var waiting: [AMQPCall] = []
    private var inFlight: [String: AMQPCall] = [:]
    private(set) var nextDeadline: Instant?

    init(configuration: AMQPConfiguration) {
        super.init(name: "caller", backoff: configuration.backoff)
    }

    var isIdle: Bool { waiting.isEmpty && inFlight.isEmpty }

    func submit(_ call: AMQPCall) {
        waiting.append(call)
        nextDeadline = min(nextDeadline ?? call.deadline, call.deadline)
    }

    override func setUp(_ channel: AMQPChannel, names: TopologyDeclaration.Names) {
        channel.request(
            .consume(queue: Self.replyQueue, consumerTag: "", noAck: true, arguments: [:]),
            expecting: .consumeOK,
            context: "Asking for direct replies",
        ) { [unowned self] _ in ready() }
    }

    func work(_ link: AMQPLink) {
        guard isReady, let channel, link.blockedReason == nil, !waiting.isEmpty else { return }
        for call in waiting where !call.promise.isCompleted {
            sent += 1
            var properties = call.request.properties
            let id = "\(identity).\(sent)"
            properties.correlationID = id
            properties.replyTo = Self.replyQueue
            guard channel.publish(call.request, properties: properties, mandatory: call.request.mandatory) else {
                call.promise.complete(.failure(AMQPError(.invalidMessage, "The header table does not fit into one frame.")))
                continue
            }
            inFlight[id] = call
        }
        waiting.removeAll(keepingCapacity: true)
    }

    override func received(_ content: AMQPContent) {
        guard let id = content.properties.correlationID, let call = inFlight.removeValue(forKey: id) else { return }
        switch content.method {
        case .returned(let code, let text, let exchange, let routingKey):
            call.promise.complete(.failure(.returned(code: code, text: text, exchange: exchange, routingKey: routingKey)))
        case .deliver:
            if let problem = content.problem {
                call.promise.complete(.failure(AMQPError(.invalidMessage, "The reply cannot be used: \(problem.rawValue).")))
            } else {
                call.promise.complete(.success(AMQPReply(properties: content.properties, body: content.body)))
            }
        default: break
        }
    }

    override func channelEnded(_ error: AMQPError) {
        for call in inFlight.values { call.promise.complete(.failure(error.outcomeUnknown)) }
        inFlight = [:]
    }

    func expire(now: Instant, blockedReason: String?) {
        guard let due = nextDeadline, due <= now else { return }
        let unsent = AMQPError.notInTime("The request was not sent", blockedReason: blockedReason)
        for call in waiting where call.deadline <= now { call.promise.complete(.failure(unsent)) }
        waiting.removeAll { $0.deadline <= now }
        let unanswered = AMQPError(.timeout, "No reply came in time.")
        for (id, call) in inFlight where call.deadline <= now || call.promise.isCompleted {
            call.promise.complete(.failure(unanswered))
            inFlight[id] = nil
        }
        nextDeadline = (waiting.map(\.deadline) + inFlight.values.map(\.deadline)).min()
    }

    func finish(_ error: AMQPError) {
        for call in waiting + inFlight.values { call.promise.complete(.failure(error)) }
        waiting = []
        inFlight = [:]
    }
}
