import Jobs
import Registry
import Testing

/// Commands, and what jobs need of their machine.
@Suite struct ProgramTests {
    @Test("A command needs neither worker nor callback, and says what it needs")
    func command() throws {
        let folder = try RegistryFolder()
        try folder.write(
            #"""
            {"jobName": "brain", "command": ["bin/segment", "--fast", ""], "environment": "torch-2.1", "onLeaseLoss": "kill",
             "resources": {"memory": "1.5G", "gpus": 2, "_why": "the model"}}
            """#, to: "ai/settings.json")
        let catalog = folder.load()
        #expect(catalog.problems == [])
        let entry = try catalog.entry("brain")
        #expect(entry.definition.kind == .command)
        #expect(entry.definition.command == ["bin/segment", "--fast", ""])
        #expect(entry.definition.service == "ai")
        #expect(entry.definition.entry == "")
        #expect(entry.definition.environment == "torch-2.1")
        #expect(entry.definition.resources == JobResources(memory: 1_610_612_736, gpus: 2))
        #expect(entry.definition.preload)
        #expect(entry.callback == "")
        let report = CatalogReport(catalog)
        #expect(report.text.contains(#"brain: services, command ["bin/segment","--fast",""], channel default"#), "\(report.text)")
        #expect(report.text.contains("memory 1536M, GPUs 2, environment torch-2.1, accepts everything"), "\(report.text)")
        #expect(report.json["services"]?.array?.first?["jobs"]?.array?.first?["resources"]?["gpus"] == 2)
    }

    @Test("A Python job has the defaults, and can say otherwise")
    func python() throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.service("b", #""preload": false, "resources": {"memory": 1073741824}"#)
        let catalog = folder.load()
        #expect(catalog.problems == [])
        let plain = try catalog.entry("a").definition
        #expect(plain.kind == .python)
        #expect(plain.command == [])
        #expect(plain.resources == .none)
        #expect(plain.environment == nil)
        #expect(plain.preload)
        let other = try catalog.entry("b").definition
        #expect(!other.preload)
        #expect(other.resources == JobResources(memory: 1 << 30))
    }

    @Test(
        "What is no command, no amount and no name is an error that says what would be right",
        arguments: [
            (#""command": "dcm2niix -z y""#, "command", #"["dcm2niix","-z","y"]"#), (#""command": []"#, "command", "a list of the program"),
            (#""command": ["a", 1]"#, "command", "a list of the program"), (#""command": [""]"#, "command", "a list of the program"),
            (#""command": ["../other/run"]"#, "command", "a path below modules/a"), (#""cmd": ["a"]"#, "cmd", "the key command"),
            (#""command": ["a"], "worker": "a.b""#, "command", "worker for a Python function"),
            (#""command": ["a"], "resources": 4"#, "resources", "an object such as"),
            (#""command": ["a"], "resources": {"memory": 4}"#, "resources.memory", "16M or more"),
            (#""command": ["a"], "resources": {"memory": "4X"}"#, "resources.memory", "16M or more"),
            (#""command": ["a"], "resources": {"gpus": -1}"#, "resources.gpus", "0 to 64"),
            (#""command": ["a"], "resources": {"gpu": 1}"#, "resources.gpu", "the key gpus"),
            (#""command": ["a"], "memory": "4G""#, "memory", "the key resources"),
            (#""command": ["a"], "environment": "../x""#, "environment", "1 to 64 characters"),
            (#""command": ["a"], "preload": 1"#, "preload", "true, false"),
        ])
    func mistakes(members: String, key: String, allowed: String) throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "a", "callback": "a.c", \#(members)}"#, to: "a/settings.json")
        let catalog = folder.load()
        #expect(catalog.names == [])
        let problem = try #require(catalog.errors.first { $0.key == key }, "\(catalog.problems)")
        #expect(problem.allowed?.contains(allowed) == true, "\(problem)")
    }

    @Test("preload of a command is of no use, and does no harm")
    func preloadOfCommand() throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "a", "command": ["true"], "preload": false}"#, to: "a/settings.json")
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.warnings.map(\.key) == ["preload"])
    }

    @Test("What has no callback accepts every event of its levels; the others of its stage are asked as ever")
    func planning() async throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "tool", "command": ["true"], "sortPosition": 1, "events": "study"}"#, to: "tool/settings.json")
        try folder.service("asked", #""sortPosition": 2, "dependsOn": "tool""#)
        let catalog = folder.load()
        for level in [ResourceLevel.study, .series] {
            var questions: [String] = []
            let plan = try await RunPlanner.plan(event: PlanInput(level: level, headers: [:]), catalog: catalog) { asked, _, _ in
                questions += asked.map(\.jobName)
                return asked.map { _ in CallbackAnswer(.accepted(added: ["x": 1])) }
            }
            #expect(questions == ["asked"])
            let tool = try #require(plan.decisions.first { $0.job == "tool" })
            #expect(tool.verdict == (level == .study ? .accepted : .declined))
            #expect(plan.addedParams["tool"] == (level == .study ? [:] : nil))
            let running = plan.jobs.filter { $0.skipped == nil }.map(\.definition.name)
            #expect(running == (level == .study ? ["export", "tool", "asked"] : []))
        }
    }

    @Test(
        "Amounts of bytes",
        arguments: [
            ("4G", 4 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("2 GiB", 2 << 30), ("100kb", 102_400), ("7", 7), ("", nil),
            ("G", nil), ("-1", nil), ("1P", nil), ("1e3", nil), ("0", nil), ("99999999T", nil), ("1.2.3G", nil),
        ] as [(String, Int64?)])
    func bytes(text: String, bytes: Int64?) {
        #expect(ByteCount.parse(text) == bytes)
    }
}
