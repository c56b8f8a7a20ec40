import Foundation
import Glibc
import Synchronization

/// Enough of a broker for a client to become ready, in this process: then it says what the test wants it to say.
///
/// Every request is answered; messages are confirmed and sent to the consumer. `script` gives the bytes that each connection gets once
/// the client has set up what it wants there (nil: a broker that behaves), and `greeting` what to make of the frames of the login.
final class ScriptedBroker: Sendable {
    typealias Script = @Sendable (_ connection: Int) -> [UInt8]?
    typealias Greeting = @Sendable (_ frame: [UInt8], _ connection: Int) -> [UInt8]

    private struct State {
        var stopped = false
        var accepted = 0
        var scripted = 0
    }

    private final class Shared: Sendable {
        let state = Mutex(State())
    }

    let port: UInt16
    private let shared = Shared()

    init(greeting: @escaping Greeting = { frame, _ in frame }, script: @escaping Script) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard bound, fcntl(listener, F_SETFL, O_NONBLOCK) == 0 else { throw Late(description: "No port to listen on") }
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [shared] in
            var visits: [Int32: Visit] = [:]
            while !shared.state.withLock(\.stopped) {
                var entries = ([listener] + visits.keys).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
                _ = poll(&entries, nfds_t(entries.count), 5)
                let visitor = accept(listener, nil, nil)
                if visitor >= 0 {
                    let number = shared.state.withLock { state in
                        state.accepted += 1
                        return state.accepted
                    }
                    var on: Int32 = 1
                    setsockopt(visitor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
                    visits[visitor] = Visit(descriptor: visitor, number: number)
                }
                for (descriptor, var visit) in visits {
                    if visit.serve(greeting: greeting, script: script) {
                        visits[descriptor] = visit
                    } else {
                        if visit.spoken != nil { shared.state.withLock { $0.scripted += 1 } }
                        close(descriptor)
                        visits[descriptor] = nil
                    }
                }
            }
            for descriptor in visits.keys { close(descriptor) }
            close(listener)
        }
    }

    deinit {
        shared.state.withLock { $0.stopped = true }
    }

    /// How many connections have ended after they were sent a script.
    var scripted: Int { shared.state.withLock(\.scripted) }
    var accepted: Int { shared.state.withLock(\.accepted) }
}

/// One connection of a client.
private struct Visit {
    let descriptor: Int32
    let number: Int
    /// When the script was sent.
    private(set) var spoken: ContinuousClock.Instant?
    private var input: [UInt8] = []
    private var greeted = false
    /// The channel that consumes from a queue, when there is one; the next delivery's tag.
    private var consumer: (channel: UInt16, tag: String, next: UInt64)?
    private var published: [UInt16: UInt64] = [:]
    private var confirms = false
    private var replies = false

    init(descriptor: Int32, number: Int) {
        self.descriptor = descriptor
        self.number = number
    }

    /// - Returns: false when the connection is over.
    mutating func serve(greeting: ScriptedBroker.Greeting, script: ScriptedBroker.Script) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count == 0 || (count < 0 && errno != EAGAIN) { return false }
        // The script has been heard; what it left open is cut off.
        if let spoken { return count < 0 && .now - spoken < .milliseconds(30) || count > 0 && .now - spoken < .seconds(1) }
        if count > 0 { input += buffer[..<count] }
        if !greeted, input.count >= 8 {
            greeted = true
            input.removeFirst(8)
            greet(greeting, 10, 10) {
                $0.octet(0)
                $0.octet(9)
                $0.longString([])
                $0.longString(Array("PLAIN".utf8))
                $0.longString(Array("en_US".utf8))
            }
        }
        while greeted, input.count >= 7 {
            let size = input[3..<7].reduce(0) { $0 << 8 | Int($1) } + 8
            guard input.count >= size else { break }
            let frame = Array(input[..<size])
            input.removeFirst(size)
            if frame[0] == 1 { answer(frame, greeting) }
        }
        if consumer != nil || (confirms && replies), let bytes = script(number) {
            // A goodbye at the end, which a client that is still with us answers by leaving.
            send(
                bytes
                    + FrameWriter.method(0, 10, 50) {
                        $0.short(320)
                        $0.name("end of the script")
                        $0.long(0)
                    }
            )
            spoken = .now
        }
        return true
    }

    private mutating func answer(_ frame: [UInt8], _ greeting: ScriptedBroker.Greeting) {
        let channel = UInt16(frame[1]) << 8 | UInt16(frame[2])
        switch (frame[8], frame[10]) {
        case (10, 11):
            greet(greeting, 10, 30) {
                $0.short(2047)
                $0.long(131_072)
                $0.short(60)
            }
        case (10, 40): greet(greeting, 10, 41) { $0.name("") }
        case (10, 50): send(FrameWriter.method(0, 10, 51))
        case (20, 10): send(FrameWriter.method(channel, 20, 11) { $0.longString([]) })
        case (20, 40): send(FrameWriter.method(channel, 20, 41))
        case (50, 10):
            send(
                FrameWriter.method(channel, 50, 11) {
                    $0.name("q")
                    $0.longLong(0)
                }
            )
        case (60, 10): send(FrameWriter.method(channel, 60, 11))
        case (60, 20):
            // Reserved, queue, tag.
            let queue = String(decoding: frame[14..<14 + Int(frame[13])], as: UTF8.self)
            let start = 14 + Int(frame[13])
            let tag = String(decoding: frame[start + 1..<start + 1 + Int(frame[start])], as: UTF8.self)
            send(FrameWriter.method(channel, 60, 21) { $0.name(tag) })
            if queue.hasPrefix("amq.") { replies = true } else { consumer = (channel, tag, 1) }
            deliver()
        case (60, 40):
            let tag = published[channel, default: 0] + 1
            published[channel] = tag
            send(
                FrameWriter.method(channel, 60, 80) {
                    $0.longLong(tag)
                    $0.octet(0)
                }
            )
        case (60, 80): deliver()
        case (85, 10):
            confirms = true
            send(FrameWriter.method(channel, 85, 11))
        default: break
        }
    }

    /// One message whenever the last one is acknowledged.
    private mutating func deliver() {
        guard let (channel, tag, next) = consumer else { return }
        consumer?.next = next + 1
        var header = FrameWriter()
        header.long(60 << 16)
        header.longLong(5)
        header.short(0)
        send(
            FrameWriter.method(channel, 60, 60) {
                $0.name(tag)
                $0.longLong(next)
                $0.octet(0)
                $0.name("")
                $0.name("q")
            } + FrameWriter.frame(2, channel, header.bytes) + FrameWriter.frame(3, channel, Array("hello".utf8))
        )
    }

    private func greet(_ greeting: ScriptedBroker.Greeting, _ classID: UInt16, _ methodID: UInt16, _ fill: (inout FrameWriter) -> Void) {
        send(greeting(FrameWriter.method(0, classID, methodID, fill), number))
    }

    private func send(_ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }
}
