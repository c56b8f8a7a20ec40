import Bootstrap
import Configuration
import Foundation
import Jobs
import Logging
import Orthanc
import Pipeline
import PythonHost
import Synchronization
import Testing

@testable import Worker

@Suite struct PythonJobsTests {
    @Test("The end of one attempt takes no folder from under the next one of its run")
    func scratch() async throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-python-jobs-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var folders = ServiceFolders(settings: .environment())
        folders.modules = folder.appending(path: "modules")
        folders.data = folder.appending(path: "data")
        folders.logs = folder.appending(path: "logs")
        // An attempt that ends at once: folders are made and removed all the same.
        let configuration = PythonHostConfiguration(
            python: "/nonexistent/python3", hostPath: folder, root: folders.modules, environment: [:])
        let logger = Logger(label: "test")
        let jobs = PythonJobs(configuration, folders, killGrace: .seconds(1), logger: logger)
        let definition = JobDefinition(name: "job", service: "svc", stage: .services, entry: "svc.worker")
        let run = RunID(milliseconds: 7, random: (1, 2))
        let first = FakeRouter.order(JobID(run: run, index: 0), attempt: 1, definition: definition)
        let second = FakeRouter.order(JobID(run: run, index: 1), attempt: 1, definition: definition)

        let exit = await jobs.run(first) { _ in }
        #expect(exit.kind == .brokenService)
        #expect(!FileManager.default.fileExists(atPath: jobs.job(first, "").workdir.path))
        #expect(FileManager.default.fileExists(atPath: jobs.job(second, "").workdir.deletingLastPathComponent().path))
        #expect(jobs.job(first, "").workdir != jobs.job(second, "").workdir)
    }

    @Test("A command gets the job, and what it leaves is kept; its checkpoints and its scratch folder are gone")
    func command() async throws {
        try await withJobs { jobs, folders in
            try Self.script(
                #"""
                #!/bin/sh
                grep -q '"id": "h"' && test "$DCM_RUN_OUTPUTS" && test "$CUDA_VISIBLE_DEVICES" = 1 || exit 9
                echo mask > "$DCM_OUTPUTS/mask.nii.gz"
                echo noise >&2
                echo '{"volume": 12.5}'
                """#, "bin/segment", folders)
            let order = Self.order(["bin/segment", "-x"])
            let checkpoints = folders.data.appending(path: ".checkpoints/\(order.job)")
            try FileManager.default.createDirectory(at: checkpoints, withIntermediateDirectories: true)
            let exit = await jobs.run(order, variables: ["CUDA_VISIBLE_DEVICES": "1"]) { _ in }
            #expect(exit.outcome == .succeeded, "\(exit)")
            #expect(exit.result?["stdout"] == ["volume": 12.5])
            let path = "outputs/\(order.job.run)/job"
            #expect(exit.result?["outputs"]?["path"]?.string == path)
            #expect(exit.artifacts.map(\.path) == ["\(path)/mask.nii.gz"])
            #expect(try String(contentsOf: folders.data.appending(path: "\(path)/mask.nii.gz"), encoding: .utf8) == "mask\n")
            #expect(!FileManager.default.fileExists(atPath: checkpoints.path))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folders.data.appending(path: ".work").path) == [])
            let log = try String(contentsOf: folders.logs.appending(path: try #require(exit.log)), encoding: .utf8)
            #expect(log.contains("noise"))
        }
    }

    @Test("A command that fails says how; what it left is not kept; one that is not there is the service's fault")
    func failures() async throws {
        try await withJobs { jobs, folders in
            try Self.script("#!/bin/sh\necho half > \"$DCM_OUTPUTS/half\"\necho out of coffee >&2\nexit 3\n", "fail", folders)
            let failed = await jobs.run(Self.order(["fail"])) { _ in }
            #expect(failed.outcome == .failed)
            #expect(failed.kind == .exception)
            #expect(failed.exitCode == 3)
            let told = "\(failed.failure?.message ?? "") \(failed.tail ?? "")"
            #expect(told.contains("out of coffee"))
            #expect(!FileManager.default.fileExists(atPath: folders.data.appending(path: "outputs").path))

            let missing = await jobs.run(Self.order(["bin/nowhere"])) { _ in }
            #expect(missing.kind == .brokenService)
            #expect(missing.failure?.message.contains("svc/bin/nowhere does not exist") == true, "\(missing)")
        }
    }

    @Test("A command waits with its outputs until its lease is its own again, and gives them up when it is cancelled")
    func lease() async throws {
        try await withJobs { jobs, folders in
            try Self.script("#!/bin/sh\necho done > \"$DCM_OUTPUTS/file\"\n", "quick", folders)
            let order = Self.order(["quick"])
            let file = folders.data.appending(path: "outputs/\(order.job.run)/job/file")
            let lease = Switch()
            let asked = Switch()
            let ended = Task {
                await jobs.run(
                    order,
                    isStillMine: {
                        asked.set()
                        return lease.isSet
                    }
                ) { _ in }
            }
            #expect(await eventually(within: .seconds(30)) { asked.isSet })
            #expect(!FileManager.default.fileExists(atPath: file.path))
            lease.set()
            #expect(await ended.value.outcome == .succeeded)
            #expect(FileManager.default.fileExists(atPath: file.path))

            let again = Switch()
            let lost = Task {
                await jobs.run(
                    order,
                    isStillMine: {
                        again.set()
                        return false
                    }
                ) { _ in }
            }
            #expect(await eventually(within: .seconds(30)) { again.isSet })
            lost.cancel()
            #expect(await lost.value.outcome == .cancelled)
        }
    }

    // MARK: Stage

    @Test("A job finds the server that its images came from in its environment, whatever the worker's own says")
    func server() async throws {
        try await withJobs { jobs, folders in
            try Self.script(
                #"""
                #!/bin/sh
                printf '"%s %s %s %s"' "$ORTHANC_SERVER" "$ORTHANC_REST_URL" "$ORTHANC_REST_USERNAME" "$ORTHANC_REST_PASSWORD"
                """#, "where", folders)
            let urls = ["ORTHANC_URLS": "ct=http://a:b@orthanc-ct:8042,mr=http://orthanc-mr:8042"]
            let settings = Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: urls)))
            let dispatcher = JobDispatcher(
                export: ExportJob(
                    servers: try ExportServers(settings), configuration: InstanceExport.Configuration(), data: folders.data,
                    logger: Logger(label: "test")),
                python: jobs, resources: ResourceTokens(memory: 1 << 30, devices: []))
            var order = Self.order(["where"])
            for (server, expected) in [("ct", "ct http://orthanc-ct:8042 a b"), ("mr", "mr http://orthanc-mr:8042  "), ("us", "us   ")] {
                order.source.server = server
                order.token += 1
                let exit = await dispatcher.run(order, isStillMine: { true }, onProgress: { _ in })
                #expect(exit.result == .string(expected), "\(exit)")
            }
        }
    }

    private static func order(_ command: [String]) -> Pipeline.JobOrder {
        FakeRouter.order(
            JobID(run: RunID(milliseconds: 7, random: (1, 2)), index: 0), attempt: 1,
            definition: JobDefinition(name: "job", service: "svc", stage: .services, kind: .command, entry: "", command: command))
    }

    private static func script(_ text: String, _ name: String, _ folders: ServiceFolders) throws {
        let file = folders.modules.appending(path: "svc/\(name)")
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file.path)
    }

    private func withJobs(_ body: (PythonJobs, ServiceFolders) async throws -> Void) async throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-commands-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var folders = ServiceFolders(settings: .environment())
        folders.modules = folder.appending(path: "modules")
        folders.data = folder.appending(path: "data")
        folders.logs = folder.appending(path: "logs")
        let hostPath = URL(filePath: #filePath).resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "python")
        let environment = ProcessInfo.processInfo.environment
        let configuration = PythonHostConfiguration(
            python: environment["PYTHON"] ?? "/usr/bin/python3", hostPath: hostPath, root: folders.modules, environment: environment)
        let jobs = PythonJobs(configuration, folders, killGrace: .seconds(1), logger: Logger(label: "test"))
        do {
            try await body(jobs, folders)
        } catch {
            await jobs.shutdown()
            throw error
        }
        await jobs.shutdown()
    }
}

/// Goes on and stays on.
private final class Switch: Sendable {
    private let state = Mutex(false)
    var isSet: Bool { state.withLock { $0 } }
    func set() { state.withLock { $0 = true } }
}
