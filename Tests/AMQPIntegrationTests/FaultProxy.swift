import Foundation
import Glibc
import Synchronization

/// A TCP proxy on loopback between a client and its broker, with a thread of its own, that misbehaves on request.
///
///     let proxy = try FaultProxy(to: node.port)
///     proxy.set(.stall)            // a black hole: new connections too
///     proxy.set(.pass)             // healed
///     proxy.reset()                // RST both ways, for every connection
final class FaultProxy: Sendable {
    enum Direction: Int, Sendable, CaseIterable {
        case toBroker, toClient
    }

    /// What happens to the bytes of one direction, of open connections and of those to come.
    enum Behaviour: Sendable, Equatable {
        case pass
        /// Nothing is read: the sender's bytes pile up in the kernel until it cannot send.
        case stall
        /// Everything is read and nothing passed on, the end of the stream included.
        case swallow
        case throttle(bytesPerSecond: Int)
        /// So many bytes more on each connection, then a reset of both sides.
        case cut(after: Int)
    }

    enum Side: Sendable {
        case client, broker
    }

    /// Sees each whole frame on its way to the client and says what to send instead.
    typealias Rewrite = @Sendable (_ frame: [UInt8], _ connection: Int) -> [UInt8]

    fileprivate enum Order: Sendable {
        case set(Behaviour, [Direction])
        case reset
        case close(Side)
    }

    fileprivate struct State {
        var orders: [Order] = []
        var stopped = false
        var accepted = 0
        var open = 0
        var forwarded = [0, 0]
    }

    fileprivate final class Shared: Sendable {
        let state = Mutex(State())
        private let writing: Int32
        let reading: Int32

        init() {
            var ends: [Int32] = [-1, -1]
            precondition(pipe(&ends) == 0, "No pipe for a proxy.")
            (reading, writing) = (ends[0], ends[1])
            for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
        }

        deinit {
            Glibc.close(reading)
            Glibc.close(writing)
        }

        func signal() {
            _ = write(writing, [0], 1)
        }
    }

    let port: UInt16
    private let shared = Shared()

    init(to brokerPort: UInt16, rewrite: Rewrite? = nil) throws {
        let (listener, port) = try Self.listen()
        self.port = port
        Thread.detachNewThread { [shared] in
            FaultProxyLoop(shared: shared, listener: listener, brokerPort: brokerPort, rewrite: rewrite).run()
        }
    }

    deinit {
        shared.state.withLock { $0.stopped = true }
        shared.signal()
    }

    func set(_ behaviour: Behaviour, _ directions: Direction...) {
        order(.set(behaviour, directions.isEmpty ? Direction.allCases : directions))
    }

    /// Resets every connection, as a firewall does that has forgotten it.
    func reset() {
        order(.reset)
    }

    /// Closes one side of every connection and leaves the other one open and silent.
    func close(_ side: Side) {
        order(.close(side))
    }

    /// How many connections were accepted so far.
    var accepted: Int { shared.state.withLock(\.accepted) }
    /// How many are open now.
    var open: Int { shared.state.withLock(\.open) }

    func forwarded(_ direction: Direction) -> Int {
        shared.state.withLock { $0.forwarded[direction.rawValue] }
    }

    private func order(_ order: Order) {
        shared.state.withLock { $0.orders.append(order) }
        shared.signal()
    }

    private static func listen() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && Glibc.listen(descriptor, 64) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard descriptor >= 0, bound, fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else { throw Late(description: "No port for a proxy") }
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    fileprivate static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }
}

/// The proxy's thread: everything here is its own.
private final class FaultProxyLoop {
    private typealias Direction = FaultProxy.Direction

    private struct Flow {
        var pending: [UInt8] = []
        /// Bytes of a frame that is not whole yet, where frames are rewritten.
        var partial: [UInt8] = []
        /// The source has said that no more comes.
        var ended = false
        /// And the target knows.
        var told = false
        /// Bytes that may still pass.
        var allowance: Int?
        var nextSend = ContinuousClock.now
    }

    private struct Connection {
        var id: Int
        /// -1 once closed.
        var client: Int32
        var broker: Int32
        var flows = [Flow(), Flow()]
        var isOver = false

        func source(_ direction: Direction) -> Int32 { direction == .toBroker ? client : broker }
        func target(_ direction: Direction) -> Int32 { direction == .toBroker ? broker : client }
    }

    private static let maximumPending = 256 << 10

    private let shared: FaultProxy.Shared
    private let listener: Int32
    private let brokerPort: UInt16
    private let rewrite: FaultProxy.Rewrite?
    private var behaviours: [FaultProxy.Behaviour] = [.pass, .pass]
    private var connections: [Connection] = []
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    init(shared: FaultProxy.Shared, listener: Int32, brokerPort: UInt16, rewrite: FaultProxy.Rewrite?) {
        self.shared = shared
        self.listener = listener
        self.brokerPort = brokerPort
        self.rewrite = rewrite
    }

    func run() {
        while let orders = takeOrders() {
            for order in orders { perform(order) }
            sleep()
            accept()
            for index in connections.indices {
                for direction in Direction.allCases where !connections[index].isOver { pump(index, direction) }
            }
            connections.removeAll(where: \.isOver)
            shared.state.withLock { $0.open = connections.count }
        }
        for index in connections.indices { reset(index) }
        close(listener)
    }

    private func takeOrders() -> [FaultProxy.Order]? {
        shared.state.withLock { state in
            defer { state.orders = [] }
            return state.stopped ? nil : state.orders
        }
    }

    private func perform(_ order: FaultProxy.Order) {
        switch order {
        case .set(let behaviour, let directions):
            for direction in directions {
                behaviours[direction.rawValue] = behaviour
                for index in connections.indices { limit(&connections[index].flows[direction.rawValue], direction) }
            }
        case .reset:
            for index in connections.indices { reset(index) }
        case .close(.client):
            for index in connections.indices { close(&connections[index].client) }
        case .close(.broker):
            for index in connections.indices { close(&connections[index].broker) }
        }
        connections.removeAll(where: \.isOver)
    }

    private func limit(_ flow: inout Flow, _ direction: Direction) {
        if case .cut(let count) = behaviours[direction.rawValue] { flow.allowance = count } else { flow.allowance = nil }
    }

    // MARK: Connections

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else { return }
            var connection = Connection(id: 0, client: client, broker: dial())
            for direction in Direction.allCases { limit(&connection.flows[direction.rawValue], direction) }
            connection.id = shared.state.withLock { state in
                state.accepted += 1
                return state.accepted
            }
            for descriptor in [client, connection.broker] where descriptor >= 0 {
                _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
                var on: Int32 = 1
                setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
            }
            connections.append(connection)
            // No broker: the client is told at once.
            if connection.broker < 0 { reset(connections.count - 1) }
        }
    }

    private func dial() -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = FaultProxy.loopback(brokerPort)
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        if connected { return descriptor }
        close(descriptor)
        return -1
    }

    private func reset(_ index: Int) {
        for descriptor in [connections[index].client, connections[index].broker] where descriptor >= 0 {
            var abort = linger(l_onoff: 1, l_linger: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
            close(descriptor)
        }
        connections[index].isOver = true
    }

    private func close(_ descriptor: inout Int32) {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
    }

    private func close(_ descriptor: Int32) {
        _ = Glibc.close(descriptor)
    }

    // MARK: Bytes

    private func mayRead(_ flow: Flow, _ behaviour: FaultProxy.Behaviour) -> Bool {
        !flow.ended && behaviour != .stall && flow.pending.count < Self.maximumPending
    }

    private func mayWrite(_ flow: Flow, _ behaviour: FaultProxy.Behaviour) -> Bool {
        switch behaviour {
        case .stall, .swallow: false
        case .pass, .cut, .throttle: !flow.pending.isEmpty
        }
    }

    private func sleep() {
        var entries = [
            pollfd(fd: shared.reading, events: Int16(POLLIN), revents: 0), pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
        ]
        var timeout: Int32 = -1
        for connection in connections {
            for direction in Direction.allCases {
                let (flow, behaviour) = (connection.flows[direction.rawValue], behaviours[direction.rawValue])
                let (source, target) = (connection.source(direction), connection.target(direction))
                if source >= 0, mayRead(flow, behaviour) { entries.append(pollfd(fd: source, events: Int16(POLLIN), revents: 0)) }
                guard target >= 0, mayWrite(flow, behaviour) else { continue }
                let wait = flow.nextSend - .now
                if wait > .zero {
                    let milliseconds = Int32(clamping: Int(wait / .milliseconds(1)) + 1)
                    timeout = timeout < 0 ? milliseconds : min(timeout, milliseconds)
                } else {
                    entries.append(pollfd(fd: target, events: Int16(POLLOUT), revents: 0))
                }
            }
        }
        _ = poll(&entries, nfds_t(entries.count), timeout)
        if entries[0].revents != 0 { _ = Glibc.read(shared.reading, &buffer, buffer.count) }
    }

    private func pump(_ index: Int, _ direction: Direction) {
        var flow = connections[index].flows[direction.rawValue]
        let behaviour = behaviours[direction.rawValue]
        connections[index].flows[direction.rawValue] = Flow()
        read(index, direction, &flow, behaviour)
        if !connections[index].isOver { write(index, direction, &flow, behaviour) }
        connections[index].flows[direction.rawValue] = flow
        // Both ends have said goodbye, or the one that was left open has.
        let connection = connections[index]
        let over = Direction.allCases.allSatisfy { direction in
            connection.flows[direction.rawValue].told || connection.source(direction) < 0
                || connection.target(direction) < 0
                    && connection.flows[direction.rawValue].ended
        }
        if over, !connection.isOver { reset(index) }
    }

    private func read(_ index: Int, _ direction: Direction, _ flow: inout Flow, _ behaviour: FaultProxy.Behaviour) {
        let source = connections[index].source(direction)
        guard source >= 0, mayRead(flow, behaviour) else { return }
        let count = recv(source, &buffer, buffer.count, 0)
        guard count > 0 else {
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            if count < 0, behaviour != .swallow { return reset(index) }
            flow.ended = true
            return
        }
        // Nobody is there any more, or nobody is to know.
        guard behaviour != .swallow, connections[index].target(direction) >= 0 else { return }
        guard let rewrite, direction == .toClient else { return flow.pending.append(contentsOf: buffer[..<count]) }
        flow.partial.append(contentsOf: buffer[..<count])
        while flow.partial.count >= 7 {
            let size = flow.partial[3..<7].reduce(0) { $0 << 8 | Int($1) } + 8
            guard flow.partial.count >= size else { return }
            flow.pending.append(contentsOf: rewrite(Array(flow.partial.prefix(size)), connections[index].id))
            flow.partial.removeFirst(size)
        }
    }

    private func write(_ index: Int, _ direction: Direction, _ flow: inout Flow, _ behaviour: FaultProxy.Behaviour) {
        let target = connections[index].target(direction)
        guard target >= 0 else { return flow.pending = [] }
        if mayWrite(flow, behaviour), flow.nextSend <= .now {
            var count = min(flow.pending.count, flow.allowance ?? .max)
            if case .throttle(let rate) = behaviour {
                count = min(count, max(1, rate / 20))
                flow.nextSend = .now + .seconds(1) * (Double(count) / Double(rate))
            }
            let sent = flow.pending.withUnsafeBytes { send(target, $0.baseAddress, count, Int32(MSG_NOSIGNAL)) }
            if sent < 0, errno != EAGAIN, errno != EINTR { return reset(index) }
            if sent > 0 {
                flow.pending.removeFirst(sent)
                if let allowance = flow.allowance { flow.allowance = allowance - sent }
                shared.state.withLock { $0.forwarded[direction.rawValue] += sent }
            }
        }
        if flow.allowance == 0 { return reset(index) }
        if flow.ended, !flow.told, flow.pending.isEmpty, behaviour != .swallow, behaviour != .stall {
            shutdown(target, Int32(SHUT_WR))
            flow.told = true
        }
    }
}
