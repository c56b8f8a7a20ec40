/// Who uses a channel. All calls come on the connection's thread.
protocol AMQPChannelOwner: AnyObject {
    /// A method that no request asked for: confirms and the broker's `basic.cancel`.
    func channel(_ channel: AMQPChannel, received method: InboundMethod)
    func channel(_ channel: AMQPChannel, received content: AMQPContent)
    /// The broker closed the channel; it is gone.
    func channel(_ channel: AMQPChannel, closedBy error: AMQPError)
}

/// A method with its message: a delivery or a return.
struct AMQPContent {
    enum Problem: String {
        case tooLarge = "its body is larger than the limit"
        case unreadableHeader = "its header table is malformed or nested too deep"
    }

    var method: InboundMethod
    var properties: AMQPProperties
    var body: [UInt8]
    /// Why the message is not usable; then `body` is empty.
    var problem: Problem?
}

/// One channel of a link: requests answered in order, and messages put together from their frames.
final class AMQPChannel {
    enum Reply {
        case channelOpenOK, exchangeDeclareOK, queueDeclareOK, queueBindOK, qosOK, consumeOK, confirmSelectOK, channelCloseOK

        func matches(_ method: InboundMethod) -> Bool {
            switch (self, method) {
            case (.channelOpenOK, .channelOpenOK), (.exchangeDeclareOK, .exchangeDeclareOK), (.queueDeclareOK, .queueDeclareOK),
                (.queueBindOK, .queueBindOK), (.qosOK, .qosOK), (.consumeOK, .consumeOK), (.confirmSelectOK, .confirmSelectOK),
                (.channelCloseOK, .channelCloseOK):
                true
            default: false
            }
        }
    }

    private struct Request {
        var reply: Reply
        var context: String
        var sent: ContinuousClock.Instant
        var then: (InboundMethod) -> Void
    }

    private enum Assembly {
        case none
        case header(InboundMethod)
        case body(AMQPContent, remaining: UInt64)
    }

    let number: UInt16
    let serial: UInt64
    private unowned let link: AMQPLink
    private unowned let owner: any AMQPChannelOwner
    private let maximumBodySize: Int
    private var requests: [Request] = []
    private var assembly = Assembly.none
    private(set) var isClosing = false
    private(set) var isGone = false

    init(number: UInt16, serial: UInt64, link: AMQPLink, owner: any AMQPChannelOwner, maximumBodySize: Int) {
        self.number = number
        self.serial = serial
        self.link = link
        self.owner = owner
        self.maximumBodySize = maximumBodySize
    }

    /// What waits for its answer longest.
    var oldestRequest: (sent: ContinuousClock.Instant, context: String)? {
        requests.first.map { ($0.sent, $0.context) }
    }

    // MARK: Sending

    func send(_ method: OutboundMethod) {
        guard !isGone, !isClosing else { return }
        link.writer.write(method, channel: number)
    }

    /// Sends a method that the broker answers. Several may be under way; the answers come in order.
    ///
    /// - Parameter context: what an error should say we were doing: "Declaring the queue \"x\"".
    func request(_ method: OutboundMethod, expecting reply: Reply, context: String, then: @escaping (InboundMethod) -> Void = { _ in }) {
        guard !isGone, !isClosing else { return }
        requests.append(Request(reply: reply, context: context, sent: .now, then: then))
        link.writer.write(method, channel: number)
    }

    /// - Parameter messageID: in place of the one that the properties have.
    /// - Returns: false when the message's header does not fit into a frame; then nothing was sent.
    func publish(_ message: AMQPPublishing, properties: AMQPProperties, messageID: String? = nil, mandatory: Bool) -> Bool {
        guard !isGone, !isClosing else { return true }
        return link.writer.write(message, properties: properties, messageID: messageID, mandatory: mandatory, channel: number)
    }

    /// Closes the channel; the owner hears nothing more of it but `then`.
    func close(then: @escaping () -> Void = {}) {
        guard !isGone, !isClosing else { return }
        request(.channelClose, expecting: .channelCloseOK, context: "Closing a channel") { _ in then() }
        isClosing = true
    }

    // MARK: Receiving

    func receive(_ method: InboundMethod) throws(AMQPError) {
        guard case .none = assembly else {
            throw AMQPError(.unexpectedFrame, "The broker sent \(method) in the middle of a message.")
        }
        switch method {
        case .channelClose(let code, let text, let classID, let methodID):
            link.writer.write(.channelCloseOK, channel: number)
            let method = classID == 0 ? nil : AMQPError.Method(classID: classID, methodID: methodID)
            let context = requests.first?.context ?? "On a channel\(method.map { ", at \($0)" } ?? "")"
            let closing = isClosing ? requests.last : nil
            leave()
            // Both sides closed at once: what we wanted has happened.
            if let closing { return closing.then(.channelCloseOK) }
            owner.channel(self, closedBy: .broker(replyCode: code, text: text, method: method, context: context, fallback: .channelClosed))
        case .channelOpenOK, .exchangeDeclareOK, .queueDeclareOK, .queueBindOK, .qosOK, .consumeOK, .confirmSelectOK, .channelCloseOK:
            guard let request = requests.first, request.reply.matches(method) else {
                throw AMQPError(.unexpectedFrame, "The broker sent \(method), which nobody asked for.")
            }
            requests.removeFirst()
            if case .channelCloseOK = request.reply { leave() }
            // Once we want to close, earlier answers interest nobody.
            if !isClosing || request.reply == .channelCloseOK { request.then(method) }
        case .deliver, .returned:
            assembly = .header(method)
        case .ack, .nack, .cancel:
            if !isClosing { owner.channel(self, received: method) }
        default:
            throw AMQPError(.unexpectedFrame, "The broker sent \(method) on channel \(number).")
        }
    }

    func receiveHeader(bodySize: UInt64, properties: AMQPProperties?) throws(AMQPError) {
        guard case .header(let method) = assembly else {
            throw AMQPError(.unexpectedFrame, "The broker sent a message's header without its method.")
        }
        var content = AMQPContent(method: method, properties: properties ?? AMQPProperties(), body: [])
        if properties == nil {
            content.problem = .unreadableHeader
        } else if bodySize > UInt64(maximumBodySize) {
            content.problem = .tooLarge
        }
        try advance(content, remaining: bodySize)
    }

    func receiveBody(_ fragment: [UInt8]) throws(AMQPError) {
        guard case .body(var content, let remaining) = assembly, UInt64(fragment.count) <= remaining else {
            throw AMQPError(.unexpectedFrame, "The broker sent a piece of a message that does not fit its header.")
        }
        // Otherwise the array would have two owners and be copied at every piece.
        assembly = .none
        if content.problem == nil {
            if content.body.isEmpty {
                content.body = fragment
                if remaining > UInt64(fragment.count) { content.body.reserveCapacity(Int(remaining)) }
            } else {
                content.body.append(contentsOf: fragment)
            }
        }
        try advance(content, remaining: remaining - UInt64(fragment.count))
    }

    private func advance(_ content: AMQPContent, remaining: UInt64) throws(AMQPError) {
        guard remaining == 0 else {
            assembly = .body(content, remaining: remaining)
            return
        }
        assembly = .none
        if !isClosing { owner.channel(self, received: content) }
    }

    /// The link is gone: from now on nothing is sent and nothing comes.
    func abandon() {
        isGone = true
        // What would have come after the answers refers to the channel.
        requests = []
    }

    private func leave() {
        abandon()
        link.release(self)
    }
}
