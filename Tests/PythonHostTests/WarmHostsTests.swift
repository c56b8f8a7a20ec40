import Foundation
import Jobs
import Logging
import PythonHost
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1)))
struct WarmHostsTests {
    @Test("The function gets upstream's arguments, and more when it takes more")
    func arguments() async throws {
        let tree = try ServiceTree([
            "ms-sub/__init__.py": "from .main import plain, rich, named\n",
            "ms-sub/main.py": """
            import os

            def plain(jobName, headers, params, added_params):
                return [jobName, headers, params, added_params]

            def rich(jobName, headers, params, added_params, **kwargs):
                return {**kwargs, "cwd": os.getcwd(), "DATA": os.environ["DATA"], "extra": os.environ["EXTRA"]}

            def named(runId, **_):
                return runId
            """,
            "space/deep/er.py": "def worker(**_): return 'namespace package'\n",
        ])
        // Whatever a scanner or a typist wrote has to arrive as it is.
        let headers: JSONValue = [
            "PatientName": "O'Neill^\"Quote\"\\n{x} $(reboot) `id` \u{0} \u{1F600} Müller\r\n",
            "n": [1, -5, 2.5, true, .null], "deep": ["a": ["b": [:]]],
        ]
        try await withHosts(tree) { hosts in
            let plain = await hosts.run(tree.job("ms-sub.plain", headers: headers), onProgress: { _, _ in })
            #expect(plain.outcome == .succeeded)
            #expect(plain.kind == .completed)
            #expect(plain.result == ["the job", headers, ["p": 1], ["dcm2nii": ["output": "a.nii.gz"]]])

            let job = tree.job("ms-sub.rich", environment: ["EXTRA": "more"])
            let rich = await hosts.run(job, onProgress: { _, _ in })
            #expect(
                rich.result == [
                    "attempt": 1, "runId": .string(job.job.run.rawValue), "workdir": .string(job.workdir.path),
                    "cwd": .string(job.workdir.path), "DATA": .string(tree.data.path), "extra": "more",
                ]
            )
            #expect(await hosts.run(tree.job("ms-sub.named"), onProgress: { _, _ in }).result == .string(job.job.run.rawValue))
            #expect(await hosts.run(tree.job("space.deep.er.worker"), onProgress: { _, _ in }).result == "namespace package")
        }
    }

    @Test("One import for many jobs, a process and a fresh module state for each")
    func forks() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            import os, random
            here, count = os.getpid(), 0

            def worker(**_):
                global count
                count += 1
                return [os.getppid() == here, os.getpid(), count, random.random()]
            """
        ])
        try await withHosts(tree) { hosts in
            let results = await withTaskGroup(of: JobExit.self) { group in
                for attempt in 1...20 {
                    group.addTask { await hosts.run(tree.job("svc.worker", attempt: attempt), onProgress: { _, _ in }) }
                }
                return await group.reduce(into: []) { $0.append($1.result?.array ?? []) }
            }
            #expect(results.allSatisfy { $0.first == true })
            #expect(Set(results.map { $0[1] }).count == 20)
            #expect(results.allSatisfy { $0[2] == 1 })
            #expect(Set(results.map { $0[3] }).count == 20)
        }
    }

    @Test("A job after an edit runs the new code, an imported neighbour's too, while a running job keeps its own")
    func edits() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": "from .main import worker\n",
            "svc/main.py": """
            import pathlib, time
            from lib.shared import number

            def worker(params, **_):
                pathlib.Path(params + ".reached").touch()
                while not pathlib.Path(params).exists():
                    time.sleep(0.01)
                return number
            """,
            "lib/shared.py": "number = 1\n",
        ])
        let gate = tree.data.appending(path: "gate")
        try await withHosts(tree) { hosts in
            async let old = hosts.run(tree.job("svc.worker", params: .string(gate.path)), onProgress: { _, _ in })
            #expect(try await eventually { FileManager.default.fileExists(atPath: gate.path + ".reached") })
            // As long as before, within the same second.
            try tree.write("lib/shared.py", "number = 2\n")
            let new = Task { await hosts.run(tree.job("svc.worker", attempt: 2, params: .string(gate.path)), onProgress: { _, _ in }) }
            try Data().write(to: gate)
            #expect(await old.result == 1)
            #expect(await new.value.result == 2)
        }
    }

    @Test("A module that does not import breaks its own jobs until it is repaired")
    func brokenImport() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": "print('importing')\nfrom .main import worker\n", "svc/main.py": "import no_such_package\n",
            "gone/__init__.py": "import os\nos._exit(3)\n",
        ])
        try await withHosts(tree) { hosts in
            let broken = await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in })
            #expect(broken.outcome == .failed)
            #expect(broken.kind == .brokenService)
            #expect(broken.failure?.type == "ModuleNotFoundError")
            #expect(broken.failure?.traceback?.contains("svc/main.py") == true)
            #expect(try tree.log(broken).contains("importing"))

            let missing = await hosts.run(tree.job("nowhere.worker"), onProgress: { _, _ in })
            #expect(missing.kind == .brokenService)
            let exits = await hosts.run(tree.job("gone.worker"), onProgress: { _, _ in })
            #expect(exits.kind == .brokenService)
            #expect(exits.failure?.message.contains("status 3") == true)

            try tree.write("svc/main.py", "def worker(**_): return 'repaired'\n")
            #expect(await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in }).result == "repaired")
            let name = await hosts.run(tree.job("svc.other"), onProgress: { _, _ in })
            #expect(name.kind == .brokenService)
            #expect(name.failure?.message.contains("'other'") == true)
        }
    }

    @Test("A module that starts threads is imported in each job's process")
    func threads() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, threading, time
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
            here = os.getpid()

            def worker(**_):
                return [here == os.getpid(), threading.active_count()]
            """
        ])
        try await withHosts(tree) { hosts in
            for attempt in 1...2 {
                #expect(await hosts.run(tree.job("svc.worker", attempt: attempt), onProgress: { _, _ in }).result == [true, 2])
            }
        }
    }

    @Test("Each end has its own class, and the host goes on")
    func ends() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, resource, signal, sys

            def fail(**_):
                print("to stdout")
                raise ValueError("no good")

            def leave(**_): os._exit(0)
            def quit(**_): sys.exit(4)
            def crash(**_): os.kill(os.getpid(), signal.SIGSEGV)
            def terminated(**_): os.kill(os.getpid(), signal.SIGTERM)
            def memory(**_):
                resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
                return len(bytearray(1 << 32))
            def odd(**_): return open
            def nan(**_): return float("nan")
            def deep(**_):
                value = []
                for _ in range(5000): value = [value]
                return value
            def huge(**_): return 10 ** 400
            def large(**_): return "x" * 1000000
            def surrogate(**_): raise ValueError("\\udcff")
            def controls(**_): raise ValueError("\\x01" * 100000)
            def closed(**_):
                os.closerange(0, 100)
                return 1
            def mess(**_):
                sys.stdout.buffer.write(b"\\xff\\xfe not utf-8 \\n")
                sys.stdout = None
                return 1
            def fine(**_): return 1
            """
        ])
        let expected: [(String, JobExit.Kind, String?)] = [
            ("fail", .exception, "ValueError"), ("leave", .noResult, "NoResult"), ("quit", .noResult, "NoResult"),
            ("crash", .killed, "Killed"), ("terminated", .killed, "Killed"), ("memory", .outOfMemory, "MemoryError"),
            ("odd", .completed, nil), ("nan", .completed, nil), ("deep", .completed, nil), ("huge", .completed, nil),
            ("large", .completed, nil), ("surrogate", .exception, "ValueError"), ("controls", .exception, "ValueError"),
            ("closed", .noResult, "NoResult"), ("mess", .completed, nil), ("fine", .completed, nil),
        ]
        try await withHosts(tree) { hosts in
            var exits: [String: JobExit] = [:]
            for (attempt, (name, kind, type)) in expected.enumerated() {
                let exit = await hosts.run(tree.job("svc.\(name)", attempt: attempt), onProgress: { _, _ in })
                #expect(exit.kind == kind, "\(name): \(exit)")
                #expect(exit.failure?.type == type, "\(name): \(exit)")
                #expect(exit.outcome == (kind == .completed ? .succeeded : .failed))
                exits[name] = exit
            }
            #expect(exits["fail"]?.failure?.message == "no good")
            #expect(exits["fail"]?.failure?.traceback?.contains("in fail") == true)
            #expect(exits["fail"]?.failure?.traceback?.contains("child.py") == false)
            #expect(try tree.log(#require(exits["fail"])).hasPrefix("to stdout\nTraceback"))
            #expect(exits["leave"]?.exitCode == 0)
            #expect(exits["quit"]?.exitCode == 4)
            #expect(exits["crash"]?.signal == 11)
            #expect(exits["terminated"]?.signal == 15)
            #expect(exits["odd"]?.result == "<built-in function open>")
            #expect(exits["large"]?.result?.string?.hasSuffix("more characters)") == true)
            #expect((exits["large"]?.result?.string?.utf8.count ?? .max) < 140_000)
            let usage = try #require(exits["fine"]?.usage)
            #expect(usage.peakMemory > 1_000_000 && usage.wall > 0 && usage.wall < 10)
        }
    }

    @Test("A timeout dumps the stacks, asks, and kills the whole group; a finally block has its chance")
    func timeout() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, pathlib, signal, subprocess, time

            def polite(params, **_):
                try:
                    time.sleep(3600)
                finally:
                    pathlib.Path(params, "cleaned").touch()

            def stubborn(params, **_):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                children = [subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]), subprocess.Popen(["sleep", "3600"])]
                if os.fork() == 0:
                    time.sleep(3600)
                pathlib.Path(params, "pids").write_text(" ".join(str(child.pid) for child in children))
                while True:
                    try:
                        time.sleep(3600)
                    except BaseException:
                        pass
            """
        ])
        let params = JSONValue.string(tree.data.path)
        try await withHosts(tree) { hosts in
            let polite = await hosts.run(tree.job("svc.polite", params: params, timeout: 1), onProgress: { _, _ in })
            #expect(polite.outcome == .failed)
            #expect(polite.kind == .timeout)
            #expect(polite.failure?.type == "JobTimeout")
            #expect(FileManager.default.fileExists(atPath: tree.data.appending(path: "cleaned").path))
            #expect(try tree.log(polite).contains("in polite"))

            let stubborn = await hosts.run(
                tree.job("svc.stubborn", attempt: 2, params: params, timeout: 1, grace: .milliseconds(500)),
                onProgress: { _, _ in }
            )
            #expect(stubborn.kind == .timeout)
            #expect(stubborn.signal == 9)
            let text = try String(contentsOf: tree.data.appending(path: "pids"), encoding: .utf8)
            let pids = text.split(separator: " ").compactMap { Int32($0) }
            #expect(pids.count == 2)
            #expect(try await eventually { !pids.contains(where: isAlive) })
        }
    }

    @Test("A shutdown ends also what jobs have detached from themselves")
    func shutdown() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import pathlib, subprocess, time

            def worker(params, **_):
                child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
                pathlib.Path(params).write_text(str(child.pid))
                pathlib.Path(params).rename(params + ".ready")
                time.sleep(3600)
            """
        ])
        let mark = tree.data.appending(path: "mark")
        try await withHosts(tree) { hosts in
            async let exit = hosts.run(tree.job("svc.worker", params: .string(mark.path)), onProgress: { _, _ in })
            #expect(try await eventually { FileManager.default.fileExists(atPath: mark.path + ".ready") })
            let child = try #require(Int32(String(contentsOfFile: mark.path + ".ready", encoding: .utf8)))
            #expect(isAlive(child))
            await hosts.shutdown(patience: .seconds(20))
            #expect(!isAlive(child))
            #expect(await exit.outcome == .failed)
        }
    }

    @Test("A cancelled task ends its job and leaves the others alone")
    func cancellation() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import pathlib, subprocess, time

            def worker(params, **_):
                child = subprocess.Popen(["sleep", "3600"])
                pathlib.Path(params).write_text(str(child.pid))
                pathlib.Path(params).rename(params + ".ready")
                time.sleep(3600)

            def other(params, **_):
                while not pathlib.Path(params).exists():
                    time.sleep(0.01)
                return "untouched"
            """
        ])
        let gate = tree.data.appending(path: "gate")
        let mark = tree.data.appending(path: "mark")
        try await withHosts(tree) { hosts in
            async let other = hosts.run(tree.job("svc.other", params: .string(gate.path)), onProgress: { _, _ in })
            let doomed = Task { await hosts.run(tree.job("svc.worker", attempt: 2, params: .string(mark.path)), onProgress: { _, _ in }) }
            #expect(try await eventually { FileManager.default.fileExists(atPath: mark.path + ".ready") })
            let child = try #require(Int32(String(contentsOfFile: mark.path + ".ready", encoding: .utf8)))
            doomed.cancel()
            let exit = await doomed.value
            #expect(exit.outcome == .cancelled)
            #expect(exit.kind == .cancelled)
            #expect(try await eventually { !isAlive(child) })
            try Data().write(to: gate)
            #expect(await other.result == "untouched")
        }
    }

    @Test("What a job has started does not outlive it")
    func leftovers() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import subprocess

            def worker(**_):
                return subprocess.Popen(["sleep", "3600"]).pid
            """
        ])
        try await withHosts(tree) { hosts in
            let exit = await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in })
            let child = Int32(try #require(exit.result?.integer))
            #expect(try await eventually { !isAlive(child) })
        }
    }

    @Test("A host that is killed takes its job with it, the job is told as lost, and the next one runs")
    func hostLost() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, signal, subprocess, time

            def worker(params, **_):
                with open(params, "w") as file:
                    file.write(f"{os.getpid()} {subprocess.Popen(['sleep', '3600']).pid}")
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(3600)

            def fine(**_): return 1
            """
        ])
        let mark = tree.data.appending(path: "mark")
        try await withHosts(tree) { hosts in
            let exit = await hosts.run(tree.job("svc.worker", params: .string(mark.path)), onProgress: { _, _ in })
            #expect(exit.outcome == .failed)
            #expect(exit.kind == .killed)
            #expect(exit.failure?.type == "HostLost")
            let pids = try String(contentsOf: mark, encoding: .utf8).split(separator: " ").compactMap { Int32($0) }
            #expect(pids.count == 2)
            #expect(try await eventually { !pids.contains(where: isAlive) })
            #expect(await hosts.run(tree.job("svc.fine", attempt: 2), onProgress: { _, _ in }).result == 1)
        }
    }

    @Test("Jobs whose host was ended because of another job are handed back, not failed")
    func bystanders() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import pathlib, time

            def wait(params, **_):
                pathlib.Path(params).touch()
                time.sleep(3600)

            def __getattr__(name):
                if name != "slow":
                    raise AttributeError(name)
                pathlib.Path(os.environ["DATA"], "stuck").touch()
                time.sleep(3600)

            import os
            """
        ])
        let mark = tree.data.appending(path: "waiting")
        try await withHosts(tree) { hosts in
            let innocent = Task {
                await hosts.run(tree.job("svc.wait", params: .string(mark.path), timeout: nil), onProgress: { _, _ in })
            }
            let isRunning = try await eventually { FileManager.default.fileExists(atPath: mark.path) }
            #expect(isRunning)
            // The host itself hangs while it looks this function up.
            var slow = tree.job("svc.slow", attempt: 2)
            slow.grace = .zero
            let culprit = Task { [slow] in await hosts.run(slow, onProgress: { _, _ in }) }
            let isStuck = try await eventually { FileManager.default.fileExists(atPath: tree.data.appending(path: "stuck").path) }
            #expect(isStuck)
            culprit.cancel()
            let exit = await innocent.value
            #expect(exit.outcome == .released)
            #expect(exit.kind == .released)
            #expect(exit.failure == nil)
            #expect(await culprit.value.outcome == .cancelled)
        }
    }

    @Test("A job that is cancelled while its host is busy costs none of those that the host runs")
    func busyHost() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, pathlib, time

            def work(params, **_):
                pathlib.Path(params).touch()
                while not os.path.exists(params + ".stuck"): time.sleep(0.05)
                time.sleep(3)
                pathlib.Path(params + ".go").touch()
                return 1

            def __getattr__(name):
                if name != "slow":
                    raise AttributeError(name)
                mark = os.path.join(os.environ["DATA"], "work")
                pathlib.Path(mark + ".stuck").touch()
                while not os.path.exists(mark + ".go"): time.sleep(0.05)
                return work
            """
        ])
        let mark = tree.data.appending(path: "work")
        try await withHosts(tree) { hosts in
            let working = Task {
                await hosts.run(tree.job("svc.work", params: .string(mark.path), timeout: nil), onProgress: { _, _ in })
            }
            let isRunning = try await eventually { FileManager.default.fileExists(atPath: mark.path) }
            #expect(isRunning)
            // What it waits for when it gets to run never comes: it ends by being cancelled.
            let slow = tree.job("svc.slow", attempt: 2, params: .string(mark.path + ".never"))
            let cancelled = Task { await hosts.run(slow, onProgress: { _, _ in }) }
            let isStuck = try await eventually { FileManager.default.fileExists(atPath: mark.path + ".stuck") }
            #expect(isStuck)
            cancelled.cancel()
            let exit = await working.value
            #expect(exit.result == 1, "\(exit)")
            let end = await cancelled.value
            #expect(end.outcome == .cancelled)
        }
    }

    @Test("Progress and artifacts reach the worker; an artifact outside DATA is refused")
    func sdk() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, pathlib
            from dcm_processor import artifact, log, progress

            def worker(workdir, **_):
                data = pathlib.Path(os.environ["DATA"])
                (data / "previews").mkdir()
                (data / "previews" / "a.png").touch()
                (data / "b.nii.gz").touch()
                pathlib.Path("scratch.png").touch()
                progress(0.25, "a quarter")
                artifact("previews/a.png", name="Preview")
                artifact(data / "b.nii.gz")
                refused = []
                for path in ("../secret", "/etc/passwd", "missing.png", os.path.join(workdir, "scratch.png")):
                    try:
                        artifact(path)
                    except (ValueError, FileNotFoundError) as error:
                        refused.append(type(error).__name__)
                log.info("half %d", 1)
                log("done")
                progress(7)
                return refused
            """
        ])
        let seen = Mutex<[Double]>([])
        try await withHosts(tree) { hosts in
            let exit = await hosts.run(tree.job("svc.worker")) { fraction, _ in seen.withLock { $0.append(fraction) } }
            #expect(exit.result == ["ValueError", "ValueError", "FileNotFoundError", "ValueError"])
            #expect(
                exit.artifacts == [
                    JobExit.Artifact(name: "Preview", path: "previews/a.png", kind: "image"),
                    JobExit.Artifact(name: "b.nii.gz", path: "b.nii.gz", kind: "nifti"),
                ]
            )
            let log = try tree.log(exit)
            #expect(log.contains("INFO half 1"))
            #expect(log.contains("INFO done"))
        }
        #expect(seen.withLock { $0 }.last == 1)
    }

    @Test("A DATA or LOGS folder that cannot be written is the machine's fault, and says so")
    func foldersNotWritable() async throws {
        let tree = try ServiceTree(["svc.py": "def worker(**_): return 1\n"])
        let file = tree.folder.appending(path: "file")
        try Data().write(to: file)
        try await withHosts(tree) { hosts in
            var job = tree.job("svc.worker")
            job.workdir = file.appending(path: "work")
            let data = await hosts.run(job, onProgress: { _, _ in })
            #expect(data.outcome == .failed)
            #expect(data.kind == .resources)
            #expect(data.isRetriable)
            #expect(data.failure?.message.contains(job.workdir.path) == true)
            #expect(data.failure?.message.contains("DATA") == true)

            job = tree.job("svc.worker")
            job.logs = file
            #expect(await hosts.run(job, onProgress: { _, _ in }).failure?.message.contains("LOGS") == true)
        }
    }

    @Test("Without an interpreter the service is broken, with the interpreter's name")
    func noInterpreter() async throws {
        let tree = try ServiceTree(["svc.py": "def worker(**_): return 1\n"])
        var configuration = tree.configuration()
        configuration.python = "/nowhere/python3"
        let hosts = WarmHosts(configuration: configuration, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let exit = await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in })
        #expect(exit.kind == .brokenService)
        #expect(exit.failure?.message.contains("/nowhere/python3") == true)
    }

    @Test("An import that hangs is ended after its limit, and soon when its job is cancelled")
    func hangingImport() async throws {
        let tree = try ServiceTree([
            "svc.py": "import time\ntime.sleep(3600)\n",
            "slow.py": "import pathlib, time\npathlib.Path(__file__ + '.importing').touch()\ntime.sleep(3600)\n",
        ])
        var configuration = tree.configuration()
        configuration.importLimit = .seconds(1)
        try await withHosts(tree, configuration) { hosts in
            let exit = await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in })
            #expect(exit.kind == .brokenService)
            #expect(exit.outcome == .failed)
            #expect(exit.failure?.message.contains("longer than 1.0 s") == true)
        }
        try await withHosts(tree) { hosts in
            let doomed = Task { await hosts.run(tree.job("slow.worker"), onProgress: { _, _ in }) }
            let mark = tree.root.appending(path: "slow.py.importing")
            let isImporting = try await eventually { FileManager.default.fileExists(atPath: mark.path) }
            #expect(isImporting)
            doomed.cancel()
            #expect(await doomed.value.outcome == .cancelled)
        }
    }

    @Test("An interpreter that never says anything makes its jobs go back; only again and again is it a failure, and never the service's")
    func silentHost() async throws {
        let tree = try ServiceTree(["svc.py": "def worker(**_): return 1\n"])
        let python = tree.folder.appending(path: "python")
        try Data("#!/bin/sh\nexec sleep 3600\n".utf8).write(to: python)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python.path)
        var configuration = tree.configuration(startLimit: .milliseconds(100))
        configuration.importLimit = .milliseconds(100)
        try await withHosts(tree, configuration) { hosts in
            var job = tree.job("svc.worker")
            job.python = python.path
            var exits: [JobExit] = []
            for _ in 1...3 { exits.append(await hosts.run(job, onProgress: { _, _ in })) }
            #expect(exits.map(\.outcome) == [.released, .released, .failed])
            #expect(exits[2].kind == .resources)
            #expect(exits[2].failure?.type == "HostSilent")
            #expect(exits[2].failure?.message.contains(python.path) == true)
        }
    }

    @Test("Each service may have an interpreter of its own, and say that nothing is kept between its jobs")
    func interpreters() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, sys
            here = os.getpid()

            def worker(**_):
                return [sys.executable, here == os.getpid(), sys.flags.dont_write_bytecode]
            """
        ])
        let usual = tree.configuration().python
        let other = tree.folder.appending(path: "other-python").path
        try FileManager.default.createSymbolicLink(atPath: other, withDestinationPath: usual)
        try await withHosts(tree) { hosts in
            var job = tree.job("svc.worker")
            #expect(await hosts.run(job, onProgress: { _, _ in }).result == [.string(usual), false, 1])
            job.python = other
            #expect(await hosts.run(job, onProgress: { _, _ in }).result == [.string(other), false, 1])
            job.preload = false
            for _ in 1...2 {
                #expect(await hosts.run(job, onProgress: { _, _ in }).result == [.string(other), true, 1])
            }
        }
    }

    @Test("What a job had too much of is named with its limit and with the cure")
    func limits() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, time

            def hoard(params, **_):
                kept = b"x" * params
                time.sleep(3600)

            def ask(params, **_):
                return len(bytearray(params))

            def fork(**_):
                for _ in range(5):
                    os.fork()
                time.sleep(3600)
            """
        ])
        var configuration = tree.configuration()
        configuration.environment["JOB_PROCESSES"] = "10"
        try await withHosts(tree, configuration) { hosts in
            var job = tree.job("svc.hoard", params: .integer(90 << 20), timeout: nil)
            job.memory = 64 << 20
            let hoard = await hosts.run(job, onProgress: { _, _ in })
            #expect(hoard.kind == .outOfMemory)
            #expect(hoard.failure?.type == "MemoryLimit")
            #expect(hoard.failure?.message.contains("64M") == true, "\(hoard)")
            #expect((hoard.usage?.peakMemory ?? 0) > 64 << 20)

            job = tree.job("svc.ask", attempt: 2, params: .integer(1 << 31))
            job.memory = 64 << 20
            let ask = await hosts.run(job, onProgress: { _, _ in })
            #expect(ask.kind == .outOfMemory)
            #expect(ask.failure?.type == "MemoryError")
            #expect(ask.failure?.message.contains("64M") == true, "\(ask)")

            let fork = await hosts.run(tree.job("svc.fork", attempt: 3, timeout: nil), onProgress: { _, _ in })
            #expect(fork.kind == .resources)
            #expect(fork.failure?.type == "ProcessLimit")
            #expect(fork.failure?.message.contains("10 are allowed") == true)
            #expect(fork.failure?.message.contains("JOB_PROCESSES") == true)
        }
    }

    @Test("The end of the log comes with the exit, that of an import that failed too")
    func tail() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os

            def worker(**_):
                for number in range(300): print("line", number)
                os.write(1, bytes([255, 10]))
                os.abort()
            """,
            "broken.py": "print('about to fail')\nimport nothing_of_this_name\n",
        ])
        try await withHosts(tree) { hosts in
            let exit = await hosts.run(tree.job("svc.worker"), onProgress: { _, _ in })
            #expect(exit.kind == .killed)
            let lines = (exit.tail ?? "").split(separator: "\n")
            #expect(exit.tail?.count { $0.isNewline } == 200)
            #expect(lines.contains("line 299"))
            #expect(lines.contains("\u{fffd}"))
            let log = try tree.log(exit)
            #expect(log.contains("line 0\n"))
            let broken = await hosts.run(tree.job("broken.worker", attempt: 2), onProgress: { _, _ in })
            #expect(broken.tail == "about to fail\n")
        }
    }

    @Test("A command is any program; its output is its result")
    func commands() async throws {
        let tree = try ServiceTree([:])
        try await withHosts(tree) { hosts in
            var job = tree.job("")
            job.service = "any"
            job.command = ["sh", "-c", "echo '{\"found\": 3}'; echo noise >&2"]
            let fine = await hosts.run(job, onProgress: { _, _ in })
            #expect(fine.kind == .completed, "\(fine)")
            #expect(fine.result == ["found": 3])
            #expect(fine.tail?.contains("noise") == true)
            job.attempt = 2
            job.command = ["sh", "-c", "echo plain; exit 3"]
            let failed = await hosts.run(job, onProgress: { _, _ in })
            #expect(failed.kind == .exception)
            #expect(failed.failure?.type == "ExitStatus")
            #expect(failed.exitCode == 3)
            job.attempt = 3
            job.command = ["sh", "-c", "kill -SEGV $$"]
            #expect(await hosts.run(job, onProgress: { _, _ in }).kind == .killed)
            job.attempt = 4
            job.command = ["/nowhere/program"]
            let missing = await hosts.run(job, onProgress: { _, _ in })
            #expect(missing.outcome == .failed)
            #expect("\(missing)".contains("/nowhere/program"))
        }
    }

    private func withHosts(
        _ tree: ServiceTree,
        _ configuration: PythonHostConfiguration? = nil,
        _ body: (WarmHosts) async throws -> Void
    ) async throws {
        let hosts = WarmHosts(
            configuration: configuration ?? tree.configuration(),
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        do {
            try await body(hosts)
        } catch {
            await hosts.shutdown()
            throw error
        }
        await hosts.shutdown()
    }
}

extension ServiceTree {
    func job(
        _ entry: String,
        attempt: Int = 1,
        headers: JSONValue = [:],
        params: JSONValue = ["p": 1],
        timeout: Int? = 60,
        grace: Duration = .seconds(5),
        environment: [String: String] = [:]
    ) -> PythonJob {
        let run = RunID(milliseconds: 1, random: (2, 3))
        return PythonJob(
            job: JobID(run: run, index: 0),
            attempt: attempt,
            token: 1,
            service: String(entry.prefix { $0 != "." }),
            entry: entry,
            jobName: "the job",
            headers: headers,
            params: params,
            addedParams: ["dcm2nii": ["output": "a.nii.gz"]],
            data: data,
            workdir: data.appending(path: ".work/\(attempt)"),
            logs: logs,
            log: "runs/\(run)/0-\(attempt)-1.log",
            timeout: timeout.flatMap { JobTimeout(seconds: $0) } ?? .never,
            grace: grace,
            environment: environment
        )
    }

    func log(_ exit: JobExit) throws -> String {
        try String(decoding: Data(contentsOf: logs.appending(path: #require(exit.log))), as: UTF8.self)
    }
}
