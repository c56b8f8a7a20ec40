import Foundation
import Jobs
import Registry
import Testing
import Workbench

@Suite(.timeLimit(.minutes(2))) struct ServiceImportsTests {
    private static func entry(_ name: String) -> String {
        #"{"jobName": "\#(name)", "worker": "\#(name).worker", "callback": "\#(name).callback"}"#
    }

    /// Findings by `job.key`: nil when it was imported.
    private func findings(_ place: TrialPlace, buildsEnvironments: Bool = true) async throws -> [String: ServiceProblem?] {
        let found = try await ServiceImports(bench: place.bench, buildsEnvironments: buildsEnvironments).run(place.catalog.entries)
        return Dictionary(found.map { ("\($0.entry.name).\($0.key)", $0.problem) }) { first, _ in first }
    }

    @Test("What is wrong is told with the last line of the traceback and the service's own file")
    func broken() async throws {
        let place = try TrialPlace([
            "registry/good/settings.json": Self.entry("good"),
            "registry/good/__init__.py": "def callback(**kwargs):\n    raise SystemExit",
            "modules/good/__init__.py": "from .main import worker",
            "modules/good/main.py": "def worker(jobName, headers, params, added_params): 1/0",
            "registry/bad/settings.json": Self.entry("bad"), "registry/bad/__init__.py": "import os\nimport nowhere_at_all\n",
            "modules/bad/__init__.py": "from .main import worker", "modules/bad/main.py": "import json\n\njson.loads('{')\n",
            "registry/gone/settings.json": Self.entry("gone"), "registry/gone/__init__.py": "",
            "registry/narrow/settings.json": Self.entry("narrow"), "registry/narrow/__init__.py": "def callback(jobName): pass",
            "modules/narrow/__init__.py": "def worker(headers): pass",
            "registry/hang/settings.json": #"{"jobName": "hang", "worker": "hang.worker", "when": {"Modality": "CT"}}"#,
            "modules/hang/__init__.py": "import os\nos._exit(3)",
        ])
        let found = try await findings(place)
        #expect(found["good.callback"] == .some(nil) && found["good.worker"] == .some(nil))
        let callback = try #require(found["bad.callback"] ?? nil)
        #expect(
            callback.message
                == "bad.callback cannot be used: ModuleNotFoundError: No module named 'nowhere_at_all' (bad/__init__.py, line 2)")
        #expect(callback.key == "callback" && callback.entry == "bad" && callback.severity == .error)
        let worker = try #require(found["bad.worker"] ?? nil)
        #expect(worker.message.contains("JSONDecodeError") && worker.message.hasSuffix("(bad/main.py, line 3)"))
        #expect((found["gone.callback"] ?? nil)?.message.contains("has no function 'callback'") == true)
        #expect((found["gone.worker"] ?? nil)?.message.contains("No module named 'gone'") == true)
        #expect((found["narrow.callback"] ?? nil)?.message.contains("cannot be called with jobName, headers") == true)
        #expect((found["narrow.worker"] ?? nil)?.message.contains("cannot be called with") == true)
        #expect((found["hang.worker"] ?? nil)?.message.contains("hang.worker") == true)
        #expect(found.count == 9)
    }

    @Test("A command has to be there and executable")
    func commands() async throws {
        let place = try TrialPlace([
            "registry/a/settings.json":
                #"[{"jobName": "own", "command": ["./run.sh"]}, {"jobName": "path", "command": ["sh"]}, {"jobName": "no", "command": ["no-such-program"]}]"#,
            "modules/a/run.sh": "#!/bin/sh",
        ])
        let before = try await findings(place)
        #expect((before["own.command"] ?? nil)?.message.contains("chmod +x") == true)
        #expect(before["path.command"] == .some(nil))
        #expect((before["no.command"] ?? nil)?.message.contains("no such program in PATH") == true)
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o755], ofItemAtPath: place.bench.modules.appending(path: "a/run.sh").path)
        let after = try await findings(place)
        #expect(after["own.command"] == .some(nil))
    }

    @Test("A worker whose environment is not built is not tried without leave")
    func environments() async throws {
        let place = try TrialPlace([
            "registry/own/settings.json": Self.entry("own"), "registry/own/__init__.py": "def callback(**kwargs): pass",
            "modules/own/script.sh": "exit 1", "modules/own/__init__.py": "def worker(**kwargs): pass",
        ])
        let findings = try await ServiceImports(bench: place.bench, buildsEnvironments: false).run(place.catalog.entries)
        #expect(findings.map(\.outcome) == [.imported, .untried("its environment is not built")])
    }
}
