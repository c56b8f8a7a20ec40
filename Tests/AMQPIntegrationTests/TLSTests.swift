import AMQP
import Foundation
import Stack
import Testing

private let openSSL = ["/usr/bin/openssl", "/usr/local/bin/openssl"].first { FileManager.default.isExecutableFile(atPath: $0) }

extension AMQPBrokerTests {
    /// A broker with a certificate of its own making.
    @Suite(.enabled(if: openSSL != nil, "needs the openssl program"))
    struct TLS {
        @Test func `amqps with the right authority works, with another one it is refused`() async throws {
            let folder = FileManager.default.temporaryDirectory.appending(path: "amqp-tls-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            try makeCertificate("server", in: folder)
            try makeCertificate("stranger", in: folder)
            let port = try freePort()
            let node = try await PrivateBroker.start(
                in: folder.appending(path: "node"),
                configuration: [
                    "listeners.ssl.default = 127.0.0.1:\(port)",
                    "ssl_options.certfile = \(folder.path)/server.pem",
                    "ssl_options.keyfile = \(folder.path)/server.key",
                    "ssl_options.verify = verify_none",
                ]
            )
            do {
                try await checkTLS(node, port: port, folder: folder)
                try await checkFaults(node, port: port, authority: "\(folder.path)/server.pem")
            } catch {
                await node.stop()
                throw error
            }
            await node.stop()
        }

        private func checkTLS(_ node: PrivateBroker, port: UInt16, folder: URL) async throws {
            let base = "amqps://\(node.user):\(node.password)@localhost:\(port)/\(node.virtualHost)"
            let queue = unique("tls")
            let topology = AMQPTopology(queues: [classicQueue(queue)])
            try await withClient(topology, uri: "\(base)?cacertfile=\(folder.path)/server.pem") { client in
                let batch = (0..<500).map { message(to: queue, "\($0)") }
                for outcome in await client.publish(batch) { try outcome.get() }
                let large = AMQPPublishing(exchange: "", routingKey: queue, body: Array(repeating: 5, count: 700_000))
                try await client.publish(large)
                let taken = try await client.take(501, from: queue)
                #expect(taken.dropLast().map(\.text) == (0..<500).map { "\($0)" })
                #expect(taken.last?.body == large.body)
            }
            try await withClient(topology, uri: "\(base)?cacertfile=\(folder.path)/stranger.pem", ready: false) { client in
                try await client.wait(for: "refused") { if case .reconnecting = $0 { true } else { false } }
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.code == .connectionFailed)
                #expect(error.message.contains("localhost:\(port)"))
            }
            try await withClient(topology, uri: "\(base)?cacertfile=\(folder.path)/missing.pem", ready: false) { client in
                try await client.wait(for: "refused") { if case .reconnecting = $0 { true } else { false } }
                guard case .reconnecting(let error) = client.state else { return }
                #expect(error.message.contains("missing.pem"))
            }
        }

        /// On TLS the C library writes, and may block.
        private func checkFaults(_ node: PrivateBroker, port: UInt16, authority: String) async throws {
            let proxy = try FaultProxy(to: port)
            let uri = "amqps://\(node.user):\(node.password)@localhost:\(proxy.port)/\(node.virtualHost)?cacertfile=\(authority)"
            try await Broker.$current.withValue(Broker(uri: node.amqpURL, node: node)) {
                try await FaultWorkload.run(through: proxy, uri: uri, "TLS, reset") { workload in
                    for round in 0..<5 {
                        proxy.reset()
                        try await workload.works("reset \(round)")
                    }
                }
                try await FaultWorkload.run(through: proxy, uri: uri, padding: 200_000, "TLS, black hole, large messages") { workload in
                    proxy.set(.stall)
                    try await workload.suffers(reconnects: 4, through: proxy)
                    proxy.set(.pass)
                }
                try await FaultWorkload.run(through: proxy, uri: uri, "TLS, 1 B/s") { workload in
                    proxy.set(.throttle(bytesPerSecond: 1))
                    try await eventually(within: .seconds(60), "Publishes time out") {
                        workload.ledger.failures[.timeout, default: 0] > 10
                    }
                    proxy.set(.pass)
                }
            }
        }

        private func makeCertificate(_ name: String, in folder: URL) throws {
            let process = Process()
            process.executableURL = URL(filePath: try #require(openSSL))
            process.arguments = [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "\(folder.path)/\(name).key", "-out", "\(folder.path)/\(name).pem",
            ]
            process.standardError = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0)
        }

        private func freePort() throws -> UInt16 {
            try SilentServer().port
        }
    }
}
