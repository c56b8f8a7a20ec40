import Foundation
import Jobs
import Registry
import Testing

/// `stage` in a service's own folder: installing the folder is enough to have a pre- or post-service.
@Suite struct StageTests {
    @Test func aFolderMayHoldPreAndPostServices() async throws {
        let folder = try RegistryFolder(pipeline: #"{"preServices": [{\#(RegistryFolder.entry("first"))}]}"#)
        try folder.write("", to: "first/__init__.py")
        try folder.service("a")
        try folder.service("anon", #""stage": "pre", "sortPosition": 2"#)
        try folder.service("store", #""stage": "post""#)
        try folder.service("plain", #""stage": "service", "dependsOn": "anon""#)
        let catalog = folder.load()
        #expect(catalog.problems.isEmpty)
        #expect(catalog.names == ["first", "anon", "a", "plain", "store"])
        #expect(catalog.entries.map(\.stage) == [.pre, .pre, .services, .services, .post])
        #expect(catalog.entries.map(\.sortPosition) == [1, 2, 999, 999, 1])
        #expect(try catalog.entry("anon").service == "anon")
        let planned = try await Planned(folder)
        #expect(planned.asked.map { $0.map(\.jobName) } == [["first", "anon"], ["a", "plain"], ["store"]])
        #expect(try planned.edges("a") == ["first succeeded stage", "anon succeeded stage"])
        #expect(try planned.edges("store").count == 4)
    }

    @Test func aPreServiceOfAFolderThatFailsStopsTheRun() async throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.service("anon", #""stage": "pre""#)
        let failure = CallbackAnswer.Verdict.failed(JobExit.Failure(type: "KeyError", message: "x"))
        let planned = try await Planned(folder, answers: ["anon": failure])
        #expect(planned.plan.failure?.code == "pre-callback-failed")
        #expect(planned.plan.jobs.isEmpty)
    }

    @Test(
        "Settings that have lost a pre-service, or may have, fail every run closed",
        arguments: [
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": "pre", "timeout": "x"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": "per"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": 1}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stages": "pre"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "Stage": "pre"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": "pre", "stage": "service"}"#,
            #"{"stage": "pre"}"#, #"{"jobName": "s", "stage": "pre",, }"#, #"{"jobName": "s", "work"#, "", "dead file", "dead folder",
            "folder", "lost",
        ])
    func failClosed(_ text: String) async throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        let files = FileManager.default
        switch text {
        case "dead file":
            try folder.write("", to: "s/__init__.py")
            try files.createSymbolicLink(atPath: folder.url.appending(path: "s/settings.json").path, withDestinationPath: "nowhere")
        case "dead folder": try files.createSymbolicLink(atPath: folder.url.appending(path: "s").path, withDestinationPath: "nowhere")
        case "folder": try folder.write("", to: "s/settings.json/x")
        case "lost": try folder.write(#"{"hasModule": true, "hasSettings": true}"#, to: "s/.dcm-service.json")
        default: try folder.write(text, to: "s/settings.json")
        }
        let catalog = folder.load()
        #expect(catalog.failure?.code == "settings-error")
        #expect(catalog.errors.isEmpty == false)
        let planned = try await Planned(folder)
        #expect(planned.plan.failure != nil)
        #expect(planned.asked.isEmpty)
        #expect(planned.plan.decisions.contains { $0.service == "s" && $0.verdict == .failed })
    }

    @Test(
        "Other mistakes cost nobody else anything",
        arguments: [
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": "post", "timeout": "x"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "timeout": "x"}"#, #"{"jobName": "s" "worker": "s.w"}"#,
            #"{"jobName": "s", "worker": "s.w", "callback": "s.c", "stage": "pre", "timeout": "x", "disabled": true}"#, "[[]]",
        ])
    func failOpen(_ text: String) throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.write(text, to: "s/settings.json")
        let catalog = folder.load()
        #expect(catalog.failure == nil)
        #expect(catalog.names == ["a"])
        #expect(catalog.problems.isEmpty == false)
    }

    @Test(arguments: [("per", "pre"), ("services", "service"), ("pre-service", "pre"), ("Post", "post"), ("middle", nil)])
    func aStageThatIsNoneNamesTheNearest(_ text: String, _ nearest: String?) throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""stage": "\#(text)""#)
        let problem = try #require(folder.load().errors.first)
        #expect(problem.key == "stage")
        #expect(problem.allowed == "pre, service, post")
        #expect(problem.nearest == nearest)
    }

    @Test func thePipelinesListsSayTheStageThemselves() throws {
        let folder = try RegistryFolder(
            pipeline: #"""
                {"preServices": [{\#(RegistryFolder.entry("a", #""stage": "pre""#))}],
                 "postServices": [{\#(RegistryFolder.entry("b", #""stage": "service""#))}]}
                """#)
        try folder.write("", to: "a/__init__.py")
        try folder.write("", to: "b/__init__.py")
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.errors.map(\.key) == ["stage"])
        #expect(catalog.failure == nil)
    }

    @Test("Of two jobs with one name the pre-service stays, whichever folder comes first")
    func collisions() throws {
        let folder = try RegistryFolder()
        try folder.service("a", "")
        try folder.write("{\(RegistryFolder.entry("a", #""stage": "pre""#))}", to: "z/settings.json")
        let catalog = folder.load()
        #expect(catalog.entries.map(\.stage) == [.pre])
        #expect(catalog.errors.map(\.service) == ["a"])
        #expect(catalog.failure == nil)
    }
}
