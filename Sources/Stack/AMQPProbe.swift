/// The first steps of AMQP 0-9-1, as far as they tell whether a broker is up and knows a user.
///
/// A port that accepts connections is not enough: RabbitMQ listens before it can log anybody in. And a question over
/// the wire takes a millisecond where `rabbitmqctl` starts an Erlang machine.
enum AMQPProbe {
    /// - Throws: ``StackError`` `.unreachable` while there is no broker, `.refused` when it does not take these credentials.
    static func logIn(port: UInt16, user: String, password: String, limit: Duration = .seconds(2)) async throws {
        try await LoopbackSocket.withConnection(port: port, limit: limit) { connection in
            try connection.write(Array("AMQP".utf8) + [0, 0, 9, 1])
            guard try readMethod(connection) == (10, 10) else {
                throw StackError(.refused, "127.0.0.1:\(port) does not speak AMQP 0-9-1.")
            }
            try connection.write(startOk(user: user, password: password))
            let answer = try readMethod(connection)
            guard answer == (10, 30) else {
                throw StackError(.refused, "The broker at 127.0.0.1:\(port) does not accept the password of the user '\(user)'.")
            }
        }
    }

    /// Class and method id of the next frame.
    private static func readMethod(_ connection: LoopbackSocket) throws -> (class: UInt16, method: UInt16) {
        let head = try connection.read(exactly: 7)
        let size = head[3...6].reduce(0) { $0 << 8 | Int($1) }
        let body = try connection.read(exactly: size + 1)
        guard head[0] == 1, size >= 4 else { return (0, 0) }
        return (UInt16(body[0]) << 8 | UInt16(body[1]), UInt16(body[2]) << 8 | UInt16(body[3]))
    }

    /// connection.start-ok: a client property that lets the broker answer a wrong password, PLAIN, en_US.
    private static func startOk(user: String, password: String) -> [UInt8] {
        let capability = short("authentication_failure_close") + [UInt8(ascii: "t"), 1]
        let properties = short("capabilities") + [UInt8(ascii: "F")] + long(capability)
        let response = [0] + Array(user.utf8) + [0] + Array(password.utf8)
        let payload = [0, 10, 0, 11] + long(properties) + short("PLAIN") + long(response) + short("en_US")
        return [1, 0, 0] + long(payload) + [0xce]
    }

    private static func short(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    private static func long(_ bytes: [UInt8]) -> [UInt8] {
        let count = UInt32(bytes.count)
        return [UInt8(count >> 24), UInt8(count >> 16 & 0xff), UInt8(count >> 8 & 0xff), UInt8(count & 0xff)] + bytes
    }
}
