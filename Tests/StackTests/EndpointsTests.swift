import Foundation
import Testing

@testable import Stack

@Suite("Files of a stack")
struct EndpointsTests {
    @Test("endpoints.json has the promised keys, null for what is down, and is private")
    func endpoints() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.appendingPathComponent("home").path)
            let plan = try plan(home, in: folder, environment: ["MONITOR_HOST": "0.0.0.0"])
            var endpoints = plan.endpoints
            endpoints.pids.router = 12
            endpoints.pids.workers = [13, 14]
            try endpoints.write(home)
            #expect(try Endpoints.read(home) == endpoints)
            #expect(try mode(home.endpointsFile) == 0o600)

            let content = try JSONSerialization.jsonObject(with: Data(contentsOf: home.endpointsFile))
            let object = try #require(content as? [String: Any])
            #expect(
                Set(object.keys) == [
                    "monitor", "monitorToken", "ingest", "ingestToken", "orthanc", "orthancDicomPort", "orthancUser", "orthancPassword",
                    "amqp",
                    "rabbitmqManagement", "data", "registry", "modules", "logs", "state", "pids",
                ]
            )
            #expect(object["monitor"] as? String == "http://127.0.0.1:\(plan.ports.monitor)")
            #expect(endpoints.signInLink == "http://127.0.0.1:\(plan.ports.monitor)/sign-in#token=\(plan.secrets.monitorToken)")
            endpoints.monitorToken = "a b&c#d"
            #expect(endpoints.signInLink.hasSuffix("/sign-in#token=a%20b%26c%23d"))
            #expect(object["amqp"] as? String == "amqp://dcm:\(plan.secrets.brokerPassword)@127.0.0.1:\(plan.ports.amqp)/dcm")
            let pids = try #require(object["pids"] as? [String: Any])
            #expect(Set(pids.keys) == ["broker", "orthanc", "ingest", "router", "monitor", "workers"])
            #expect(pids["broker"] is NSNull)
            #expect(pids["router"] as? Int == 12)
            #expect(pids["workers"] as? [Int] == [13, 14])
        }
    }

    @Test("A service's places are the stack's, whatever the environment says; its other settings pass through")
    func serviceEnvironment() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.appendingPathComponent("home").path)
            let plan = try plan(
                home,
                in: folder,
                environment: ["DATA": "/elsewhere", "BASEDIR": "/base", "EVENTS": "series,patient", "CALLBACK_TIMEOUT": "7"],
            )
            let worker = try #require(plan.children(workers: 2).first { $0.name == "worker-2" }).command()
            #expect(worker.environment["DATA"] == home.data.path)
            #expect(worker.environment["ENVIRONMENTS"] == home.environments.path)
            #expect(worker.environment["ANONYMIZER_KEY_FILE"] == home.anonymizerKey.path)
            let key = try Data(contentsOf: home.anonymizerKey)
            #expect(key.count == 32)
            #expect(try FileManager.default.attributesOfItem(atPath: home.anonymizerKey.path)[.posixPermissions] as? Int == 0o600)
            try SecretFile.generate(home.anonymizerKey)
            #expect(try Data(contentsOf: home.anonymizerKey) == key, "a key in use is never replaced")
            #expect(worker.environment["BASEDIR"] == nil)
            #expect(worker.environment["EVENTS"] == "series,patient")
            #expect(worker.environment["CALLBACK_TIMEOUT"] == "7")
            #expect(worker.environment["WORKER_ID"] == "worker-2")
            #expect(worker.environment["READY_FILE"] == home.readyFile("worker-2").path)
            #expect(worker.environment["SETTINGS"] == home.registry.appendingPathComponent("settings.json").path)
            #expect(worker.executable.hasSuffix("/dcm-worker"))
        }
    }

    @Test("Orthanc rings at ingest with a token that only these two know; without the script it does not ring")
    func hook() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.appendingPathComponent("home").path)
            let checkout = folder.appendingPathComponent("checkout")
            let script = checkout.appendingPathComponent("deploy/orthanc/dcm-wake.lua")
            try FileSystem.makeFolder(script.deletingLastPathComponent())
            try FileSystem.write("", to: script)
            let plan = try plan(home, in: folder, environment: ["INGEST_HOST": "0.0.0.0"], checkout: checkout)
            let children = plan.children(workers: 1)
            func environment(_ name: String) throws -> [String: String] {
                try #require(children.first { $0.name == name }).command().environment
            }
            let token = try #require(plan.endpoints.ingestToken)
            #expect(token.count == 40)
            #expect(try environment("orthanc")["INGEST_URL"] == "http://127.0.0.1:\(plan.ports.ingest)")
            #expect(try environment("orthanc")["INGEST_TOKEN"] == token)
            #expect(try environment("ingest")["INGEST_TOKEN"] == token)
            #expect(try environment("ingest")["INGEST_PORT"] == "\(plan.ports.ingest)")
            #expect(try environment("ingest")["INGEST_HOST"] == "0.0.0.0")
            for name in ["worker-1", "router", "monitor"] { #expect(try environment(name)["INGEST_TOKEN"] == nil) }
            let file = try Data(contentsOf: home.orthanc.appendingPathComponent("orthanc.json"))
            let configuration = try #require(try JSONSerialization.jsonObject(with: file) as? [String: Any])
            #expect(configuration["LuaScripts"] as? [String] == [script.path])

            let other = StackHome(path: folder.appendingPathComponent("other").path)
            #expect(try self.plan(other, in: folder, environment: [:]).orthanc.hook == nil)
        }
    }

    @Test("Services stop before the router, that before the servers")
    func stopOrder() {
        let names = ["epmd", "broker", "orthanc", "router", "ingest", "monitor", "worker-1", "worker-2"]
        #expect(
            StackPlan.stopOrder(of: names) == [
                ["ingest", "worker-1", "worker-2"], ["router"], ["monitor", "orthanc", "broker"], ["epmd"],
            ]
        )
        #expect(StackPlan.stopOrder(of: ["epmd"]) == [["epmd"]])
    }

    @Test("A ready file counts when it is fresh and of this very process")
    func readyFile() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("x.ready")
            #expect(ReadyFile.readiness(of: file, pid: 5) == .notYet)
            try FileSystem.write(#"{"pid":5,"service":"router"}"#, to: file)
            #expect(ReadyFile.readiness(of: file, pid: 5) == .ready)
            #expect(ReadyFile.readiness(of: file, pid: 6) == .notYet)
            #expect(ReadyFile.readiness(of: file, pid: 5, now: Date() + 29) == .ready)
            #expect(ReadyFile.readiness(of: file, pid: 5, now: Date() + 31) == .notYet)
            try FileSystem.write("no json", to: file)
            #expect(ReadyFile.readiness(of: file, pid: 5) == .notYet)
        }
    }

    @Test("A lock has one holder")
    func lock() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("run/x.lock")
            #expect(try !FileLock.isHeld(file))
            var lock = try FileLock.tryLock(file)
            #expect(lock != nil)
            #expect(try FileLock.isHeld(file))
            #expect(try FileLock.tryLock(file) == nil)
            lock = nil
            #expect(try !FileLock.isHeld(file))
        }
    }

    private func plan(
        _ home: StackHome, in folder: URL, environment: [String: String], checkout: URL? = nil
    ) throws -> StackPlan {
        let executables = folder.appendingPathComponent("bin")
        try makeServices(in: executables, script: "exit 0")
        return try StackPlan.prepare(home: home, environment: environment, checkout: checkout, executables: executables)
    }
}

/// dcm-ingest and the other three as one shell script.
func makeServices(in folder: URL, script: String) throws {
    try FileSystem.makeFolder(folder)
    for name in ["ingest", "router", "worker", "monitor"] {
        try FileSystem.write("#!/bin/sh\n\(script)\n", to: folder.appendingPathComponent("dcm-\(name)"), mode: 0o755)
    }
}
