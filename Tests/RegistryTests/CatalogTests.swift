import Foundation
import Jobs
import Registry
import Testing

@Suite struct CatalogTests {
    @Test func readsEveryKey() throws {
        let folder = try RegistryFolder()
        try folder.write(
            """
            [{"jobName": "a", "worker": "mod.sub.run", "callback": "a.ask", "dependsOn": "b", "priority": "high", "channel": "gpu-1",
              "timeout": "1h30m", "params": {"x": [1]}, "sortPosition": 5, "description": "d", "disabled": false,
              "events": ["series", "stable-study"], "retry": {"max": 3, "delay": "2m", "backoff": "constant"},
              "finalizer": true, "storing": true, "onFailure": "run", "onLeaseLoss": "kill"},
             {"jobName": "b", "worker": "a.run", "callback": "a.ask"}]
            """,
            to: "a/settings.json",
        )
        let catalog = folder.load(CatalogDefaults(priority: .low, channel: "slow"))
        #expect(catalog.problems.isEmpty)
        let a = try catalog.entry("a")
        #expect(
            a.definition
                == JobDefinition(
                    name: "a",
                    service: "mod",
                    stage: .services,
                    entry: "mod.sub.run",
                    params: ["x": [1]],
                    channel: "gpu-1",
                    priority: .high,
                    timeout: .after(seconds: 5400),
                    retry: RetryPolicy(max: 3, delay: 120, backoff: .constant),
                    isFinalizer: true,
                    isStoring: true,
                    onLeaseLoss: .kill,
                )
        )
        #expect(a.callback == "a.ask")
        #expect(a.dependsOn == ["b"])
        #expect(a.onFailure == .run)
        #expect(a.events == [.series, .study])
        #expect(a.sortPosition == 5)
        #expect(a.description == "d")
        #expect(a.service == "a")
        let b = try catalog.entry("b")
        #expect(b.definition.priority == .low)
        #expect(b.definition.channel == "slow")
        #expect(b.definition.timeout == .after(seconds: 3600))
        #expect(b.definition.retry == .never)
        #expect(b.definition.params == .null)
        #expect(b.events == Set(ResourceLevel.allCases))
        #expect(b.sortPosition == 999)
    }

    @Test func nullMeansDefault() throws {
        let folder = try RegistryFolder()
        try folder.service(
            "a",
            """
            "dependsOn": null, "priority": null, "channel": null, "timeout": null, "params": null, "sortPosition": null, "disabled": null,
            "events": null, "retry": null, "finalizer": null, "storing": null, "onFailure": null, "onLeaseLoss": null, "description": null, "when": null
            """,
        )
        let catalog = folder.load()
        #expect(catalog.problems.isEmpty)
        #expect(catalog.names == ["a"])
    }

    struct Mistake: Sendable, CustomTestStringConvertible {
        var members: String
        var key: String
        var value: String?
        var nearest: String?
        var testDescription: String { members }
    }

    @Test(arguments: [
        Mistake(members: #""priority": "hgih""#, key: "priority", value: #""hgih""#, nearest: "high"),
        Mistake(members: #""priority": 5"#, key: "priority", value: "5"),
        Mistake(members: #""priority": true"#, key: "priority", value: "true"),
        Mistake(members: #""timeout": "1x""#, key: "timeout", value: #""1x""#),
        Mistake(members: #""timeout": 0"#, key: "timeout", value: "0"),
        Mistake(members: #""timeout": "30m1h""#, key: "timeout", value: #""30m1h""#),
        Mistake(members: #""timeout": 1.5"#, key: "timeout", value: "1.5"),
        Mistake(members: #""channel": "GPU""#, key: "channel", value: #""GPU""#),
        Mistake(members: #""channel": """#, key: "channel", value: #""""#),
        Mistake(members: #""channel": "a.b""#, key: "channel", value: #""a.b""#),
        Mistake(members: #""sortPosition": "5""#, key: "sortPosition", value: #""5""#),
        Mistake(members: #""sortPosition": false"#, key: "sortPosition", value: "false"),
        Mistake(members: #""events": ["studdy"]"#, key: "events", value: #""studdy""#, nearest: "study"),
        Mistake(members: #""events": []"#, key: "events", value: "[]"),
        Mistake(members: #""dependsOn": """#, key: "dependsOn", value: #""""#),
        Mistake(members: #""dependsOn": [1]"#, key: "dependsOn", value: "1"),
        Mistake(members: #""dependsOn": {}"#, key: "dependsOn", value: "{}"),
        Mistake(members: #""dependsOn": "nobody""#, key: "dependsOn", value: "nobody"),
        Mistake(members: #""dependsOn": "goood""#, key: "dependsOn", value: "goood", nearest: "good"),
        Mistake(members: #""finalizer": "yes""#, key: "finalizer", value: #""yes""#),
        Mistake(members: #""storing": 1"#, key: "storing", value: "1"),
        Mistake(members: #""onFailure": "ran""#, key: "onFailure", value: #""ran""#, nearest: "run"),
        Mistake(members: #""disabled": "yes""#, key: "disabled", value: #""yes""#),
        Mistake(members: #""retry": 3"#, key: "retry", value: "3"),
        Mistake(members: #""retry": {}"#, key: "retry.max"),
        Mistake(members: #""retry": {"max": -1}"#, key: "retry.max", value: "-1"),
        Mistake(members: #""retry": {"max": 1, "delay": "2h"}"#, key: "retry.delay", value: #""2h""#),
        Mistake(
            members: #""retry": {"max": 1, "backoff": "exponentiell"}"#,
            key: "retry.backoff",
            value: #""exponentiell""#,
            nearest: "exponential",
        ),
        Mistake(members: #""when": {"Modality": 1, "Rows": true}"#, key: "when.Rows", value: "true"),
        Mistake(members: #""command": "x""#, key: "command", value: #""x""#),
        Mistake(members: #""preload": "no""#, key: "preload", value: #""no""#),
        Mistake(members: #""resources": []"#, key: "resources", value: "[]"),
        Mistake(members: #""requires": [1]"#, key: "requires", value: "1"),
        Mistake(members: #""onLeaseLoss": "kil""#, key: "onLeaseLoss", value: #""kil""#, nearest: "kill"),
        Mistake(members: #""environment": {}"#, key: "environment", value: "{}"),
    ])
    func aWrongValueStopsOnlyItsEntry(_ mistake: Mistake) throws {
        let folder = try RegistryFolder()
        try folder.service("good")
        try folder.write(
            "[{\(RegistryFolder.entry("bad", mistake.members))}, {\(RegistryFolder.entry("other"))}]",
            to: "mixed/settings.json",
        )
        let catalog = folder.load()
        #expect(catalog.names == ["good", "other"])
        #expect(catalog.brokenEntries.map(\.label) == ["bad"])
        #expect(catalog.failure == nil)
        let problem = try #require(catalog.errors.first)
        #expect(catalog.errors.count == 1)
        #expect(problem.service == "mixed")
        #expect(problem.file == "mixed/settings.json")
        #expect(problem.entry == "bad")
        #expect(problem.key == mistake.key)
        #expect(problem.value == mistake.value)
        #expect(problem.nearest == mistake.nearest)
        #expect(problem.allowed != nil)
        #expect(problem.description.hasPrefix("error: mixed/settings.json, entry bad, key \(mistake.key): "))
    }

    @Test(arguments: ["jobName", "worker", "callback"])
    func aMissingFieldIsAnError(_ key: String) throws {
        let folder = try RegistryFolder()
        let keys = ["jobName", "worker", "callback"].filter { $0 != key }
        try folder.write("{" + keys.map { "\"\($0)\": \"a.b\"" }.joined(separator: ",") + "}", to: "a/settings.json")
        let catalog = folder.load()
        #expect(catalog.names.isEmpty)
        #expect(catalog.errors.map(\.key) == [key])
        #expect(catalog.errors.map(\.entry) == [key == "jobName" ? "#1" : "a.b"])
    }

    @Test(arguments: [#""""#, "5", #"" a""#, #""export""#, #""a\u0000b""#])
    func refusesImpossibleNames(_ name: String) throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": \#(name), "worker": "a.b", "callback": "a.b"}"#, to: "a/settings.json")
        #expect(folder.load().errors.map(\.key) == ["jobName"])
    }

    @Test(arguments: [#""run""#, #""a..b""#, #""a.b.""#, #""../a.b""#, #""a b.c""#, "1"])
    func refusesWhatNamesNoFunction(_ worker: String) throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "a", "worker": \#(worker), "callback": "a.b"}"#, to: "a/settings.json")
        #expect(folder.load().errors.map(\.key) == ["worker"])
    }

    @Test func acceptsAFolderWithADash() throws {
        let folder = try RegistryFolder()
        try folder.service("ms-sub")
        let catalog = folder.load()
        #expect(catalog.problems.isEmpty)
        #expect(try catalog.entry("ms-sub").definition.service == "ms-sub")
    }

    @Test func anUnknownKeyIsAWarningWithTheNearestKey() throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""timout": "5m", "colour": 1, "retry": {"max": 1, "dealy": 3}"#)
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.errors.isEmpty)
        #expect(catalog.warnings.map(\.key) == ["colour", "timout", "retry.dealy"])
        #expect(catalog.warnings.map(\.nearest) == [nil, "timeout", "delay"])
    }

    @Test func paramsOfAnyShapePassWithAWarning() throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""params": [1, 2]"#)
        let catalog = folder.load()
        #expect(try catalog.entry("a").definition.params == [1, 2])
        #expect(catalog.warnings.map(\.key) == ["params"])
    }

    /// The ones that fail every run were not read to their end: a pre-service may stand there.
    @Test(arguments: [("{", true), ("", true), ("[{]", false), ("\"text\"", false), ("[3]", false), ("nope", true)])
    func aBrokenFileStopsOnlyItsServiceUnlessItMayHoldAPreService(_ text: String, _ failsClosed: Bool) throws {
        let folder = try RegistryFolder()
        try folder.service("good")
        try folder.write(text, to: "bad/settings.json")
        let catalog = folder.load()
        #expect(catalog.names == ["good"])
        #expect(catalog.errors.map(\.file) == ["bad/settings.json"])
        #expect((catalog.failure != nil) == failsClosed)
        #expect(catalog.services.first { $0.name == "bad" }?.hasErrors == true)
    }

    @Test func tellsWhereAFileIsNotJSON() throws {
        let folder = try RegistryFolder()
        try folder.write("{\n  \"jobName\": \"a\"\n  \"worker\": 1\n}", to: "bad/settings.json")
        let message = try #require(folder.load().errors.first?.message)
        #expect(message.contains("not JSON"))
        #expect(message.contains("line 3, column 3"))
    }

    @Test func aSettingsFolderInsteadOfAFileIsAnError() throws {
        let folder = try RegistryFolder()
        try folder.service("good")
        try folder.write("", to: "odd/settings.json/x")
        let catalog = folder.load()
        #expect(catalog.names == ["good"])
        #expect(catalog.errors.map(\.service) == ["odd"])
    }

    @Test func aRegistryThatIsNotThereFailsEveryRun() throws {
        let folder = try RegistryFolder()
        try FileManager.default.removeItem(at: folder.url)
        let catalog = folder.load()
        #expect(catalog.failure?.code == "settings-error")
        #expect(catalog.errors.count == 1)
        #expect(catalog.errors.first?.message.contains(folder.url.path) == true)
    }

    @Test func otherFilesAndFoldersAreNoServices() throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.service(".hidden")
        try folder.service("__pycache__")
        try folder.write("", to: "shared/__init__.py")
        try folder.write("", to: "README.md")
        let catalog = folder.load()
        #expect(catalog.services.map(\.name) == ["a"])
        #expect(catalog.problems.isEmpty)
    }

    @Test func listsServicesWithJobsAndProblems() throws {
        let folder = try RegistryFolder(pipeline: #"{"preServices": [{\#(RegistryFolder.entry("anon"))}]}"#)
        try folder.write("", to: "anon.py")
        try folder.service("b", #""oops": 1"#)
        try folder.service("off", #""disabled": true"#)
        try folder.write("[]", to: "empty/settings.json")
        try folder.write("x", to: "nothing/__init__.py")
        let services = folder.load().services
        #expect(services.map(\.name) == ["b", "empty", "off", "pipeline"])
        #expect(services.map { $0.jobs.map(\.name) } == [["b"], [], [], ["anon"]])
        #expect(services.map(\.problems.count) == [1, 1, 0, 0])
        #expect(services[2].disabled.map(\.name) == ["off"])
    }

    @Test func sortsByPositionThenFolderThenFile() throws {
        let folder = try RegistryFolder()
        try folder.write("[{\(RegistryFolder.entry("z2"))}, {\(RegistryFolder.entry("z1"))}]", to: "b/settings.json")
        try folder.service("a")
        try folder.service("c", #""sortPosition": 1.5"#)
        try folder.service("d", #""sortPosition": -1"#)
        try folder.service("e", #""sortPosition": 1000"#)
        #expect(folder.load().names == ["d", "c", "a", "z2", "z1", "e"])
    }

    @Test func preAndPostServicesKeepTheirOrder() throws {
        let list = ["b", "a", "c"].map { "{\(RegistryFolder.entry($0, $0 == "c" ? "\"sortPosition\": 0" : ""))}" }.joined(separator: ",")
        let folder = try RegistryFolder(pipeline: #"{"preServices": [\#(list)], "postServices": {\#(RegistryFolder.entry("p"))}}"#)
        let catalog = folder.load()
        #expect(catalog.names == ["c", "b", "a", "p"])
        #expect(try catalog.entry("b").stage == .pre)
        #expect(try catalog.entry("b").sortPosition == 1)
        #expect(try catalog.entry("b").service == "pipeline")
        #expect(try catalog.entry("p").stage == .post)
    }
}

@Suite struct CatalogNameTests {
    @Test func theSecondOfTwoEqualNamesIsRefusedNamingBothPlaces() throws {
        let folder = try RegistryFolder(pipeline: #"{"postServices": [{\#(RegistryFolder.entry("x"))}]}"#)
        try folder.service("x")
        try folder.write("{\(RegistryFolder.entry("y"))}", to: "one/settings.json")
        try folder.write("{\(RegistryFolder.entry("y"))}", to: "two/settings.json")
        let catalog = folder.load()
        #expect(catalog.entries.map(\.file) == ["one/settings.json", "settings.json"])
        #expect(catalog.errors.map(\.service) == ["two", "x"])
        #expect(catalog.errors[0].message.contains("one/settings.json") && catalog.errors[0].message.contains("two/settings.json"))
        #expect(catalog.failure == nil)
    }

    @Test func aDisabledEntryReservesNoName() throws {
        let folder = try RegistryFolder()
        try folder.write(
            "[{\(RegistryFolder.entry("a", "\"disabled\": true"))}, {\(RegistryFolder.entry("a"))}]",
            to: "a/settings.json",
        )
        let catalog = folder.load()
        #expect(catalog.problems.isEmpty)
        #expect(catalog.names == ["a"])
    }

    @Test func mistakesInADisabledEntryAreOnlyWarnings() throws {
        let folder = try RegistryFolder(pipeline: #"{"preServices": [{"jobName": "anon", "disabled": 1, "timeout": "soon"}]}"#)
        let catalog = folder.load()
        #expect(catalog.failure == nil)
        #expect(catalog.errors.isEmpty)
        #expect(catalog.warnings.count == 3)
    }

    @Test func circlesAreShownAsAPathAndEveryMemberIsRefused() throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""dependsOn": "c""#)
        try folder.service("b", #""dependsOn": ["free", "a"]"#)
        try folder.service("c", #""dependsOn": "b""#)
        try folder.service("free")
        try folder.service("me", #""dependsOn": "me""#)
        try folder.service("tail", #""dependsOn": "a""#)
        let catalog = folder.load()
        #expect(catalog.names == ["free", "tail"])
        #expect(catalog.errors.map(\.value) == ["a -> c -> b -> a", "b -> a -> c -> b", "c -> b -> a -> c", "me -> me"])
        #expect(catalog.warnings.map(\.service) == ["tail"])
        #expect(catalog.warnings[0].message.contains("has errors in its settings"))
    }

    @Test func dependenciesAcrossStagesPointBackwardsOnly() throws {
        let folder = try RegistryFolder(
            pipeline: """
                {"preServices": [{\(RegistryFolder.entry("pre"))}],
                 "postServices": [{\(RegistryFolder.entry("post", #""dependsOn": ["pre", "fine", "export"]"#))}]}
                """
        )
        try folder.service("fine", #""dependsOn": "pre""#)
        try folder.service("wrong", #""dependsOn": "post""#)
        let catalog = folder.load()
        #expect(catalog.names == ["pre", "fine", "post"])
        #expect(catalog.errors.map(\.entry) == ["wrong"])
        #expect(catalog.errors[0].message.contains("post-services"))
        #expect(catalog.failure == nil)
    }

    @Test func aDependencyOnADisabledJobIsAWarning() throws {
        let folder = try RegistryFolder()
        try folder.service("off", #""disabled": true"#)
        try folder.service("a", #""dependsOn": "off""#)
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.warnings.map(\.entry) == ["a"])
        #expect(catalog.warnings[0].message.contains("is disabled, so this job is skipped in every run"))
    }

    @Test func aPreServiceThatDependsOnADisabledJobIsWarnedOfFailingRuns() throws {
        let pre = [RegistryFolder.entry("off", #""disabled": true"#), RegistryFolder.entry("anon", #""dependsOn": "off""#)]
        let folder = try RegistryFolder(pipeline: #"{"preServices": [{\#(pre[0])}, {\#(pre[1])}]}"#)
        try folder.write("", to: "anon/__init__.py")
        let catalog = folder.load()
        #expect(catalog.warnings.map(\.entry) == ["anon"])
        #expect(catalog.warnings[0].message.contains("every run that it accepts fails"))
    }
}

@Suite struct PipelineSettingsTests {
    /// The file may be missing because someone lost it, and with it the pre-service that takes patients' names away.
    @Test(arguments: ["missing", "dead link", "circle", "folder"])
    func aFileThatIsMissingOrCannotBeReadFailsClosed(_ kind: String) async throws {
        let folder = try RegistryFolder(pipeline: nil)
        try folder.service("a")
        switch kind {
        case "dead link": try FileManager.default.createSymbolicLink(atPath: folder.settings.path, withDestinationPath: "nowhere")
        case "circle": try FileManager.default.createSymbolicLink(atPath: folder.settings.path, withDestinationPath: "settings.json")
        case "folder": try folder.write("", to: "settings.json/x")
        default: break
        }
        let catalog = folder.load()
        let failure = try #require(catalog.failure)
        #expect(failure.code == "settings-error")
        #expect(failure.text.contains(#"{} in this file means "no pre and post services""#))
        #expect(failure.subject == "settings.json")
        let problem = try #require(catalog.errors.first)
        #expect(catalog.errors.first?.service == "pipeline")
        #expect(problem.allowed?.contains(#"{} in this file means "no pre and post services""#) == true)
        let planned = try await Planned(folder)
        #expect(planned.asked.isEmpty)
        #expect(planned.plan.failure == failure)
    }

    @Test func anEmptyObjectMeansNoPreAndPostServices() throws {
        let folder = try RegistryFolder(pipeline: "{}")
        try folder.service("a")
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.failure == nil)
        #expect(catalog.problems.isEmpty)
    }

    @Test func aMissingFileThatWasAskedForFailsClosed() throws {
        let folder = try RegistryFolder(pipeline: nil)
        let catalog = ServiceCatalog.load(registry: folder.url, settings: folder.url.appending(path: "elsewhere.json"))
        #expect(catalog.failure?.code == "settings-error")
        #expect(catalog.errors.count == 1)
    }

    @Test(arguments: [
        "{", "[]", #"{"preServices": 1}"#, #"{"preServces": []}"#, #"{"headerFields": "PatientID"}"#, #"{"headerFields": [1]}"#,
        #"{"fullTags": "no"}"#, #"{"preServices": [{"jobName": "anon"}]}"#,
        #"{"preServices": [{"jobName": "anon", "worker": "a.b", "callback": "a.b", "dependsOn": "anon"}]}"#,
    ])
    func whatMakesPreServicesDoubtfulFailsClosed(_ text: String) throws {
        let folder = try RegistryFolder(pipeline: text)
        try folder.service("a")
        let catalog = folder.load()
        #expect(catalog.failure?.code == "settings-error")
        #expect(!catalog.problems.isEmpty)
    }

    @Test(arguments: [#"{"postServices": 1}"#, #"{"postService": []}"#, #"{"colour": 1}"#, #"{"postServices": [{"jobName": "p"}]}"#])
    func otherMistakesDoNot(_ text: String) throws {
        let folder = try RegistryFolder(pipeline: text)
        try folder.service("a")
        let catalog = folder.load()
        #expect(catalog.failure == nil)
        #expect(catalog.names == ["a"])
        #expect(!catalog.problems.isEmpty)
    }

    @Test(arguments: [
        ("{}", PipelineSettings(headerFields: [], fullTags: true)),
        (#"{"headerFields": []}"#, PipelineSettings(headerFields: [], fullTags: false)),
        (#"{"headerFields": ["Modality"]}"#, PipelineSettings(headerFields: ["Modality"], fullTags: false)),
        (#"{"headerFields": ["Modality"], "fullTags": true}"#, PipelineSettings(headerFields: ["Modality"], fullTags: true)),
        (#"{"fullTags": false}"#, PipelineSettings(headerFields: [], fullTags: false)),
    ])
    func tagsAreFilteredOnlyWhenAskedFor(_ text: String, _ expected: PipelineSettings) throws {
        #expect(try RegistryFolder(pipeline: text).load().pipeline == expected)
    }

    @Test func filteringKeepsTheTreeAndTheIds() {
        let settings = PipelineSettings(headerFields: ["Modality"], fullTags: false)
        let flat: JSONValue = ["Modality": "CT", "PatientName": "X", "seriesId": "s", "studyId": "t", "patientId": "p", "dcmpath": "d"]
        #expect(
            settings.filtered(flat, level: .series)
                == ["Modality": "CT", "seriesId": "s", "studyId": "t", "patientId": "p", "dcmpath": "d"]
        )
        let tree: JSONValue = [
            "id": "p", "tags": ["PatientName": "X"], "dcmpath": "d", "seriesIds": ["s"],
            "studies": [
                ["id": "t", "tags": ["StudyDate": "1"], "series": [["id": "s", "tags": ["Modality": "CT", "PatientName": "X"]]]]
            ],
        ]
        #expect(
            settings.filtered(tree, level: .study)
                == [
                    "id": "p", "tags": [:], "dcmpath": "d", "seriesIds": ["s"],
                    "studies": [["id": "t", "tags": [:], "series": [["id": "s", "tags": ["Modality": "CT"]]]]],
                ]
        )
        #expect(PipelineSettings().filtered(tree, level: .study) == tree)
    }
}
