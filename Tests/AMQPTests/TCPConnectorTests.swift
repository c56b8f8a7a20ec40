import Glibc
import Testing

@testable import AMQP

@Suite struct TCPConnectorTests {
    private func connector(limit: Duration = .seconds(5)) -> TCPConnector {
        TCPConnector(deadline: .now + limit, breaker: StuckCallBreaker(limit: .seconds(60)))
    }

    /// Addresses of a name that would have both kinds.
    private func both(_ port: UInt16) throws -> [TCPConnector.Address] {
        try ["[::1]", "127.0.0.1"].flatMap { try connector().resolve(AMQPEndpoint(uri: "amqp://\($0):\(port)")) }
    }

    @Test func `the next address has its turn when one refuses`() throws {
        let broker = try FakeBroker()
        defer { broker.stop() }
        let endpoint = try AMQPEndpoint(uri: "amqp://broker.example:\(broker.port)")
        // Nobody listens on ::1 there.
        let descriptor = try connector().connect(to: endpoint, by: both(broker.port))
        defer { close(descriptor) }
        var nodelay: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &nodelay, &length)
        #expect(nodelay != 0)
        #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0)
        #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test func `when none answers, each says why`() throws {
        let endpoint = try AMQPEndpoint(uri: "amqp://broker.example:1")
        let error = try #require(throws: AMQPError.self) { _ = try connector().connect(to: endpoint, by: both(1)) }
        #expect(error.code == .connectionFailed)
        for part in ["broker.example:1", "::1 ", "127.0.0.1 Connection refused"] { #expect(error.message.contains(part)) }
    }

    @Test func `a name without an address is an error that says so`() throws {
        let endpoint = try AMQPEndpoint(uri: "amqp://no-such-host.invalid")
        let error = try #require(throws: AMQPError.self) { _ = try connector().resolve(endpoint) }
        #expect(error.message.contains("no-such-host.invalid:5672"))
    }

    @Test func `a stopped breaker ends the attempt`() throws {
        let breaker = StuckCallBreaker(limit: .seconds(60))
        breaker.stop()
        let endpoint = try AMQPEndpoint(uri: "amqp://127.0.0.1:1")
        #expect(throws: AMQPError.self) { try TCPConnector(deadline: .now + .seconds(60), breaker: breaker).connect(to: endpoint) }
    }
}
