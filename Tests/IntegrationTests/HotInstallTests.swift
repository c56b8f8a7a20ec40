import Foundation
import Jobs
import Stack
import Testing

/// Services come, change and go while a stack works, by the command that people use.
@Suite(.serialized, .timeLimit(.minutes(10))) struct HotInstallTests {
    @Test func aServiceIsInstalledReplacedAndRemovedUnderARunningStack() async throws {
        try await TestStack.with(environment: ["SERVICES": "temp"]) { stack in
            let images = try await SampleImages.write(into: stack.home)
            let studies = images.small.studies.map(\.id)
            try #require(studies.count >= 3, "two workers are to be busy while another run waits")
            let service = try Package(in: stack.home)

            // Installed under the running stack: the next events have it.
            try service.write(generation: 1)
            try await stack.service(["install", "gated", "-p", service.folder.path])
            try await stack.send(images.small.folder)
            var runs: [JSONValue] = []
            for study in studies { runs.append(try await stack.run(of: study)) }
            _ = try await until("both workers are at work") {
                try await stack.states(of: "gated", in: runs).count { $0 == "running" } == 2 ? true : nil
            }

            let warning = try await stack.service(["remove", "gated", "--dry-run"])
            #expect(warning.contains("\(studies.count) active runs"), "\(warning)")

            // Replaced while jobs of it run and others wait: nobody's job fails, and plans stay as they are.
            try service.write(generation: 2)
            let replaced = try await stack.service(["install", "gated", "-p", service.folder.path, "--replace"])
            #expect(replaced.contains("in the place of"))
            try service.open(stack)
            var codes: [Int64] = []
            for run in runs {
                let ended = try await stack.ended(run)
                #expect(ended["state"]?.string == "succeeded", "\(ended.states)")
                let result = try await stack.result(of: "gated", in: ended)
                #expect(result["params"]?.integer == 1, "a planned run keeps its parameters")
                codes.append(result["code"]?.integer ?? 0)
            }
            #expect(codes.count { $0 == 1 } == 2, "jobs that ran went on with the code that they had: \(codes)")
            #expect(codes.contains(2), "jobs that had not begun take the code that is there: \(codes)")
            let second = try await stack.ended(stack.again(runs[0]))
            let result = try await stack.result(of: "gated", in: second)
            #expect(result["params"]?.integer == 2)
            #expect(result["code"]?.integer == 2)

            // Removed: the next run is planned without it, and the backup brings it back.
            let backup = stack.home.appending(path: "backup")
            try await stack.service(["remove", "gated", "-b", backup.path])
            let third = try await stack.ended(stack.again(second))
            #expect(third.states == ["export": "succeeded", "temp": "succeeded"])
            try await stack.service(["install", "gated", "-p", backup.appending(path: "gated").path])
            let fourth = try await stack.ended(stack.again(third))
            #expect(try await stack.result(of: "gated", in: fourth)["code"]?.integer == 2)
            let list = try JSONValue(json: Data(try await stack.service(["list", "--json"]).utf8))
            #expect(list["services"]?.array?.compactMap { $0["name"]?.string } == ["gated", "temp"])
        }
    }
}

/// A service whose jobs say of which generation their code and their parameters are, once a gate is open.
private struct Package {
    let folder: URL

    init(in home: URL) throws {
        folder = home.appending(path: "gated")
    }

    func write(generation: Int) throws {
        let files = [
            "registry/settings.json": """
            {"jobName": "gated", "worker": "gated.worker", "callback": "gated.callback", "params": {"generation": \(generation)}}
            """,
            "registry/__init__.py": "def callback(**_):\n    return True\n",
            "module/__init__.py": "from .main import worker\n",
            "module/main.py": """
            import os
            import time

            GENERATION = \(generation)

            def worker(params, **_):
                while not os.path.exists(os.path.join(os.environ["DATA"], "gate")):
                    time.sleep(0.05)
                return {"code": GENERATION, "params": params["generation"]}

            """,
        ]
        for (path, text) in files {
            let file = folder.appending(path: path)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
    }

    func open(_ stack: TestStack) throws {
        try Data().write(to: URL(filePath: stack.endpoints.data).appending(path: "gate"))
    }
}

extension TestStack {
    @discardableResult
    fileprivate func service(_ arguments: [String]) async throws -> String {
        try await Self.tool(["service"] + arguments + ["--home", home.path])
    }

    fileprivate func states(of job: String, in runs: [JSONValue]) async throws -> [String] {
        var states: [String] = []
        for run in runs {
            let now = try await get("/api/v1/runs/\(run["id"]?.string ?? "")")
            states.append(now.states[job] ?? "missing")
        }
        return states
    }

    fileprivate func result(of job: String, in run: JSONValue) async throws -> JSONValue {
        let id = try #require(run.job(job)?["id"]?.string, "\(run.states)")
        let answer = try await get("/api/v1/jobs/\(id)")
        return try #require(answer["result"], "\(answer.text)")
    }

    /// Another run of the same study.
    fileprivate func again(_ run: JSONValue) async throws -> JSONValue {
        let id = try #require(run["id"]?.string)
        let study = run["resourceId"]?.string
        let before = try await runs(of: study)
        try await post("/api/v1/runs/\(id)/reprocess")
        let new = try await until("another run of \(study ?? "?")") { try await runs(of: study).first { !before.contains($0) } }
        return try await get("/api/v1/runs/\(new)")
    }

    private func runs(of study: String?) async throws -> [String] {
        try await get("/api/v1/runs?limit=100")["runs"]?.array?
            .filter { $0["resourceId"]?.string == study }.compactMap { $0["id"]?.string } ?? []
    }
}
