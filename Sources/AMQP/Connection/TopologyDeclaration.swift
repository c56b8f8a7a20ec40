/// Declares a topology on a link: everything sent at once, the answers awaited in order.
final class TopologyDeclaration: AMQPChannelOwner {
    /// The real names of the server-named queues, by alias.
    typealias Names = [String: String]

    enum Step: Equatable {
        case exchange(AMQPExchange)
        case queue(AMQPQueue)
        case binding(AMQPBinding, queue: String)

        var context: String {
            switch self {
            case .exchange(let exchange): "Declaring the exchange \"\(exchange.name)\""
            case .queue(let queue): "Declaring the queue \"\(queue.name)\""
            case .binding(let binding, _):
                "Binding the queue \"\(binding.queue)\" to the exchange \"\(binding.exchange)\" with the key \"\(binding.routingKey)\""
            }
        }
    }

    private let steps: [Step]
    private var answered = 0
    private var names: Names
    private let done: (Result<Names, AMQPError>) -> Void

    /// - Parameters:
    ///   - names: of the server-named queues that are there already.
    ///   - done: called once, unless the link ends first.
    init(_ topology: AMQPTopology, includesExclusive: Bool, names: Names = [:], done: @escaping (Result<Names, AMQPError>) -> Void) {
        steps = Self.steps(of: topology, includesExclusive: includesExclusive, names: names)
        self.names = names
        self.done = done
    }

    func start(on link: AMQPLink) {
        guard !steps.isEmpty else { return done(.success(names)) }
        guard let channel = link.openChannel(owner: self) else {
            return done(.failure(AMQPError(.channelClosed, "No channel is left on this connection.")))
        }
        for step in steps {
            switch step {
            case .exchange(let exchange):
                channel.request(.exchangeDeclare(exchange), expecting: .exchangeDeclareOK, context: step.context) { [unowned self] _ in
                    advance(channel)
                }
            case .queue(let queue):
                let name = queue.isServerNamed ? "" : queue.name
                channel.request(
                    .queueDeclare(queue, name: name),
                    expecting: .queueDeclareOK,
                    context: step.context,
                ) { [unowned self] reply in
                    if queue.isServerNamed, case .queueDeclareOK(let real, _, _) = reply { names[queue.name] = real }
                    advance(channel)
                }
            case .binding(let binding, let queue):
                channel.request(
                    .queueBind(queue: queue, exchange: binding.exchange, routingKey: binding.routingKey, arguments: binding.arguments),
                    expecting: .queueBindOK,
                    context: step.context,
                ) { [unowned self] _ in advance(channel) }
            }
        }
    }

    /// The order: exchanges, then each queue with its bindings. For a server-named queue the empty name stands for the queue
    /// declared last, so its bindings need not wait for the answer.
    static func steps(of topology: AMQPTopology, includesExclusive: Bool, names: Names = [:]) -> [Step] {
        var steps = topology.exchanges.map(Step.exchange)
        var declared: Set<String> = []
        for queue in topology.queues {
            declared.insert(queue.name)
            guard includesExclusive || !queue.exclusive else { continue }
            let known = queue.isServerNamed ? names[queue.name] : nil
            if known == nil { steps.append(.queue(queue)) }
            let name = known ?? (queue.isServerNamed ? "" : queue.name)
            steps += topology.bindings.filter { $0.queue == queue.name }.map { .binding($0, queue: name) }
        }
        steps += topology.bindings.filter { !declared.contains($0.queue) }.map { .binding($0, queue: $0.queue) }
        return steps
    }

    /// What a person reads when the broker refuses a step (406): what differs, and the way to what we want.
    static func explain(_ error: AMQPError, at step: Step?) -> AMQPError {
        guard error.replyCode == 406, let step else { return error }
        let cure: String
        switch step {
        case .exchange(let exchange): cure = exchange.migration(error.mismatch)
        case .queue(let queue): cure = queue.migration(error.mismatch)
        case .binding: cure = "Delete the old binding and start again."
        }
        var explained = error
        explained.code = .topologyMismatch
        explained.message = "\(error.message). \(cure)"
        return explained
    }

    private func advance(_ channel: AMQPChannel) {
        answered += 1
        guard answered == steps.count else { return }
        channel.close()
        done(.success(names))
    }

    func channel(_ channel: AMQPChannel, received method: InboundMethod) {}
    func channel(_ channel: AMQPChannel, received content: AMQPContent) {}

    func channel(_ channel: AMQPChannel, closedBy error: AMQPError) {
        done(.failure(Self.explain(error, at: answered < steps.count ? steps[answered] : nil)))
    }
}
