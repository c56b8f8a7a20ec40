/// The exchanges, queues and bindings that a service uses. Declared on every connect; declaring what already exists so is free.
package struct AMQPTopology: Sendable, Hashable {
    /// Declared first.
    package var exchanges: [AMQPExchange]
    /// Declared after the exchanges, each followed by its bindings.
    package var queues: [AMQPQueue]
    /// Those of queues that are not among `queues` come last.
    package var bindings: [AMQPBinding]

    package init(exchanges: [AMQPExchange] = [], queues: [AMQPQueue] = [], bindings: [AMQPBinding] = []) {
        self.exchanges = exchanges
        self.queues = queues
        self.bindings = bindings
    }
}

/// An exchange. Its properties cannot be changed once it exists.
package struct AMQPExchange: Sendable, Hashable {
    /// How an exchange compares routing keys and bindings.
    package enum Kind: String, Sendable {
        case direct, fanout, topic, headers
    }

    /// Up to 255 bytes; names that begin with `amq.` belong to the broker.
    package var name: String
    /// How it routes.
    package var kind: Kind
    /// Whether it outlives the broker's process.
    package var durable: Bool
    /// As `alternate-exchange`; better set by a policy, which can be changed.
    package var arguments: AMQPTable

    package init(name: String, kind: Kind, durable: Bool = true, arguments: AMQPTable = [:]) {
        self.name = name
        self.kind = kind
        self.durable = durable
        self.arguments = arguments
    }
}

/// A queue. `arguments` should say `x-queue-type` explicitly: a virtual host may have another default.
///
/// An exclusive queue belongs to the client's consume connection: it is declared there only, and anew after each reconnect.
package struct AMQPQueue: Sendable, Hashable {
    /// The queue's name; for a server-named queue the name by which bindings and `consume` of this client refer to it.
    package var name: String
    /// Whether the queue outlives the broker's process. Only an exclusive queue need not.
    package var durable: Bool
    /// Whether it belongs to this connection and ends with it.
    package var exclusive: Bool
    /// Whether it goes with its last consumer.
    package var autoDelete: Bool
    /// `x-queue-type` and what else cannot be changed later; the rest is better set by a policy.
    package var arguments: AMQPTable
    /// Whether the broker makes up the real name at each connect (exclusive queues only): it can never be taken already.
    package var isServerNamed: Bool

    package init(
        name: String,
        durable: Bool = true,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        arguments: AMQPTable = [:],
        isServerNamed: Bool = false,
    ) {
        precondition(!isServerNamed || exclusive, "A server-named queue must be exclusive: no other connection could know its name.")
        self.name = name
        self.durable = durable
        self.exclusive = exclusive
        self.autoDelete = autoDelete
        self.arguments = arguments
        self.isServerNamed = isServerNamed
    }

    /// A queue of this connection alone, named by the broker; `alias` is how bindings and `consume` of this client refer to it.
    package static func serverNamed(_ alias: String, arguments: AMQPTable = ["x-queue-type": "classic"]) -> AMQPQueue {
        AMQPQueue(
            name: alias,
            durable: false,
            exclusive: true,
            autoDelete: true,
            arguments: arguments,
            isServerNamed: true,
        )
    }
}

/// Lets an exchange send to a queue what matches.
package struct AMQPBinding: Sendable, Hashable {
    /// The queue's name, or the alias of a server-named one.
    package var queue: String
    /// The exchange's name, not empty.
    package var exchange: String
    /// Up to 255 bytes; a pattern with `*` and `#` for a topic exchange.
    package var routingKey: String
    /// What a headers exchange matches.
    package var arguments: AMQPTable

    package init(queue: String, exchange: String, routingKey: String, arguments: AMQPTable = [:]) {
        self.queue = queue
        self.exchange = exchange
        self.routingKey = routingKey
        self.arguments = arguments
    }
}

extension AMQPTopology {
    /// Both, each thing once.
    package static func + (left: AMQPTopology, right: AMQPTopology) -> AMQPTopology {
        AMQPTopology(
            exchanges: left.exchanges + right.exchanges.filter { !left.exchanges.contains($0) },
            queues: left.queues + right.queues.filter { !left.queues.contains($0) },
            bindings: left.bindings + right.bindings.filter { !left.bindings.contains($0) },
        )
    }
}
