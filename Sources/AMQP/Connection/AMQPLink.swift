/// One established connection: its channels, its frames in and out, its heartbeats. Lives and dies on the connection's thread.
final class AMQPLink {
    typealias Instant = ContinuousClock.Instant

    private let handle: RabbitMQHandle
    private let maximumBodySize: Int
    private let requestTimeout: Duration
    private var channels: [UInt16: AMQPChannel] = [:]
    private var freeNumbers: [UInt16] = []
    private var highestNumber: UInt16 = 0
    private var lastRead: Instant
    private var lastWrite: Instant
    /// The broker's reason while it takes no messages from us.
    private(set) var blockedReason: String?
    /// Requests before this moment could not be answered: the broker did not read.
    private var unblockedAt: Instant?
    /// Whether frames were left for the next turn.
    private(set) var isBehind = false
    /// Whether the broker has answered our goodbye.
    private(set) var isClosed = false
    private var serial: UInt64

    /// - Parameter serial: where the channels' serial numbers go on.
    init(_ handle: RabbitMQHandle, maximumBodySize: Int, requestTimeout: Duration, serial: UInt64, now: Instant) {
        self.handle = handle
        self.maximumBodySize = maximumBodySize
        self.requestTimeout = requestTimeout
        self.serial = serial
        lastRead = now
        lastWrite = now
    }

    deinit {
        // Their users may hold them longer than the link lives.
        for channel in channels.values { channel.abandon() }
    }

    var descriptor: Int32 { handle.descriptor }
    var nextSerial: UInt64 { serial }
    /// Bytes that wait for the socket.
    var backlog: Int { handle.writer.backlog }

    // MARK: Channels

    func openChannel(owner: any AMQPChannelOwner) -> AMQPChannel? {
        let number: UInt16
        if let free = freeNumbers.popLast() {
            number = free
        } else if highestNumber < handle.channelMax {
            highestNumber += 1
            number = highestNumber
        } else {
            return nil
        }
        serial += 1
        let channel = AMQPChannel(number: number, serial: serial, link: self, owner: owner, maximumBodySize: maximumBodySize)
        channels[number] = channel
        channel.request(.channelOpen, expecting: .channelOpenOK, context: "Opening a channel")
        return channel
    }

    func release(_ channel: AMQPChannel) {
        channels[channel.number] = nil
        freeNumbers.append(channel.number)
    }

    var writer: RabbitMQWriter { handle.writer }

    // MARK: Turns of the thread

    /// More than window and prefetch usually let come at a time. Deadlines are looked at between turns.
    private static let framesPerTurn = 4096

    /// Handles the frames that have arrived; `isBehind` tells when there are more.
    func receive(readable: Bool, now: Instant) throws(AMQPError) {
        if readable { lastRead = now }
        var budget = Self.framesPerTurn
        isBehind = false
        guard readable || handle.mayHaveFrames else { return }
        repeat {
            guard let frame = try handle.nextFrame(budget: &budget) else { break }
            try dispatch(frame)
        } while handle.mayHaveFrames
        isBehind = budget == 0
    }

    func flush(now: Instant) throws(AMQPError) {
        if try handle.writer.flush() { lastWrite = now }
    }

    /// Sends a heartbeat when one is due and notices a silent peer.
    ///
    /// - Returns: when to come back.
    func heartbeat(now: Instant) throws(AMQPError) -> Instant? {
        guard let interval = handle.heartbeat else { return nil }
        guard now - lastRead < interval * 2 else {
            throw AMQPError(.connectionLost, "The broker has been silent for \(interval * 2), two heartbeats; the connection is given up.")
        }
        // With a backlog the peer is not reading; another frame would only grow it.
        if now - lastWrite >= interval / 2, backlog == 0 {
            handle.writer.writeHeartbeat()
            lastWrite = now
            try flush(now: now)
        }
        return min(max(lastWrite, now - interval / 2) + interval / 2, lastRead + interval * 2)
    }

    /// Notices a broker that lives, by its heartbeats, and does not answer. A blocked one may take its time.
    ///
    /// - Returns: when to come back.
    func checkRequests(now: Instant) throws(AMQPError) -> Instant? {
        guard blockedReason == nil else { return nil }
        var oldest: (sent: Instant, context: String)?
        for channel in channels.values {
            if let request = channel.oldestRequest, request.sent < oldest?.sent ?? .now { oldest = request }
        }
        guard let oldest else { return nil }
        let due = max(oldest.sent, unblockedAt ?? oldest.sent) + requestTimeout
        guard now < due else {
            let why = "the broker has not answered for \(requestTimeout); the connection is given up"
            throw AMQPError(.connectionLost, "\(oldest.context): \(why).")
        }
        return due
    }

    /// Says goodbye; `isClosed` tells when it was answered.
    func sayGoodbye() {
        writer.write(.connectionClose, channel: 0)
    }

    // MARK: Frames

    private func dispatch(_ frame: InboundFrame) throws(AMQPError) {
        switch frame {
        case .method(channel: 0, let method):
            try receive(method)
        case .method(let number, let method):
            try channel(number)?.receive(method)
        case .header(let number, let bodySize, let properties):
            try channel(number)?.receiveHeader(bodySize: bodySize, properties: properties)
        case .body(let number, let fragment):
            try channel(number)?.receiveBody(fragment)
        }
    }

    /// Nil for a channel that we closed: it may still get what was under way, and its close-ok is the last of it.
    private func channel(_ number: UInt16) throws(AMQPError) -> AMQPChannel? {
        // The C library keeps a page for each number that it ever sees: 65,535 of them would be 8 GB.
        guard number > 0, number <= highestNumber else {
            throw AMQPError(.unexpectedFrame, "The broker sent a frame on channel \(number), which was never opened.")
        }
        return channels[number]
    }

    private func receive(_ method: InboundMethod) throws(AMQPError) {
        switch method {
        case .connectionBlocked(let reason):
            blockedReason = reason
        case .connectionUnblocked:
            blockedReason = nil
            unblockedAt = .now
        case .connectionCloseOK:
            isClosed = true
        case .connectionClose(let code, let text):
            writer.write(.connectionCloseOK, channel: 0)
            // The best we can do for a polite end; the connection is over either way.
            _ = try? writer.flush()
            throw AMQPError(.connectionLost, "The broker closed the connection: \(text).", replyCode: code)
        default:
            throw AMQPError(.unexpectedFrame, "The broker sent \(method) on channel 0.")
        }
    }
}
