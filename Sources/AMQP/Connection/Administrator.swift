/// Declares and inspects while the client runs. Each errand has a channel of its own: the broker closes the channel of what it refuses.
final class Administrator {
    private var waiting: [any Errand] = []
    private var underWay: [any Errand] = []

    typealias Instant = ContinuousClock.Instant

    var isIdle: Bool { waiting.isEmpty && underWay.allSatisfy(\.isAnswered) }

    func declare(_ topology: AMQPTopology, deadline: Instant, _ promise: AMQPPromise<Void>) {
        waiting.append(DeclareErrand(topology: topology, deadline: deadline, promise: promise))
    }

    func inspect(_ queue: String, deadline: Instant, _ promise: AMQPPromise<AMQPQueueStatus>) {
        waiting.append(InspectErrand(queue: queue, deadline: deadline, promise: promise))
    }

    func work(_ link: AMQPLink) {
        // A blocked broker reads nothing: each errand would only take a channel.
        guard link.blockedReason == nil else { return }
        // An errand's channel may call it until the broker has answered, whoever has stopped waiting; it is let go a turn later.
        underWay.removeAll { $0.isDone }
        guard !waiting.isEmpty else { return }
        // A caller who has gone need not be served.
        let due = waiting.filter { !$0.isAnswered }
        waiting = []
        underWay += due
        for errand in due { errand.start(on: link) }
    }

    /// What was under way has no answer; what waits goes over the next link.
    func linkLost(_ error: AMQPError) {
        var lost = error
        if error.code != .shutdown {
            lost.code = .connectionLost
            lost.message += " The broker had not answered yet."
        }
        for errand in underWay { errand.fail(lost) }
        underWay = []
    }

    func finish(_ error: AMQPError) {
        for errand in waiting + underWay { errand.fail(error) }
        waiting = []
        underWay = []
    }

    // MARK: Time

    var nextDeadline: Instant? {
        (waiting + underWay).lazy.filter { !$0.isAnswered }.map(\.deadline).min()
    }

    func expire(now: Instant, blockedReason: String?) {
        guard !waiting.isEmpty || !underWay.isEmpty else { return }
        let unasked = AMQPError.notInTime("The broker was not asked", blockedReason: blockedReason)
        for errand in waiting where errand.deadline <= now { errand.fail(unasked) }
        waiting.removeAll { $0.isAnswered }
        // Its channel still calls it: it stays until the broker has answered or the link is lost.
        for errand in underWay where errand.deadline <= now {
            errand.fail(AMQPError(.timeout, "The broker did not answer in time."))
        }
    }
}

private protocol Errand: AnyObject {
    var deadline: ContinuousClock.Instant { get }
    /// Whether the caller has its answer.
    var isAnswered: Bool { get }
    /// Whether no channel refers to it any more.
    var isDone: Bool { get }
    func start(on link: AMQPLink)
    func fail(_ error: AMQPError)
}

private final class DeclareErrand: Errand {
    private let topology: AMQPTopology
    let deadline: ContinuousClock.Instant
    private let promise: AMQPPromise<Void>
    private var declaration: TopologyDeclaration?
    private(set) var isDone = false

    init(topology: AMQPTopology, deadline: ContinuousClock.Instant, promise: AMQPPromise<Void>) {
        self.topology = topology
        self.deadline = deadline
        self.promise = promise
    }

    var isAnswered: Bool { promise.isCompleted }

    func start(on link: AMQPLink) {
        let declaration = TopologyDeclaration(topology, includesExclusive: false) { [unowned self] result in
            isDone = true
            promise.complete(result.map { _ in })
        }
        self.declaration = declaration
        declaration.start(on: link)
    }

    func fail(_ error: AMQPError) { promise.complete(.failure(error)) }
}

private final class InspectErrand: Errand, AMQPChannelOwner {
    private let queue: String
    let deadline: ContinuousClock.Instant
    private let promise: AMQPPromise<AMQPQueueStatus>
    private(set) var isDone = false

    init(queue: String, deadline: ContinuousClock.Instant, promise: AMQPPromise<AMQPQueueStatus>) {
        self.queue = queue
        self.deadline = deadline
        self.promise = promise
    }

    var isAnswered: Bool { promise.isCompleted }

    func start(on link: AMQPLink) {
        guard let channel = link.openChannel(owner: self) else {
            isDone = true
            return fail(AMQPError(.channelClosed, "No channel is left on this connection."))
        }
        channel.request(.queueInspect(queue), expecting: .queueDeclareOK, context: "Looking at the queue \"\(queue)\"") {
            [unowned self] reply in
            isDone = true
            channel.close()
            guard case .queueDeclareOK(_, let messages, let consumers) = reply else { return }
            promise.complete(.success(AMQPQueueStatus(messages: messages, consumers: consumers)))
        }
    }

    func fail(_ error: AMQPError) {
        promise.complete(.failure(error))
    }

    func channel(_ channel: AMQPChannel, received method: InboundMethod) {}
    func channel(_ channel: AMQPChannel, received content: AMQPContent) {}
    func channel(_ channel: AMQPChannel, closedBy error: AMQPError) {
        isDone = true
        fail(error)
    }
}
