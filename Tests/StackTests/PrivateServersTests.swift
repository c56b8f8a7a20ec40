import Foundation
import Stack
import Testing

@Suite("Private servers", .timeLimit(.minutes(5)))
struct PrivateServersTests {
    @Test("A broker starts, is killed, restarts with the same address and data, and stops")
    func brokerLifeCycle() async throws {
        try await withTemporaryFolder { folder in
            let broker = try await PrivateBroker.start(in: folder)
            let first = try #require(broker.pid)
            try await broker.rabbitmqctl("add_vhost", "kept")

            await broker.kill()
            #expect(broker.pid == nil)
            #expect(!isAlive(first))
            await #expect(throws: StackError.self) { try await broker.node.logIn() }

            try await broker.restart()
            #expect(try #require(broker.pid) != first)
            try await broker.node.logIn()
            #expect(try await broker.rabbitmqctl("list_vhosts", "--silent").split(separator: "\n").contains("kept"))

            await broker.stop()
            #expect(broker.pid == nil)
            #expect(FreePorts.isFree(broker.port))
            #expect(FreePorts.isFree(broker.node.ports.epmd))
        }
    }

    @Test("A broker with management answers its API, and refuses a wrong password on both doors")
    func brokerManagement() async throws {
        try await withTemporaryFolder { folder in
            let broker = try await PrivateBroker.start(in: folder, management: true)
            let management = try #require(broker.managementURL)
            let url = try #require(URL(string: "\(management)/api/whoami"))
            let known = try await LoopbackHTTP.request("GET", url, credentials: .basic(user: broker.user, password: broker.password))
            #expect(known.status == 200)
            #expect(String(decoding: known.body, as: UTF8.self).contains("administrator"))

            var stranger = broker.node
            stranger.password = "not-this-one"
            let unknown = try await LoopbackHTTP.request(
                "GET",
                url,
                credentials: .basic(user: stranger.user, password: stranger.password),
            )
            #expect(unknown.status == 401)
            let error = await #expect(throws: StackError.self) { try await stranger.logIn() }
            #expect(error?.code == .refused)
            await broker.stop()
        }
    }

    @Test("A broker that cannot start says why, with the end of its log")
    func brokerThatCannotStart() async throws {
        try await withTemporaryFolder { folder in
            let error = await #expect(throws: StackError.self) {
                _ = try await PrivateBroker.start(in: folder, configuration: ["this is no setting of RabbitMQ"])
            }
            #expect(error?.code == .exited)
            #expect(error?.logFile?.lastPathComponent == "broker.log")
            #expect(error?.logTail.isEmpty == false)
        }
    }

    @Test("Orthanc starts, is killed, restarts with the same address, and stops")
    func orthancLifeCycle() async throws {
        try await withTemporaryFolder { folder in
            let orthanc = try await PrivateOrthanc.start(in: folder, stableAge: 1)
            let first = try #require(orthanc.pid)
            let environment = try String(contentsOfFile: "/proc/\(first)/environ", encoding: .utf8)
            #expect(environment.split(separator: "\0").contains("TCP_NODELAY=1"))

            await orthanc.kill()
            #expect(orthanc.pid == nil)
            #expect(!isAlive(first))

            try await orthanc.restart()
            try await orthanc.node.checkSystem()
            #expect(try #require(orthanc.pid) != first)

            var stranger = orthanc.node
            stranger.password = "not-this-one"
            let error = await #expect(throws: StackError.self) { try await stranger.checkSystem() }
            #expect(error?.code == .refused)

            await orthanc.stop()
            #expect(FreePorts.isFree(orthanc.dicomPort))
        }
    }
}
