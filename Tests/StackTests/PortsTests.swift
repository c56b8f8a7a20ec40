import Foundation
import Glibc
import Testing

@testable import Stack

@Suite("Ports")
struct PortsTests {
    @Test("No port is handed out twice")
    func distinct() throws {
        let ports = try (0..<300).map { _ in try FreePorts.next() }
        #expect(Set(ports).count == 300)
    }

    @Test("A port is free until somebody listens on it, on whichever address", arguments: ["127.0.0.1", "0.0.0.0"])
    func taken(address: String) throws {
        let port = try FreePorts.next()
        #expect(FreePorts.isFree(port))
        try withListener(address, port) { #expect(!FreePorts.isFree(port)) }
        #expect(FreePorts.isFree(port))
    }

    @Test("Ports are kept over restarts; one that somebody took moves, is said and recorded")
    func kept() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("ports.json")
            let settings = try StackSettings(environment: [:], home: folder, checkout: nil)
            let (first, notes) = try StackPorts.resolve(file, settings: settings)
            #expect(notes.isEmpty)
            #expect(try StackPorts.resolve(file, settings: settings).ports == first)

            try withListener("127.0.0.1", first.monitor) {
                let (moved, notes) = try StackPorts.resolve(file, settings: settings)
                #expect(moved.monitor != first.monitor)
                #expect(notes == ["Port \(first.monitor) is used by another program now: the monitor moved to port \(moved.monitor)."])
                var rest = moved
                rest.monitor = first.monitor
                #expect(rest == first)
                #expect(try StackPorts.resolve(file, settings: settings).ports == moved)
            }
        }
    }

    @Test("The file of a version that knew fewer ports keeps them")
    func olderFile() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("ports.json")
            let settings = try StackSettings(environment: [:], home: folder, checkout: nil)
            let first = try StackPorts.resolve(file, settings: settings).ports
            var object = try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Int])
            object["ingest"] = nil
            try FileSystem.write(try JSONSerialization.data(withJSONObject: object), to: file)
            var second = try StackPorts.resolve(file, settings: settings).ports
            #expect(second.ingest > 0)
            second.ingest = first.ingest
            #expect(second == first)
        }
    }

    @Test("A port that a setting asks for is taken or the start fails with its name")
    func fixed() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("ports.json")
            let port = try FreePorts.next()
            let settings = try StackSettings(environment: ["MONITOR_PORT": "\(port)"], home: folder, checkout: nil)
            #expect(try StackPorts.resolve(file, settings: settings).ports.monitor == port)
            try withListener("127.0.0.1", port) {
                let error = #expect(throws: StackError.self) { try StackPorts.resolve(file, settings: settings) }
                #expect(error?.code == .portTaken)
                #expect(error?.message.contains("MONITOR_PORT asks for port \(port)") == true)
            }
        }
    }
}

/// Somebody else's server, for the time of `body`.
func withListener(_ address: String, _ port: UInt16, _ body: () throws -> Void) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    inet_pton(AF_INET, address, &target.sin_addr)
    let bound = withUnsafePointer(to: &target) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    try #require(bound == 0 && listen(descriptor, 1) == 0)
    try body()
}
