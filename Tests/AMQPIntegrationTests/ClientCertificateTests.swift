import AMQP
import Foundation
import Glibc
import Stack
import Testing

private let openSSL = ["/usr/bin/openssl", "/usr/local/bin/openssl"].first { FileManager.default.isExecutableFile(atPath: $0) }

/// Authorities, certificates and keys in a folder, made with the openssl program.
private struct CertificateShop {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "amqp-certificates-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try run(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    }

    func path(_ name: String) -> String { "\(folder.path)/\(name)" }

    func issue(_ name: String, host: String) throws {
        try run("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=\(host)", "-keyout", "\(name).key", "-out", "\(name).csr")
        try Data("subjectAltName=DNS:\(host)\n".utf8).write(to: folder.appending(path: "\(name).ext"))
        try run(
            "x509", "-req", "-in", "\(name).csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "\(name).ext", "-out", "\(name).pem")
    }

    func run(_ arguments: String...) throws {
        let process = try start(arguments)
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl \(arguments)")
    }

    func start(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: try #require(openSSL))
        process.currentDirectoryURL = folder
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }
}

extension AMQPBrokerTests {
    @Suite(.enabled(if: openSSL != nil, "needs the openssl program"))
    struct Certificates {
        @Test func `a broker that wants a client certificate gets it; strangers, other hosts and hung peers are told apart`() async throws {
            let shop = try CertificateShop()
            defer { try? FileManager.default.removeItem(at: shop.folder) }
            try shop.issue("server", host: "localhost")
            try shop.issue("elsewhere", host: "broker.example")
            try shop.issue("client", host: "dcm")
            try shop.run("pkey", "-in", "client.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
            let port = try SilentServer().port
            let node = try await PrivateBroker.start(
                in: shop.folder.appending(path: "node"),
                configuration: [
                    "listeners.ssl.default = 127.0.0.1:\(port)",
                    "ssl_options.cacertfile = \(shop.path("ca.pem"))",
                    "ssl_options.certfile = \(shop.path("server.pem"))",
                    "ssl_options.keyfile = \(shop.path("server.key"))",
                    "ssl_options.verify = verify_peer",
                    "ssl_options.fail_if_no_peer_cert = true",
                ],
            )
            do {
                try await check(node, port: port, shop)
                try await checkHungPeer(node, port: port, shop)
            } catch {
                await node.stop()
                throw error
            }
            await node.stop()
        }

        private func uri(
            _ node: PrivateBroker, _ port: UInt16, _ shop: CertificateShop, key: String? = "client.key", host: String = "localhost"
        )
            -> String
        {
            let base = "amqps://\(node.user):\(node.password)@\(host):\(port)/\(node.virtualHost)?cacertfile=\(shop.path("ca.pem"))"
            return key.map { "\(base)&certfile=\(shop.path("client.pem"))&keyfile=\(shop.path($0))" } ?? base
        }

        private func check(_ node: PrivateBroker, port: UInt16, _ shop: CertificateShop) async throws {
            let queue = unique("certificate")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)]), uri: uri(node, port, shop)) { client in
                try await client.publish(message(to: queue, "known"))
                let texts = try await client.take(1, from: queue).map(\.text)
                #expect(texts == ["known"])
            }
            let without = try await refusal(uri(node, port, shop, key: nil))
            #expect(without.code == .connectionFailed)
            let locked = try await refusal(uri(node, port, shop, key: "locked.key"))
            #expect(locked.message.contains("encrypted"))
            // The certificate is for a name, and an address is none.
            let byAddress = try await refusal(uri(node, port, shop, host: "127.0.0.1"))
            #expect(byAddress.message.contains("not for \"127.0.0.1\""), "\(byAddress)")
        }

        @Test func `the certificate of another host is refused`() async throws {
            let error = try await refusalByServer("elsewhere", options: ["-tls1_2"])
            #expect(error.message.contains("not for \"localhost\""), "\(error)")
        }

        @Test func `TLS before 1.2 is refused, 1.2 is not`() async throws {
            let old = try await refusalByServer("server", options: ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"])
            #expect(old.message.contains("by TLS failed"), "\(old)")
            #expect(old.message.contains("TLS 1.2"), "\(old)")
            // The program speaks no AMQP: a login that fails is past the handshake.
            let new = try await refusalByServer("server", options: ["-tls1_2"])
            #expect(!new.message.contains("by TLS failed"), "\(new)")
        }

        private func refusalByServer(_ certificate: String, options: [String]) async throws -> AMQPError {
            let shop = try CertificateShop()
            defer { try? FileManager.default.removeItem(at: shop.folder) }
            try shop.issue("server", host: "localhost")
            try shop.issue("elsewhere", host: "broker.example")
            let port = try SilentServer().port
            let certificates = ["-cert", "\(certificate).pem", "-key", "\(certificate).key"]
            let server = try shop.start(["s_server", "-accept", "127.0.0.1:\(port)", "-quiet"] + certificates + options)
            defer {
                // It does not mind being asked politely.
                kill(server.processIdentifier, SIGKILL)
                server.waitUntilExit()
            }
            return try await refusal("amqps://localhost:\(port)/?cacertfile=\(shop.path("ca.pem"))") {
                // Until the server listens.
                !$0.message.contains("socket error")
            }
        }

        private func refusal(_ uri: String, where counts: @escaping @Sendable (AMQPError) -> Bool = { _ in true }) async throws -> AMQPError
        {
            try await withClient(
                uri: uri, ready: false,
                configure: {
                    $0.connectTimeout = .seconds(3)
                    $0.backoff.maximum = .milliseconds(300)
                }
            ) { client in
                var found: AMQPError?
                try await eventually("A refusal") {
                    if case .reconnecting(let error) = client.state, counts(error) { found = error }
                    return found != nil
                }
                return try #require(found)
            }
        }

        /// On TLS the library sends by itself, and blocks when the peer takes nothing. The watchdog ends that.
        private func checkHungPeer(_ node: PrivateBroker, port: UInt16, _ shop: CertificateShop) async throws {
            let pid = try #require(node.pid)
            let queue = unique("hung")
            try await withClient(
                AMQPTopology(queues: [classicQueue(queue)]),
                // Without heartbeats nothing else ends it before TCP's own limit of a minute.
                uri: "\(uri(node, port, shop))&heartbeat=0",
                configure: { $0.publishTimeout = .seconds(2) },
            ) { client in
                try await client.publish(message(to: queue, "before"))
                #expect(kill(pid, SIGSTOP) == 0)
                defer { kill(pid, SIGCONT) }
                let start = ContinuousClock.now
                // More than both kernels' buffers hold.
                let large = AMQPPublishing(exchange: "", routingKey: queue, body: Array(repeating: 1, count: 12 << 20))
                let outcomes = await client.publish([large, large, large])
                let took = ContinuousClock.now - start
                #expect(took > .milliseconds(1500) && took < .seconds(6), "\(took)")
                for outcome in outcomes {
                    guard case .failure(let error) = outcome else {
                        Issue.record("confirmed by a stopped broker")
                        continue
                    }
                    #expect([.timeout, .connectionLost].contains(error.code), "\(error)")
                }
                #expect(kill(pid, SIGCONT) == 0)
                try await client.wait(for: "open") { $0 == .open }
                try await client.publish(message(to: queue, "after"))
            }
        }
    }
}
