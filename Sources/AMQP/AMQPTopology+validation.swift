extension AMQPTopology {
    /// Refuses what a broker of a version that we support refuses, or will: better here, with a reason, than after an upgrade.
    ///
    /// RabbitMQ 3.10 takes more than 4.x does. What passes here works on both.
    ///
    /// - Throws: `.invalidTopology`, about the first problem.
    package func check() throws(AMQPError) {
        for exchange in exchanges { try refuse(exchange.problem, of: "exchange", exchange.name) }
        for queue in queues { try refuse(queue.problem, of: "queue", queue.name) }
        for binding in bindings { try refuse(binding.problem, of: "binding of the queue", binding.queue) }
        try refuseTwins(queues.map(\.name), of: "queue")
        try refuseTwins(exchanges.map(\.name), of: "exchange")
    }

    private func refuse(_ problem: String?, of kind: String, _ name: String) throws(AMQPError) {
        guard let problem else { return }
        throw AMQPError(.invalidTopology, "The \(kind) \"\(name)\" cannot be declared: \(problem).")
    }

    private func refuseTwins(_ names: [String], of kind: String) throws(AMQPError) {
        var seen: Set<String> = []
        for name in names where !seen.insert(name).inserted {
            throw AMQPError(.invalidTopology, "The \(kind) \"\(name)\" is there twice, with different properties.")
        }
    }
}

private func nameProblem(_ name: String) -> String? {
    if name.isEmpty { return "it has no name" }
    if name.utf8.count > 255 { return "its name has \(name.utf8.count) bytes, 255 are allowed" }
    return nil
}

extension AMQPExchange {
    fileprivate var problem: String? {
        if let problem = nameProblem(name) { return problem }
        if name.hasPrefix("amq.") { return "names that begin with amq. belong to the broker" }
        return arguments.problem()
    }
}

extension AMQPBinding {
    fileprivate var problem: String? {
        if let problem = nameProblem(queue) ?? nameProblem(exchange) {
            return exchange.isEmpty ? "nothing can be bound to the default exchange, which has a binding for each queue" : problem
        }
        if routingKey.utf8.count > 255 { return "its key has \(routingKey.utf8.count) bytes, 255 are allowed" }
        return arguments.problem()
    }
}

extension AMQPQueue {
    /// A type of queue and the arguments that RabbitMQ 4.3 takes for it. One of another type's is refused there.
    private struct Kind {
        var name: String
        var arguments: Set<String>
        var overflows: Set<String>
        var isReplicated: Bool

        static let all = [
            Kind(
                name: "classic",
                arguments: [
                    "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
                    "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-version", "x-single-active-consumer",
                    "x-queue-leader-locator",
                ],
                overflows: ["drop-head", "reject-publish", "reject-publish-dlx"],
                isReplicated: false,
            ),
            Kind(
                name: "quorum",
                arguments: [
                    "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", "x-max-length",
                    "x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes", "x-overflow", "x-single-active-consumer",
                    "x-quorum-initial-group-size", "x-delivery-limit", "x-message-ttl", "x-queue-leader-locator",
                    "x-consumer-disconnected-timeout", "x-consumer-timeout", "x-delayed-retry-type", "x-delayed-retry-min",
                    "x-delayed-retry-max",
                ],
                overflows: ["drop-head", "reject-publish"],
                isReplicated: true,
            ),
            Kind(
                name: "stream",
                arguments: [
                    "x-max-length-bytes", "x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes",
                    "x-initial-cluster-size", "x-queue-leader-locator",
                ],
                overflows: [],
                isReplicated: true,
            ),
        ]

        static let everyArgument = all.reduce(into: Set<String>()) { $0.formUnion($1.arguments) }
    }

    /// Arguments of the past, and what to do instead.
    private static let removed: [String: String] = [
        "x-queue-mode": "lazy queues are gone since RabbitMQ 3.12: every classic queue keeps little in memory. Leave it out",
        "x-ha-policy": "mirrored classic queues are gone since RabbitMQ 4.0. Use a quorum queue",
        "x-queue-master-locator": "it is deprecated. Use x-queue-leader-locator",
    ]

    fileprivate var problem: String? {
        if !isServerNamed {
            if let problem = nameProblem(name) { return problem }
            if name.hasPrefix("amq.") { return "names that begin with amq. belong to the broker" }
        }
        guard let type = arguments["x-queue-type"] else {
            return "it does not say x-queue-type, and a virtual host may have another default. Say classic, quorum or stream"
        }
        guard let text = type.string, let kind = Kind.all.first(where: { $0.name == text }) else {
            return "x-queue-type is none of classic, quorum, stream"
        }
        return lifeProblem(kind) ?? argumentProblem(kind) ?? arguments.problem()
    }

    private func lifeProblem(_ kind: Kind) -> String? {
        if kind.isReplicated, !durable || exclusive || autoDelete || isServerNamed {
            return "a \(kind.name) queue must be durable, and neither exclusive nor auto-delete nor named by the broker"
        }
        if !durable, !exclusive {
            return "RabbitMQ 4.3 refuses queues that are neither durable nor exclusive. Make it durable (with x-expires, if it is to go)"
        }
        return nil
    }

    private func argumentProblem(_ kind: Kind) -> String? {
        for (name, value) in arguments.sorted(by: { $0.key < $1.key }) {
            if let reason = Self.removed[name] { return "\(name): \(reason)" }
            if Kind.everyArgument.contains(name), !kind.arguments.contains(name) {
                return "RabbitMQ refuses \(name) for a \(kind.name) queue (406)\(Self.hint[name].map { ". \($0)" } ?? "")"
            }
            if let problem = Self.valueProblem(name, value, kind) { return problem }
        }
        if arguments["x-dead-letter-routing-key"] != nil, arguments["x-dead-letter-exchange"] == nil {
            return "x-dead-letter-routing-key needs x-dead-letter-exchange"
        }
        return nil
    }

    private static let hint: [String: String] = [
        "x-max-priority": "Quorum queues know priorities without it",
        "x-consumer-timeout": "Set consumer_timeout in rabbitmq.conf, or by a policy from 3.12 on",
        "x-delivery-limit": "Classic queues do not count deliveries",
    ]

    private static let numbers: [String: ClosedRange<Int>] = [
        "x-max-priority": 1...255,
        "x-queue-version": 2...2,
        "x-expires": 1...Int(UInt32.max),
        "x-message-ttl": 0...Int(UInt32.max),
        "x-max-length": 0...Int.max,
        "x-max-length-bytes": 0...Int.max,
        "x-delivery-limit": -1...Int.max,
        "x-quorum-initial-group-size": 1...Int.max,
        "x-initial-cluster-size": 1...Int.max,
        "x-consumer-timeout": 0...Int.max,
    ]

    private static func valueProblem(_ name: String, _ value: AMQPValue, _ kind: Kind) -> String? {
        if let range = numbers[name] {
            if let number = value.integer, range.contains(number) { return nil }
            let wanted = range.upperBound == .max ? "from \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
            return "\(name) is not a whole number \(wanted)"
        }
        switch name {
        case "x-overflow":
            guard let text = value.string, kind.overflows.contains(text) else {
                return "x-overflow of a \(kind.name) queue is none of \(kind.overflows.sorted().joined(separator: ", "))"
            }
        case "x-single-active-consumer":
            if value.bool == nil { return "\(name) is neither true nor false" }
        case "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-queue-leader-locator", "x-dead-letter-strategy", "x-max-age":
            if value.string == nil { return "\(name) is not a text" }
        default: break
        }
        return nil
    }
}
