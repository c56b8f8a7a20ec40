/// The exchanges, queues and bindings that a service uses. Declared on every connect; declaring what already exists so is free.
package struct AMQPTopology: Sendable, Hashable {
    package var exchanges: [AMQPExchange]
    package var queues: [AMQPQueue]
    package var bindings: [AMQPBinding]

    package init(exchanges: [AMQPExchange] = [], queues: [AMQPQueue] = [], bindings: [AMQPBinding] = []) {
        self.exchanges = exchanges
        self.queues = queues
        self.bindings = bindings
    }
}

package struct AMQPExchange: Sendable, Hashable {
    package enum Kind: String, Sendable {
        case direct, fanout, topic, headers
    }

    package var name: String
    package var kind: Kind
    package var durable: Bool
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
    package var durable: Bool
    package var exclusive: Bool
    package var autoDelete: Bool
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

package struct AMQPBinding: Sendable, Hashable {
    package var queue: String
    package var exchange: String
    package var routingKey: String
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
