import Foundation
import Jobs
import Logging
import PythonHost
import Testing

@Suite(.timeLimit(.minutes(2)))
struct CallbackHostTests {
    private let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    @Test("Upstream's answers: flags, lists, tuples, and what stands second in them")
    func answers() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            def answer(jobName, headers, params, added_params):
                return eval(params)
            """
        ])
        let answers: [(String, CallbackVerdict.Outcome)] = [
            ("True", .accepted(added: [:])), ("1", .accepted(added: [:])), ("'no'", .accepted(added: [:])),
            ("False", .declined), ("None", .declined), ("[]", .declined), ("()", .declined), ("{}", .declined),
            ("[True]", .accepted(added: [:])), ("(True, {'a': 1})", .accepted(added: ["a": 1])),
            ("[True, {'a': [1, None, 'x']}]", .accepted(added: ["a": [1, .null, "x"]])),
            ("[False, {'a': 1}]", .declined), ("[True, 'nonsense']", .accepted(added: [:])), ("{'a': 1}", .accepted(added: [:])),
        ]
        try await withHost(tree) { host in
            let verdicts = try await host.evaluate(
                answers.enumerated().map { CallbackCall(jobName: "job\($0)", entry: "svc.answer", params: .string($1.0)) },
                headers: [:],
                addedParams: [:]
            )
            #expect(verdicts.map(\.outcome) == answers.map(\.1))
            #expect(verdicts.map(\.jobName) == answers.indices.map { "job\($0)" })
        }
    }

    @Test("What one patient's callbacks added is not there for the next patient")
    func addedParamsEndWithTheirRequest() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            def first(jobName, headers, params, added_params):
                headers["seen"] = True
                return (headers["patient"] == "A", {"storage": headers["patient"]})

            def second(jobName, headers, params, added_params):
                seen = sorted(added_params)
                added_params["leak"] = {}
                return (True, {"seen": seen, "headers": sorted(headers)})
            """
        ])
        let calls = [
            CallbackCall(jobName: "one", entry: "svc.first", params: .null),
            CallbackCall(jobName: "two", entry: "svc.second", params: .null),
        ]
        try await withHost(tree) { host in
            let a = try await host.evaluate(calls, headers: ["patient": "A"], addedParams: [:])
            let b = try await host.evaluate(calls, headers: ["patient": "B"], addedParams: [:])
            #expect(a.map(\.outcome) == [.accepted(added: ["storage": "A"]), .accepted(added: ["seen": ["one"], "headers": ["patient"]])])
            #expect(b.map(\.outcome) == [.declined, .accepted(added: ["seen": [], "headers": ["patient"]])])
        }
    }

    @Test("What one patient's callbacks kept for themselves is not there for the next patient")
    func memoryEndsWithItsRequest() async throws {
        let tree = try ServiceTree([
            "svc/__init__.py": """
            import os

            cache = {}

            def callback(headers, kept=[], **_):
                seen = [len(cache), len(kept), os.environ.get("PATIENT")]
                cache[headers["patient"]] = 1
                kept.append(headers["patient"])
                os.environ["PATIENT"] = headers["patient"]
                return True, {"seen": seen}
            """
        ])
        let calls = [CallbackCall(jobName: "job", entry: "svc.callback", params: .null)]
        try await withHost(tree) { host in
            for patient in ["A", "B"] {
                let verdicts = try await host.evaluate(calls, headers: ["patient": .string(patient)], addedParams: [:])
                #expect(verdicts.map(\.outcome) == [.accepted(added: ["seen": [0, 0, .null]])])
            }
        }
    }

    @Test("Callbacks whose modules start threads at their import are asked with their threads")
    func threads() async throws {
        let module = """
            import queue, threading

            asked, answers = queue.Queue(), queue.Queue()

            def work():
                while True: answers.put(asked.get() + 1)

            threading.Thread(target=work, daemon=True).start()

            def callback(**_):
                asked.put(1)
                return answers.get(timeout=5) == 2
            """
        let names = (0..<6).map { "svc\($0)" }
        let tree = try ServiceTree(Dictionary(uniqueKeysWithValues: names.map { ("\($0).py", module) }))
        let calls = names.map { CallbackCall(jobName: $0, entry: "\($0).callback", params: .null) }
        try await withHost(tree) { host in
            for _ in 0..<2 {
                let verdicts = try await host.evaluate(calls, headers: [:], addedParams: [:])
                #expect(verdicts.map(\.outcome) == names.map { _ in .accepted(added: [:]) })
            }
        }
    }

    @Test("A callback that hangs, exits, crashes or raises loses only its own verdict")
    func badCallbacks() async throws {
        let tree = try ServiceTree([
            "bad/__init__.py": """
            import os, signal, sys, time

            def hang(**_):
                print("before the hang")
                time.sleep(3600)

            def leave(**_):
                os._exit(0)

            def crash(**_):
                os.kill(os.getpid(), signal.SIGSEGV)

            def close(**_):
                os.close(3)
                return True

            def quit(**_):
                sys.exit("enough")

            def fail(**_):
                print("about to fail")
                return {}["missing"]

            def nonsense(**_):
                return True, {"f": open}
            """,
            "good.py": "def yes(added_params, **_): return True, {'after': sorted(added_params)}\n",
            "broken.py": "import no_such_package\n",
        ])
        let names = ["hang", "leave", "crash", "quit", "fail", "nonsense", "missing", "close"]
        var calls = names.map { CallbackCall(jobName: $0, entry: "bad.\($0)", params: .null) }
        calls.insert(CallbackCall(jobName: "before", entry: "good.yes", params: .null), at: 0)
        calls.append(CallbackCall(jobName: "import", entry: "broken.callback", params: .null))
        calls.append(CallbackCall(jobName: "dotless", entry: "callback", params: .null))
        calls.append(CallbackCall(jobName: "after", entry: "good.yes", params: .null))
        try await withHost(tree, timeout: .milliseconds(700)) { host in
            let verdicts = try await host.evaluate(calls, headers: [:], addedParams: [:])
            try #require(verdicts.count == calls.count)
            #expect(verdicts[0].outcome == .accepted(added: ["after": []]))
            #expect(
                verdicts[1...10].map { $0.failure?.type } == [
                    "CallbackTimeout", "CallbackHostEnded", "CallbackHostEnded", "SystemExit", "KeyError", "TypeError", "ImportError",
                    "OSError", "ModuleNotFoundError", "ImportError",
                ]
            )
            #expect(verdicts[1].output == "before the hang\n")
            #expect(verdicts[1].duration >= 0.7)
            #expect(verdicts[5].output == "about to fail\n")
            #expect(verdicts[5].failure?.traceback?.contains("bad/__init__.py") == true)
            #expect(verdicts[5].failure?.traceback?.contains("dcm_processor") == false)
            #expect(verdicts[11].outcome == .accepted(added: ["after": ["before"]]))
        }
    }

    @Test("A host that ends is noticed though something that its import has started holds its socket")
    func heldSocket() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import os, signal, time

            if os.fork() == 0:
                os.setsid()
                open(os.environ["DATA"] + "/holder", "a").write(f"{os.getpid()}\\n")
                time.sleep(60)
                os._exit(0)
            while not os.path.exists(os.environ["DATA"] + "/holder"):
                time.sleep(0.01)
            if os.path.exists(os.environ["DATA"] + "/hang"):
                time.sleep(60)
            os._exit(9)
            """,
            "good.py": "def yes(**_): return True\n",
        ])
        let calls = [
            CallbackCall(jobName: "bad", entry: "svc.callback", params: .null),
            CallbackCall(jobName: "good", entry: "good.yes", params: .null),
        ]
        defer {
            let pids = (try? String(contentsOf: tree.data.appending(path: "holder"), encoding: .utf8)) ?? ""
            for pid in pids.split(separator: "\n").compactMap({ Int32($0) }) { kill(pid, SIGKILL) }
        }
        let start = ContinuousClock.now
        for (name, expected) in [("nothing", "CallbackHostEnded"), ("hang", "CallbackTimeout")] {
            try Data().write(to: tree.data.appending(path: name))
            try await withHost(tree, timeout: expected == "CallbackTimeout" ? .seconds(1) : .seconds(50)) { host in
                let verdicts = try await host.evaluate(calls, headers: [:], addedParams: [:])
                #expect(verdicts.map { $0.failure?.type } == [expected, nil])
            }
        }
        #expect(ContinuousClock.now - start < .seconds(45))
    }

    @Test("Edited callbacks answer with their new code")
    func edits() async throws {
        let tree = try ServiceTree(["svc/__init__.py": "from .main import callback\n", "svc/main.py": "def callback(**_): return True\n"])
        let call = [CallbackCall(jobName: "job", entry: "svc.callback", params: .null)]
        try await withHost(tree) { host in
            #expect(try await host.evaluate(call, headers: [:], addedParams: [:]).map(\.outcome) == [.accepted(added: [:])])
            // As long as before, within the same second: neither size nor a coarse time stamp tells.
            try tree.write("svc/main.py", "def callback(**_): return None\n")
            #expect(try await host.evaluate(call, headers: [:], addedParams: [:]).map(\.outcome) == [.declined])
        }
    }

    @Test("Requests at the same time are answered one by one, each with its own parameters")
    func concurrentRequests() async throws {
        let tree = try ServiceTree([
            "svc.py": "def callback(headers, added_params, **_): return True, {'own': headers['n'], 'given': added_params}\n"
        ])
        try await withHost(tree) { host in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<20 {
                    group.addTask {
                        let verdicts = try await host.evaluate(
                            [CallbackCall(jobName: "job", entry: "svc.callback", params: .null)],
                            headers: ["n": .integer(Int64(number))],
                            addedParams: ["p\(number)": [:]]
                        )
                        let expected: [String: JSONValue] = ["own": .integer(Int64(number)), "given": .object(["p\(number)": [:]])]
                        #expect(verdicts.map(\.outcome) == [.accepted(added: expected)])
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("A cancelled request ends, and the next one is answered")
    func cancellation() async throws {
        let tree = try ServiceTree([
            "svc.py": """
            import pathlib, time

            def hang(params, **_):
                pathlib.Path(params).touch()
                time.sleep(3600)

            def yes(**_):
                return True
            """
        ])
        let mark = tree.data.appending(path: "hanging")
        try await withHost(tree, timeout: .seconds(60)) { host in
            let asked = Task {
                try await host.evaluate(
                    [CallbackCall(jobName: "job", entry: "svc.hang", params: .string(mark.path))],
                    headers: [:],
                    addedParams: [:]
                )
            }
            #expect(try await eventually { FileManager.default.fileExists(atPath: mark.path) })
            asked.cancel()
            await #expect(throws: CancellationError.self) { try await asked.value }
            let next = try await host.evaluate(
                [CallbackCall(jobName: "job", entry: "svc.yes", params: .null)],
                headers: [:],
                addedParams: [:]
            )
            #expect(next.map(\.outcome) == [.accepted(added: [:])])
        }
    }

    @Test("An interpreter that is not there, or is none, is an error that names it")
    func noInterpreter() async throws {
        let tree = try ServiceTree([:])
        var configuration = tree.configuration()
        configuration.python = "/nowhere/python3"
        await #expect(throws: PythonHostError.self) {
            try await CallbackHost(configuration: configuration, logger: logger)
                .evaluate([CallbackCall(jobName: "job", entry: "a.b", params: .null)], headers: [:], addedParams: [:])
        }
        configuration.python = "/bin/false"
        let error = await #expect(throws: PythonHostError.self) {
            try await CallbackHost(configuration: configuration, logger: logger)
                .evaluate([CallbackCall(jobName: "job", entry: "a.b", params: .null)], headers: [:], addedParams: [:])
        }
        #expect(error?.code == .notGreeted)
        #expect(error?.message.contains("/bin/false") == true)
    }

    private func withHost(_ tree: ServiceTree, timeout: Duration = .seconds(10), _ body: (CallbackHost) async throws -> Void) async throws {
        let host = CallbackHost(configuration: tree.configuration(), timeout: timeout, logger: logger)
        do {
            try await body(host)
        } catch {
            await host.shutdown()
            throw error
        }
        await host.shutdown()
    }
}

extension CallbackVerdict {
    fileprivate var failure: JobExit.Failure? {
        guard case .failed(let failure) = outcome else { return nil }
        return failure
    }
}
