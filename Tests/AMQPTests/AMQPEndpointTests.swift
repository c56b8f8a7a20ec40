import AMQP
import Testing

@Suite struct AMQPEndpointTests {
    @Test func `all parts of a URI`() throws {
        let endpoint = try AMQPEndpoint(uri: "amqp://dcm:s%40cr%2Fet%25@broker.example:5673/my%2Fhost?heartbeat=10")
        #expect(endpoint.host == "broker.example")
        #expect(endpoint.port == 5673)
        #expect(endpoint.user == "dcm")
        #expect(endpoint.virtualHost == "my/host")
        #expect(endpoint.heartbeat == .seconds(10))
        #expect(endpoint.tls == nil)
        #expect(endpoint.address == "broker.example:5673")
    }

    @Test(arguments: [
        ("amqp://h", "h", 5672, "/", "guest"),
        ("amqp://h/", "h", 5672, "/", "guest"),
        ("AMQP://h/dcm", "h", 5672, "dcm", "guest"),
        ("amqps://h/%2f", "h", 5671, "/", "guest"),
        ("amqp://u@h:1", "h", 1, "/", "u"),
        ("amqp://u:p:q@h", "h", 5672, "/", "u"),
        ("amqp://u:p@q@h", "h", 5672, "/", "u"),
        ("amqp://[::1]:5673/x", "::1", 5673, "x", "guest"),
        ("amqp://[fe80::1]", "fe80::1", 5672, "/", "guest"),
    ])
    func `parts left out have their defaults`(_ uri: String, host: String, port: Int, virtualHost: String, user: String) throws {
        let endpoint = try AMQPEndpoint(uri: uri)
        #expect(endpoint.host == host)
        #expect(endpoint.port == port)
        #expect(endpoint.virtualHost == virtualHost)
        #expect(endpoint.user == user)
    }

    @Test func `TLS checks the peer unless told otherwise`() throws {
        #expect(try AMQPEndpoint(uri: "amqps://h").tls?.verifyPeer == true)
        let endpoint = try AMQPEndpoint(uri: "amqps://h/?cacertfile=/ca.pem&certfile=/c.pem&keyfile=/k%20y.pem&verify=verify_none")
        #expect(endpoint.tls?.certificateAuthorityFile == "/ca.pem")
        #expect(endpoint.tls?.certificateFile == "/c.pem")
        #expect(endpoint.tls?.keyFile == "/k y.pem")
        #expect(endpoint.tls?.verifyPeer == false)
    }

    @Test(arguments: [
        ("", "scheme"), ("localhost:5672", "scheme"), ("http://h", "scheme"), ("amqp://", "host"), ("amqp://u:secret@", "host"),
        ("amqp://u:secret@h:port", "port"), ("amqp://h:0", "port"), ("amqp://h:65536", "port"), ("amqp://h:", "port"),
        ("amqp://u:secret%@h", "password"), ("amqp://u:secret%zz@h", "password"), ("amqp://%00:secret@h", "user"),
        ("amqp://u:secret%ff@h", "password"), ("amqp://h/a/b", "slash"), ("amqp://[::1", "bracket"), ("amqp://[::1]x", "follows"),
        ("amqp://h/v#secret", "fragment"), ("amqp://h/?heartbeat=soon", "heartbeat"), ("amqp://h/?heartbeat=-1", "heartbeat"),
        ("amqp://h/?verfy=verify_none", "verfy"), ("amqps://h/?verify=maybe", "verify"), ("amqps://h/?certfile=c", "keyfile"),
        ("amqp://h/?cacertfile=c", "amqps"),
    ])
    func `a faulty URI is refused with the part that is wrong, never with the password`(_ uri: String, _ part: String) throws {
        let error = try #require(throws: AMQPError.self) { try AMQPEndpoint(uri: uri) }
        #expect(error.code == .invalidEndpoint)
        #expect(error.message.contains(part))
        #expect(!"\(error)".contains("secret"))
    }

    @Test func `the password shows nowhere`() throws {
        let endpoint = try AMQPEndpoint(uri: "amqp://user:hunter2@h/v")
        let configuration = AMQPConfiguration(endpoints: [endpoint], connectionName: "x")
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(endpoint)", String(reflecting: endpoint), "\([endpoint])", "\(configuration)", dumped] {
            #expect(!text.contains("hunter2"))
            #expect(text.contains("user"))
        }
    }
}
