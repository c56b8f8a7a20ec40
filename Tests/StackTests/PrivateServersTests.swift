import Foundation
import Stack
import Testing

@Suite("Private servers", .serialized, .timeLimit(.minutes(5)))
struct PrivateServersTests {
    @Test("A broker starts, is killed, restarts with the same address and stops")
    func brokerLifeCycle() async throws {
        try await withTemporaryFolder { folder in
            let broker = try await PrivateBroker.start(in: folder)
            let first = try #require(broker.pid)
            #expect(try await broker.rabbitmqctl("list_vhosts", "--silent").contains("dcm"))

            await broker.kill()
            #expect(broker.pid == nil)
            #expect(kill(first, 0) == -1)

            try await broker.restart()
            let second = try #require(broker.pid)
            #expect(second != first)
            try await broker.node.logIn()

            await broker.stop()
            #expect(broker.pid == nil)
            #expect(FreePorts.isFree(broker.port))
            #expect(FreePorts.isFree(broker.node.ports.epmd))
        }
    }

    @Test("Orthanc starts, is killed, restarts with the same address and stops")
    func orthancLifeCycle() async throws {
        try await withTemporaryFolder { folder in
            let orthanc = try await PrivateOrthanc.start(in: folder, stableAge: 1)
            let first = try #require(orthanc.pid)

            await orthanc.kill()
            #expect(orthanc.pid == nil)
            #expect(kill(first, 0) == -1)

            try await orthanc.restart()
            try await orthanc.node.checkSystem()
            #expect(orthanc.pid != first)

            await orthanc.stop()
            #expect(FreePorts.isFree(orthanc.dicomPort))
        }
    }
}

func withTemporaryFolder<Value>(_ body: (URL) async throws -> Value) async throws -> Value {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-\(Secret.generate(length: 12))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder)
}
