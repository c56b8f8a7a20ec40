import Glibc
import Synchronization
import Testing

@testable import AMQP

/// Speaks just enough AMQP to bring a client up, and then keeps to itself: publishes are not confirmed, calls not answered, and
/// declarations of queues named `held` neither. A test decides what happens instead.
final class FakeBroker: Sendable {
    /// Something that waits for an answer that does not come.
    struct Held: Sendable {
        var descriptor: Int32
        var channel: UInt16
        var method: AMQPError.Method
    }

    private struct State {
        var descriptors: Set<Int32> = []
        var held: [String: Held] = [:]
        var consumes = 0
        var namedQueues = 0
        var answersGoodbyes = true
        var stopped = false
    }

    let port: UInt16
    private let listener: Int32
    private let state = Mutex(State())

    init() throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { [listener] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 16) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        try #require(bound)
        port = UInt16(bigEndian: address.sin_port)
        let started = ConnectionThread.start(name: "fake broker") { [self] in acceptAll() }
        try #require(started)
    }

    var consumes: Int { state.withLock(\.consumes) }
    /// How many queues we were asked to make a name up for.
    var namedQueues: Int { state.withLock(\.namedQueues) }

    func isHolding(_ kind: String) -> Bool { state.withLock { $0.held[kind] != nil } }

    // MARK: What a test does to its client

    func cut() {
        state.withLock { state in
            for descriptor in state.descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
            state.held = [:]
        }
    }

    func closeConnections(code: UInt16, text: String) {
        for descriptor in state.withLock(\.descriptors) {
            send(descriptor, 0, 10, 50, [UInt8](code) + shortString(text) + [UInt8](UInt16(0)) + [UInt8](UInt16(0)))
        }
    }

    func closeChannel(of kind: String, code: UInt16, text: String) throws {
        let held = try #require(state.withLock { $0.held[kind] })
        let method = [UInt8](UInt16(held.method.classID)) + [UInt8](UInt16(held.method.methodID))
        send(held.descriptor, held.channel, 20, 40, [UInt8](code) + shortString(text) + method)
    }

    func block(_ reason: String) {
        for descriptor in state.withLock(\.descriptors) { send(descriptor, 0, 10, 60, shortString(reason)) }
    }

    func unblock() {
        for descriptor in state.withLock(\.descriptors) { send(descriptor, 0, 10, 61, []) }
    }

    func confirm(_ tag: UInt64, multiple: Bool = false) throws {
        let held = try #require(state.withLock { $0.held["publish"] })
        send(held.descriptor, held.channel, 60, 80, [UInt8](tag) + [multiple ? 1 : 0])
    }

    func ignoreGoodbyes() {
        state.withLock { $0.answersGoodbyes = false }
    }

    /// Returns a message without an end on the channel, faster than anybody reads it, until the connection is cut.
    func flood(_ kind: String) throws {
        let held = try #require(state.withLock { $0.held[kind] })
        send(held.descriptor, held.channel, 60, 50, [UInt8](UInt16(312)) + shortString("") + shortString("") + shortString(""))
        let header = [UInt8](UInt16(60)) + [0, 0] + [UInt8](UInt64.max) + [0, 0]
        _ = write(held.descriptor, frame(2, held.channel, header))
        let burst = Array(repeatElement(frame(3, held.channel, [0]), count: 65_536).joined())
        let started = ConnectionThread.start(name: "fake flood") { [self] in
            while write(held.descriptor, burst) {}
        }
        try #require(started)
    }

    func stop() {
        state.withLock { $0.stopped = true }
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        cut()
    }

    // MARK: Its side of the protocol

    private func acceptAll() {
        while true {
            let descriptor = accept(listener, nil, nil)
            guard descriptor >= 0 else { return }
            let started = ConnectionThread.start(name: "fake link") { [self] in
                serve(descriptor)
                state.withLock { _ = $0.descriptors.remove(descriptor) }
                close(descriptor)
            }
            if !started { close(descriptor) }
        }
    }

    private func serve(_ descriptor: Int32) {
        guard read(descriptor, 8) != nil else { return }
        // Version, no properties, PLAIN, en_US.
        send(descriptor, 0, 10, 10, [0, 9, 0, 0, 0, 0] + longString("PLAIN") + longString("en_US"))
        while let head = read(descriptor, 7) {
            let channel = UInt16(head[1]) << 8 | UInt16(head[2])
            let size = head[3...6].reduce(0) { $0 << 8 | Int($1) }
            guard let payload = read(descriptor, size + 1) else { return }
            guard head[0] == 1 else { continue }
            let method = AMQPError.Method(
                classID: Int(payload[0]) << 8 | Int(payload[1]),
                methodID: Int(payload[2]) << 8 | Int(payload[3]),
            )
            guard answer(method, Array(payload[4..<size]), descriptor, channel) else { return }
        }
    }

    /// - Returns: false at the end of the connection.
    private func answer(_ method: AMQPError.Method, _ arguments: [UInt8], _ descriptor: Int32, _ channel: UInt16) -> Bool {
        func hold(_ kind: String) {
            state.withLock { $0.held[kind] = Held(descriptor: descriptor, channel: channel, method: method) }
        }
        switch (method.classID, method.methodID) {
        case (10, 11):
            send(descriptor, 0, 10, 30, [UInt8](UInt16(2047)) + [UInt8](UInt32(131_072)) + [UInt8](UInt16(0)))
        case (10, 40):
            state.withLock { _ = $0.descriptors.insert(descriptor) }
            send(descriptor, 0, 10, 41, [0])
        case (10, 50):
            if state.withLock(\.answersGoodbyes) { send(descriptor, 0, 10, 51, []) }
        case (10, 51): return false
        case (20, 10): send(descriptor, channel, 20, 11, [0, 0, 0, 0])
        case (20, 40): send(descriptor, channel, 20, 41, [])
        case (40, 10): send(descriptor, channel, 40, 11, [])
        case (50, 10):
            let name = shortString(in: arguments, at: 2)
            let isPassive = arguments[3 + name.utf8.count] & 1 != 0
            guard name != "held" else {
                hold(isPassive ? "inspect" : "declare")
                return true
            }
            let real = name.isEmpty ? "amq.gen-\(state.withLock { $0.namedQueues += 1; return $0.namedQueues })" : name
            send(descriptor, channel, 50, 11, shortString(real) + [0, 0, 0, 0, 0, 0, 0, 0])
        case (50, 20): send(descriptor, channel, 50, 21, [])
        case (60, 10): send(descriptor, channel, 60, 11, [])
        case (60, 20):
            if shortString(in: arguments, at: 2).hasPrefix("amq.gen-") { hold("named") }
            if shortString(in: arguments, at: 2) == "consume" {
                hold("consume")
                state.withLock { $0.consumes += 1 }
            }
            send(descriptor, channel, 60, 21, shortString("tag"))
        case (60, 40):
            let exchange = shortString(in: arguments, at: 2)
            hold(shortString(in: arguments, at: 3 + exchange.utf8.count))
        case (85, 10): send(descriptor, channel, 85, 11, [])
        default: break
        }
        return true
    }

    // MARK: Bytes

    private func send(_ descriptor: Int32, _ channel: UInt16, _ classID: UInt16, _ methodID: UInt16, _ arguments: [UInt8]) {
        // A peer that has gone is no news here.
        _ = write(descriptor, frame(1, channel, [UInt8](classID) + [UInt8](methodID) + arguments))
    }

    private func frame(_ type: UInt8, _ channel: UInt16, _ payload: [UInt8]) -> [UInt8] {
        [type] + [UInt8](channel) + [UInt8](UInt32(payload.count)) + payload + [0xce]
    }

    /// - Returns: false when the peer has gone.
    private func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    private func read(_ descriptor: Int32, _ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var buffer = [UInt8](repeating: 0, count: count - bytes.count)
            let received = recv(descriptor, &buffer, buffer.count, 0)
            guard received > 0 else { return nil }
            bytes += buffer[..<received]
        }
        return bytes
    }

    private func shortString(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + text.utf8 }
    private func longString(_ text: String) -> [UInt8] { [UInt8](UInt32(text.utf8.count)) + text.utf8 }

    private func shortString(in bytes: [UInt8], at index: Int) -> String {
        String(decoding: bytes[(index + 1)..<(index + 1 + Int(bytes[index]))], as: UTF8.self)
    }
}

extension [UInt8] {
    fileprivate init(_ number: some FixedWidthInteger) {
        self = Swift.withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }
}
