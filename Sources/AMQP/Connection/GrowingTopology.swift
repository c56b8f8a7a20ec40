import Synchronization

/// What a client declares at each connect. It can grow while the client runs.
final class GrowingTopology: Sendable {
    private let topology: Mutex<AMQPTopology>

    init(_ topology: AMQPTopology) { self.topology = Mutex(topology) }

    var current: AMQPTopology { topology.withLock { $0 } }

    /// - Returns: false when all of it was there already.
    func add(_ addition: AMQPTopology) -> Bool {
        topology.withLock { topology in
            let grown = topology + addition
            defer { topology = grown }
            return grown != topology
        }
    }
}
