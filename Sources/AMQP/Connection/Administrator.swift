/// Declares and inspects while the client runs. Each errand has a channel of its own: the broker closes the channel of what it refuses.
final class Administrator {
    private var waiting: [any Errand] = []
    private var underWay: [any Errand] = []

    func declare(_ topology: AMQPTopology, _ promise: AMQPPromise<Void>) {
        waiting.append(DeclareErrand(topology: topology, promise: promise))
    }

    func inspect(_ queue: String, _ promise: AMQPPromise<AMQPQueueStatus>) {
        waiting.append(InspectErrand(queue: queue, promise: promise))
    }

    func work(_ link: AMQPLink) {
        // An errand's channel may call it until the broker has answered, whoever has stopped waiting; it is let go a turn later.
        underWay.removeAll { $0.isDone }
        guard !waiting.isEmpty else { return }
        let due = waiting
        waiting = []
        underWay += due
        for errand in due { errand.start(on: link) }
    }

    /// What was under way has no answer; what waits goes over the next link.
    func linkLost() {
        let error = AMQPError(.connectionLost, "The connection was lost before the broker answered.")
        for errand in underWay { errand.fail(error) }
        underWay = []
    }

    func finish(_ error: AMQPError) {
        for errand in waiting { errand.fail(error) }
        waiting = []
    }
}

private protocol Errand: AnyObject {
    var isDone: Bool { get }
    func start(on link: AMQPLink)
    func fail(_ error: AMQPError)
}

private final class DeclareErrand: Errand {
    private let topology: AMQPTopology
    private let promise: AMQPPromise<Void>
    private var declaration: TopologyDeclaration?
    private(set) var isDone = false

    init(topology: AMQPTopology, promise: AMQPPromise<Void>) {
        self.topology = topology
        self.promise = promise
    }

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
    private let promise: AMQPPromise<AMQPQueueStatus>
    private(set) var isDone = false

    init(queue: String, promise: AMQPPromise<AMQPQueueStatus>) {
        self.queue = queue
        self.promise = promise
    }

    func start(on link: AMQPLink) {
        guard let channel = link.openChannel(owner: self) else {
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
        isDone = true
        promise.complete(.failure(error))
    }

    func channel(_ channel: AMQPChannel, received method: InboundMethod) {}
    func channel(_ channel: AMQPChannel, received content: AMQPContent) {}
    func channel(_ channel: AMQPChannel, closedBy error: AMQPError) { fail(error) }
}
