import Bootstrap
import Foundation
import Jobs
import Logging
import Pipeline
import PythonHost
import Testing

@testable import Worker

/// Jobs in environments of their services. The configured interpreter is a shell script here, which makes environments without pip and is Python
/// otherwise.
@Suite(.timeLimit(.minutes(1)))
struct EnvironmentJobsTests {
    private static let python = ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3"

    @Test("A service's jobs run in its environment; one that cannot be built fails its own jobs and no others")
    func environments() async throws {
        let where_ = "import sys\n\ndef worker(**_):\n    return sys.executable\n"
        let modules = [
            "own/requirements.txt": "true\n", "own/__init__.py": where_,
            "broken/script.sh": "echo out of coffee\nexit 5\n", "broken/__init__.py": where_, "plain/__init__.py": where_,
        ]
        try await withJobs(modules) { jobs, folder in
            let own = await jobs.run(Self.order("own")) { _ in }
            let place = folder.appending(path: "environments/own").path
            #expect(own.result?.string?.hasPrefix(place + "/") == true, "\(own)")

            let broken = await jobs.run(Self.order("broken")) { _ in }
            #expect(broken.outcome == .failed)
            #expect(broken.kind == .brokenService)
            #expect(broken.failure?.type == "EnvironmentFailed")
            #expect(broken.failure?.traceback?.contains("out of coffee") == true)

            let plain = await jobs.run(Self.order("plain")) { _ in }
            #expect(plain.result == .string(folder.appending(path: "builder").path))
            let prepared = await jobs.run(Self.order("broken", environment: "mine")) { _ in }
            #expect(prepared.result == .string(Self.python))
            let unknown = await jobs.run(Self.order("plain", environment: "no-such")) { _ in }
            #expect(unknown.kind == .brokenService)
            #expect(unknown.failure?.message.contains("ENVIRONMENT_NO_SUCH") == true)
        }
    }

    @Test("A cancelled job does not wait for its environment")
    func cancelled() async throws {
        try await withJobs(["slow/script.sh": "touch \"$GATE\"\nsleep 3600\n", "slow/__init__.py": ""]) { jobs, folder in
            let running = Task { await jobs.run(Self.order("slow")) { _ in } }
            let deadline = ContinuousClock.now + .seconds(60)
            while !FileManager.default.fileExists(atPath: folder.appending(path: "gate").path), ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(10))
            }
            running.cancel()
            let exit = await running.value
            #expect(exit.outcome == .cancelled)
            #expect(exit.kind == .cancelled)
        }
    }

    @Test("Checkpoints last from attempt to attempt, and go when the job has succeeded and is still ours")
    func checkpoints() async throws {
        let module = """
            import os
            from dcm_processor import checkpoint, resume

            def worker(attempt, **_):
                found = resume()
                checkpoint(attempt)
                if attempt == 1:
                    os._exit(7)
                return found
            """
        try await withJobs(["svc/__init__.py": module]) { jobs, folder in
            let run = RunID(milliseconds: 7, random: (1, 2))
            let kept = folder.appending(path: "data/.checkpoints/\(JobID(run: run, index: 0))").path
            let first = await jobs.run(Self.order("svc", run: run, attempt: 1)) { _ in }
            #expect(first.kind == .noResult, "\(first)")
            #expect(FileManager.default.fileExists(atPath: kept))
            let lost = await jobs.run(Self.order("svc", run: run, attempt: 2), isStillMine: { false }) { _ in }
            #expect(lost.result == 1)
            #expect(FileManager.default.fileExists(atPath: kept))
            let last = await jobs.run(Self.order("svc", run: run, attempt: 3)) { _ in }
            #expect(last.result == 2)
            #expect(!FileManager.default.fileExists(atPath: kept))
        }
    }

    @Test("An attempt on input that was made anew finds nothing of what was kept on the former one")
    func checkpointsOfFormerInput() async throws {
        let module = """
            import os
            from dcm_processor import checkpoint, resume

            def worker(attempt, **_):
                found = resume()
                checkpoint(attempt)
                if attempt != 3:
                    os._exit(7)
                return found
            """
        try await withJobs(["svc/__init__.py": module]) { jobs, _ in
            for (inputs, found) in [([1, 1, 1], JSONValue.integer(2)), ([1, 1, 2], .null)] {
                let run = RunID(milliseconds: 7, random: (5, UInt64(inputs[2])))
                var exits: [JobExit] = []
                for attempt in 1...3 {
                    var order = Self.order("svc", run: run, attempt: attempt)
                    order.inputs = 4 + inputs[attempt - 1]
                    exits.append(await jobs.run(order) { _ in })
                }
                #expect(exits[2].kind == .completed, "\(exits)")
                #expect(exits[2].result ?? .null == found, "\(exits)")
            }
        }
    }

    private static func order(
        _ service: String, environment: String? = nil, run: RunID = RunID(milliseconds: 7, random: (3, 4)), attempt: Int = 1
    ) -> JobOrder {
        var definition = JobDefinition(name: "job", service: service, stage: .services, entry: "\(service).worker")
        definition.environment = environment
        return FakeRouter.order(JobID(run: run, index: 0), attempt: attempt, definition: definition)
    }

    /// - Parameter body: gets the folder above MODULES, DATA, LOGS and ENVIRONMENTS.
    private func withJobs(_ modules: [String: String], _ body: (PythonJobs, URL) async throws -> Void) async throws {
        let temporary = URL(filePath: NSTemporaryDirectory()).resolvingSymlinksInPath()
        let folder = temporary.appending(path: "dcm-environments-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var folders = ServiceFolders(settings: .environment())
        folders.modules = folder.appending(path: "modules")
        folders.data = folder.appending(path: "data")
        folders.logs = folder.appending(path: "logs")
        let builder = """
            #!/bin/bash
            case "$2" in
            venv) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
            pip) ;;
            *) exec -a "$0" \(Self.python) "$@" ;;
            esac
            """
        var files = modules.reduce(into: [:]) { $0["modules/\($1.key)"] = $1.value }
        files["builder"] = builder
        for (path, text) in files {
            let file = folder.appending(path: path)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.appending(path: "builder").path)
        let package = URL(filePath: #filePath).resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "python")
        let variables = ["PATH": "/usr/bin:/bin", "GATE": folder.appending(path: "gate").path]
        let configuration = PythonHostConfiguration(
            python: Self.python, hostPath: package, root: folders.modules, environment: variables)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let environments = EnvironmentsConfiguration(
            folder: folder.appending(path: "environments"), modules: folders.modules, logs: folders.logs,
            python: folder.appending(path: "builder").path, variables: variables, prepared: ["MINE": Self.python])
        let jobs = PythonJobs(
            hosts: WarmHosts(configuration: configuration, logger: logger), configuration: configuration,
            environments: ServiceEnvironments(configuration: environments, logger: logger), folders: folders, killGrace: .seconds(1))
        do {
            try await body(jobs, folder)
        } catch {
            await jobs.shutdown()
            throw error
        }
        await jobs.shutdown()
    }
}
