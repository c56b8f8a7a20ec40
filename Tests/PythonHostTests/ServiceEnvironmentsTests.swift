import Foundation
import Jobs
import Logging
import PythonHost
import Synchronization
import Testing

/// Most of these build with a stand-in for Python: a shell script whose `-m venv` makes a folder, and whose `-m pip` runs
/// requirements.txt as a script. One real environment takes as long as all of them.
@Suite(.timeLimit(.minutes(2)))
struct ServiceEnvironmentsTests {
    @Test("A service that asks for nothing runs with the configured interpreter")
    func nothingAsked() async throws {
        let site = try EnvironmentSite([
            "plain/main.py": "", "empty/requirements.txt": "# nothing yet\n\n", "..x/requirements.txt": "true\n",
        ])
        let environments = site.environments()
        for service in ["plain", "empty", "", "gone", "..x", "../services/plain", "."] {
            let python = await environments.python(for: service, named: nil)
            #expect(try python.get() == site.python.path)
        }
        #expect(try site.steps().isEmpty)
    }

    @Test("script.sh runs first, in the service's folder and inside its environment; then pip; both once for a content")
    func order() async throws {
        let site = try EnvironmentSite([
            "svc/script.sh": "echo script in $PWD with $(command -v python) and ${PYTHONPATH-none} >> \"$STEPS\"\n",
            "svc/requirements.txt": "echo packages in $PWD with $VIRTUAL_ENV >> \"$STEPS\"\n",
        ])
        let progress = Said()
        let environments = site.environments(["PYTHONPATH": "/elsewhere"])
        let python = try await environments.python(for: "svc", named: nil, onProgress: progress.add).get()
        let place = URL(filePath: python).deletingLastPathComponent().deletingLastPathComponent().path
        let folder = site.tree.root.appending(path: "svc").resolvingSymlinksInPath().path
        #expect(
            try site.steps() == [
                "venv \(place)", "script in \(folder) with \(place)/bin/python and none",
                "pip install --progress-bar off -r \(folder)/requirements.txt", "packages in \(folder) with \(place)",
            ]
        )
        let said = progress.texts.map { $0.split(separator: ": ").last }
        #expect(said == ["making a virtual environment", "script.sh", "pip install -r requirements.txt"])
        // Later jobs of this worker, of one on the same host, and of one that starts later.
        let again = await environments.python(for: "svc", named: nil)
        let neighbour = await site.environments().python(for: "svc", named: nil)
        #expect(try again.get() == python)
        #expect(try neighbour.get() == python)
        #expect(try site.steps().count == 4)
        #expect(try site.log("svc").contains("finished after"))
    }

    @Test("Many jobs of several workers build an environment once, others wait and are told so")
    func once() async throws {
        let site = try EnvironmentSite(["svc/requirements.txt": "while [ ! -e \"$GATE\" ]; do sleep 0.05; done\n"])
        let workers = [site.environments(), site.environments(), site.environments()]
        let progress = Said()
        let pythons = try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<12 {
                group.addTask {
                    try await workers[number % 3].python(for: "svc", named: nil, onProgress: progress.add).get()
                }
            }
            #expect(try await eventually { progress.texts.contains { $0.hasPrefix("waits for another worker") } })
            try Data().write(to: site.gate)
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(pythons.count == 1)
        #expect(try site.steps().count == 2)
    }

    @Test("A build that fails says why, is remembered for a while, and hurts no other service")
    func failure() async throws {
        let site = try EnvironmentSite([
            "svc/requirements.txt": "echo no matching distribution for left-pad\nexit 7\n", "other/requirements.txt": "true\n",
            "script/script.sh": "exit 4\n",
        ])
        let environments = site.environments()
        let failed = try #require(await environments.python(for: "svc", named: nil).failure)
        #expect(failed.type == "EnvironmentFailed")
        #expect(failed.message.contains("service svc"))
        #expect(failed.message.contains("pip install -r requirements.txt ended with status 7"))
        #expect(failed.message.contains(site.tree.logs.appending(path: "environments/svc.log").path))
        #expect(failed.traceback?.contains("no matching distribution for left-pad") == true)
        let count = try site.steps().count
        let again = await environments.python(for: "svc", named: nil)
        let neighbour = await site.environments().python(for: "svc", named: nil)
        #expect(again.failure == failed)
        #expect(neighbour.failure == failed)
        #expect(try site.steps().count == count)

        let other = await environments.python(for: "other", named: nil)
        #expect(other.failure == nil)
        let script = await environments.python(for: "script", named: nil)
        #expect(script.failure?.message.contains("script.sh ended with status 4") == true)

        // The pause is over.
        let later = await site.environments(pause: .zero).python(for: "svc", named: nil)
        #expect(later.failure?.type == "EnvironmentFailed")
        #expect(try site.steps().count > count)
        // The content is another one.
        try site.tree.write("svc/requirements.txt", "true\n")
        let mended = await environments.python(for: "svc", named: nil)
        #expect(mended.failure == nil)
    }

    @Test("A cancelled job waits no longer; the last one that leaves ends the build with all it has started")
    func cancelled() async throws {
        let script = "sleep 3600 &\necho $! > \"$GATE.part\"; mv \"$GATE.part\" \"$GATE\"\nwait\n"
        let site = try EnvironmentSite(["svc/requirements.txt": script])
        let environments = site.environments()
        let jobs = (0..<2).map { _ in Task { await environments.python(for: "svc", named: nil) } }
        #expect(try await eventually { FileManager.default.fileExists(atPath: site.gate.path) })
        let sleeper = try #require(Int32(String(contentsOf: site.gate, encoding: .utf8).trimmingCharacters(in: .newlines)))
        jobs[0].cancel()
        let first = await jobs[0].value
        #expect(first.failure?.type == "Cancelled")
        #expect(isAlive(sleeper))
        jobs[1].cancel()
        let second = await jobs[1].value
        #expect(second.failure?.type == "Cancelled")
        #expect(try await eventually { !isAlive(sleeper) })

        // Nothing of it is remembered, and nothing is in the way.
        try FileManager.default.removeItem(at: site.gate)
        let third = Task { await environments.python(for: "svc", named: nil) }
        #expect(try await eventually { FileManager.default.fileExists(atPath: site.gate.path) })
        let other = try #require(Int32(String(contentsOf: site.gate, encoding: .utf8).trimmingCharacters(in: .newlines)))
        await environments.shutdown()
        let last = await third.value
        #expect(last.failure?.type == "Cancelled")
        #expect(!isAlive(other))
    }

    @Test("A build that takes too long is ended and counts as failed")
    func tooLong() async throws {
        let site = try EnvironmentSite(["svc/script.sh": "trap '' TERM\necho $$ > \"$GATE\"\nwhile true; do sleep 0.1; done\n"])
        let failed = await site.environments(limit: .seconds(3)).python(for: "svc", named: nil)
        #expect(failed.failure?.message.contains("took longer than 3.0 s (ENVIRONMENTS_LIMIT)") == true)
        let script = try #require(Int32(String(contentsOf: site.gate, encoding: .utf8).trimmingCharacters(in: .newlines)))
        #expect(!isAlive(script))
    }

    @Test("Whoever dies while building holds up nobody and leaves nothing", .timeLimit(.minutes(1)))
    func deadHolder() async throws {
        let site = try EnvironmentSite(["svc/requirements.txt": "true\n"])
        let shelf = site.folder.appending(path: "svc")
        try FileManager.default.createDirectory(at: shelf.appending(path: "0123.half/bin"), withIntermediateDirectories: true)
        let holder = Process()
        holder.executableURL = URL(filePath: "/usr/bin/flock")
        let script = ["/bin/sh", "-c", "touch \"$0\"; exec sleep 3600", site.gate.path]
        holder.arguments = ["--no-fork", shelf.appending(path: "lock").path] + script
        try holder.run()
        #expect(try await eventually { FileManager.default.fileExists(atPath: site.gate.path) })
        let progress = Said()
        let job = Task { await site.environments().python(for: "svc", named: nil, onProgress: progress.add) }
        #expect(try await eventually { !progress.texts.isEmpty })
        #expect(try site.steps().isEmpty)
        kill(holder.processIdentifier, SIGKILL)
        let python = await job.value
        #expect(python.failure == nil)
        #expect(!FileManager.default.fileExists(atPath: shelf.appending(path: "0123.half").path))
    }

    @Test("Each content has an environment; two stay")
    func contents() async throws {
        let site = try EnvironmentSite(["svc/requirements.txt": "true 0\n"])
        let environments = site.environments()
        var pythons: [String] = []
        for number in 0..<4 {
            // Of the same length, maybe within the same tick of the clock that stamps files.
            try site.tree.write("svc/requirements.txt", "true \(number)\n")
            pythons.append(try await environments.python(for: "svc", named: nil).get())
        }
        #expect(Set(pythons).count == 4)
        #expect(pythons.map { FileManager.default.isExecutableFile(atPath: $0) } == [false, false, true, true])
        // Back to the one before: it is still there.
        let steps = try site.steps().count
        try site.tree.write("svc/requirements.txt", "true 2\n")
        let back = await environments.python(for: "svc", named: nil)
        #expect(try back.get() == pythons[2])
        #expect(try site.steps().count == steps)
        // Somebody has removed it.
        try FileManager.default.removeItem(at: URL(filePath: pythons[2]))
        let rebuilt = await environments.python(for: "svc", named: nil)
        #expect(rebuilt.failure == nil)
        #expect(try site.steps().count == steps + 2)
    }

    @Test("What requirements.txt includes is content too; a comment or a setting shows the interpreter's own packages")
    func inclusion() async throws {
        let site = try EnvironmentSite([
            "svc/requirements.txt": "# -r more.txt is next\n-r deep/more.txt || true\n", "svc/deep/more.txt": "-c ../even.txt || true\n",
            "svc/even.txt": "true\n", "seeing/requirements.txt": "# dcm: system-site-packages\ntrue\n", "script/script.sh": "true\n",
        ])
        let environments = site.environments()
        let first = try await environments.python(for: "svc", named: nil).get()
        try site.tree.write("svc/even.txt", "echo another\n")
        let second = try await environments.python(for: "svc", named: nil).get()
        #expect(first != second)
        let isolated = try site.steps().filter { $0.hasPrefix("venv") }
        #expect(isolated.allSatisfy { !$0.contains("--system-site-packages") })
        let seeing = site.environments(seesSystemPackages: true)
        for (service, worker) in [("seeing", environments), ("script", environments), ("svc", seeing)] {
            _ = try await worker.python(for: service, named: nil).get()
            #expect(try site.steps().last { $0.hasPrefix("venv") }?.contains("--system-site-packages") == true)
        }
    }

    @Test("A prepared interpreter is taken by name; an unknown name says which are known")
    func prepared() async throws {
        let site = try EnvironmentSite(["svc/requirements.txt": "exit 1\n"])
        let variables = [
            "ENVIRONMENT_TORCH_2_1": "/usr/bin/env", "ENVIRONMENT_GONE": "/no/such/python", "ENVIRONMENT_": "x", "ENVIRONMENTS": "/e",
        ]
        let environments = site.environments(variables)
        let torch = await environments.python(for: "svc", named: "torch-2.1")
        #expect(try torch.get() == "/usr/bin/env")
        #expect(try site.steps().isEmpty)
        let unknown = await environments.python(for: "svc", named: "tensor")
        #expect(unknown.failure?.type == "UnknownEnvironment")
        #expect(unknown.failure?.message.contains("it knows ENVIRONMENT_GONE, ENVIRONMENT_TORCH_2_1.") == true)
        #expect(unknown.failure?.message.contains("Set ENVIRONMENT_TENSOR=") == true)
        let gone = await environments.python(for: "svc", named: "gone")
        #expect(gone.failure?.message.contains("ENVIRONMENT_GONE=/no/such/python, is not there") == true)
        let none = await site.environments().python(for: "svc", named: "tensor")
        #expect(none.failure?.message.contains("it knows none.") == true)
    }

    @Test("Where nothing can be written the job fails with the folder's name")
    func unwritable() async throws {
        let site = try EnvironmentSite(["svc/requirements.txt": "true\n"])
        try Data().write(to: site.folder)
        let failed = await site.environments().python(for: "svc", named: nil)
        #expect(failed.failure?.type == "EnvironmentsNotWritable")
        #expect(failed.failure?.message.contains(site.folder.path) == true)
    }

    @Test("A real environment: a package from a wheel, what the script installs, and nothing of the machine's Python")
    func real() async throws {
        let site = try EnvironmentSite([
            "svc/requirements.txt": "--no-index\n--find-links wheels\ntiny-package==1.0\n",
            "svc/script.sh": "set -e\npython -m pip install --no-index --find-links wheels other-package\n",
            "svc/__init__.py": """
            import importlib.util, os, shutil, sys
            import other_package, tiny_package

            def worker(**_):
                import dcm_processor
                return [
                    tiny_package.name, other_package.name, importlib.util.find_spec("numpy") is None, sys.prefix, shutil.which("pip"),
                ]
            """,
        ])
        for name in ["tiny", "other"] { try site.wheel("\(name)_package", in: "svc/wheels") }
        let environments = site.environments(python: "/usr/bin/python3")
        let python = try await environments.python(for: "svc", named: nil).get()
        let prefix = URL(filePath: python).deletingLastPathComponent().deletingLastPathComponent().path
        let hosts = WarmHosts(configuration: site.tree.configuration(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        var job = site.tree.job("svc.worker")
        job.python = python
        let exit = await hosts.run(job, onProgress: { _, _ in })
        await hosts.shutdown()
        #expect(exit.result == ["tiny_package", "other_package", true, .string(prefix), .string("\(prefix)/bin/pip")])
        #expect(exit.failure == nil)
    }
}

extension Result {
    fileprivate var failure: Failure? {
        if case .failure(let failure) = self { failure } else { nil }
    }
}

/// What jobs were told while they waited.
private final class Said: Sendable {
    private let all = Mutex<[String]>([])
    var texts: [String] { all.withLock { $0 } }
    @Sendable func add(_ text: String) { all.withLock { $0.append(text) } }
}

/// MODULES, LOGS, ENVIRONMENTS and a stand-in for Python.
private final class EnvironmentSite: Sendable {
    let tree: ServiceTree
    var folder: URL { tree.folder.appending(path: "environments") }
    var gate: URL { tree.folder.appending(path: "gate") }
    var python: URL { tree.folder.appending(path: "python") }
    private var stepsFile: URL { tree.folder.appending(path: "steps") }

    init(_ files: [String: String]) throws {
        tree = try ServiceTree(files)
        let script = """
            #!/bin/bash
            shift
            echo "$@" | sed 's/--system-site-packages \\(.*\\)/\\1 --system-site-packages/' >> "$STEPS"
            case "$1" in
            venv) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
            pip) exec bash "${@: -1}" ;;
            *) exit 99 ;;
            esac
            """
        try Data(script.utf8).write(to: python)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python.path)
    }

    /// A worker's.
    func environments(
        _ variables: [String: String] = [:],
        python: String? = nil,
        seesSystemPackages: Bool = false,
        limit: Duration = .seconds(60),
        pause: Duration = .seconds(300)
    ) -> ServiceEnvironments {
        let base = ["PATH": "/usr/bin:/bin", "STEPS": stepsFile.path, "GATE": gate.path, "HOME": tree.folder.path]
        let configuration = EnvironmentsConfiguration(
            folder: folder,
            modules: tree.root,
            logs: tree.logs,
            python: python ?? self.python.path,
            variables: base.merging(variables) { $1 },
            prepared: EnvironmentsConfiguration.prepared(in: variables),
            seesSystemPackages: seesSystemPackages,
            limit: limit,
            pause: pause
        )
        return ServiceEnvironments(configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// What the stand-in was asked to do and what scripts noted.
    func steps() throws -> [String] {
        guard FileManager.default.fileExists(atPath: stepsFile.path) else { return [] }
        return try String(contentsOf: stepsFile, encoding: .utf8).split(separator: "\n").map(String.init)
    }

    func log(_ service: String) throws -> String {
        try String(contentsOf: tree.logs.appending(path: "environments/\(service).log"), encoding: .utf8)
    }

    /// A package of one module, which knows its own name.
    func wheel(_ name: String, in folder: String) throws {
        let code = """
            import os, zipfile
            os.makedirs("\(folder)", exist_ok=True)
            with zipfile.ZipFile("\(folder)/\(name)-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr("\(name).py", "name = '\(name)'")
                info = "\(name)-1.0.dist-info/"
                wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: \(name)\\nVersion: 1.0\\n")
                wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
                wheel.writestr(info + "RECORD", f"\(name).py,,\\n{info}METADATA,,\\n{info}WHEEL,,\\n{info}RECORD,,\\n")
            """
        try run(code)
    }

    private func run(_ code: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/python3")
        process.arguments = ["-B", "-c", code]
        process.currentDirectoryURL = tree.root
        process.environment = ["PATH": "/usr/bin:/bin"]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
    }
}
