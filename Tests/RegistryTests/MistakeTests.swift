import Foundation
import Jobs
import Registry
import Testing

/// What people get to read when they write something else than they mean.
@Suite struct MistakeTests {
    @Test(
        "A key that is nearly one that changes what may happen stops the entry",
        arguments: [
            ("dependOn", "dependsOn"), ("depends_on", "dependsOn"), ("dependencies", "dependsOn"), ("storeing", "storing"),
            ("finaliser", "finalizer"), ("onfailure", "onFailure"), ("event", nil), ("evnts", "events"), ("disable", "disabled"),
            ("enabled", "disabled"), ("parms", "params"), ("whenn", "when"), ("env", "environment"), ("Callback", "callback"),
        ])
    func vital(key: String, meant: String?) throws {
        let folder = try RegistryFolder()
        try folder.service("good")
        try folder.service("a", "\"\(key)\": [\"x\"]")
        let catalog = folder.load()
        #expect(catalog.names == (meant == nil ? ["a", "good"] : ["good"]))
        #expect(catalog.errors.map(\.nearest) == (meant == nil ? [] : [meant]))
        #expect(catalog.problems.map(\.key) == [key])
        #expect(catalog.problems.first?.message.contains(key) == true)
    }

    @Test(
        "Other unknown keys are warnings; notes to people are none",
        arguments: [
            ("timout", "timeout"), ("priorty", "priority"), ("chanel", "channel"), ("retries", "retry"), ("comment", "description"),
            ("name", "jobName"), ("colour", nil),
        ])
    func harmless(key: String, meant: String?) throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""\#(key)": 1, "_note": 1, "$schema": "x", "//": "y""#)
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.problems.map(\.severity) == [.warning])
        #expect(catalog.problems.map(\.key) == [key])
        #expect(catalog.problems.map(\.nearest) == [meant])
    }

    @Test("A required key under another name is one error, which says so")
    func missing() throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobname": "a", "function": "a.b", "callback": "a.c"}"#, to: "a/settings.json")
        let catalog = folder.load()
        #expect(catalog.problems.map(\.key) == ["jobname", "function"])
        #expect(catalog.problems.map(\.nearest) == ["jobName", "worker"])
        #expect(catalog.problems[1].message == "worker is missing, and there is no key function.")
    }

    @Test("A misspelt 'storing' may have been meant: finalizers are held back", arguments: [true, false])
    func misspeltStoring(isOn: Bool) throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""storeing": \#(isOn)"#)
        #expect(folder.load().brokenEntries.map(\.isStoring) == [isOn])
    }

    @Test(
        "A misspelt key of the pipeline fails every run closed, or holds finalizers back",
        arguments: [("fulltags", true), ("headerfields", true), ("preservices", true), ("postService", false), ("tags", nil)])
    func pipeline(key: String, failsClosed: Bool?) throws {
        let folder = try RegistryFolder(pipeline: "{\"\(key)\": []}")
        try folder.service("a")
        let catalog = folder.load()
        #expect((catalog.failure != nil) == (failsClosed ?? false))
        #expect(catalog.problems.map(\.severity) == [failsClosed == nil ? .warning : .error])
        #expect(catalog.brokenEntries.contains(where: \.isStoring) == (failsClosed == false))
        #expect(catalog.problems.first?.nearest?.lowercased().hasPrefix(key.lowercased().prefix(3)) == (failsClosed != nil))
    }

    @Test("A key that stands twice: nobody knows which one counts")
    func repeated() throws {
        let folder = try RegistryFolder()
        try folder.service("good")
        try folder.service(
            "a", "\"storing\": true,\n\"params\": {\"storing\": [{\"storing\": \"{\\\"storing\\\":1}\"}]},\n\"storing\": false")
        try folder.service("b", "\"timeout\": 5,\n\"timeout\": 6")
        let catalog = folder.load()
        #expect(catalog.names == ["b", "good"])
        #expect(catalog.brokenEntries.map(\.isStoring) == [true])
        #expect(catalog.errors.count == 1)
        #expect(catalog.errors.first?.message.contains("storing stands twice in one object, at line 1 and line 3") == true)
        #expect(catalog.warnings.map(\.key) == ["timeout"])
    }

    @Test(
        "What is wrong with a file that is not JSON",
        arguments: [
            ("", "it is empty"), (" \n\n", "it is empty"), ("[{\"jobName\": \"a\"", "ends too early"),
            ("{\"jobName\": \"a", "ends too early"),
            ("// a service\n{}", "no comments"), ("{'jobName': 'a'}", "double quotation marks"),
            ("{\n \"jobName\": \"a\"\n \"worker\": \"b\"}", "line 3, column 2, and just before it; there stands \"worker\": \"b\"}"),
        ])
    func notJSON(text: String, words: String) throws {
        let folder = try RegistryFolder()
        try folder.write(text, to: "a/settings.json")
        let errors = folder.load().errors
        #expect(errors.count == 1)
        #expect(errors.first?.message.contains(words) == true, "\(errors)")
    }

    @Test("A circle through several files names them; inside one file the names are enough")
    func circles() throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""dependsOn": "b""#)
        try folder.service("b", #""dependsOn": "a""#)
        let (c, d) = (RegistryFolder.entry("c", #""dependsOn": "d""#), RegistryFolder.entry("d", #""dependsOn": "c""#))
        try folder.write("[{\(c)}, {\(d)}]", to: "c/settings.json")
        try folder.service("me", #""dependsOn": "me""#)
        let messages = folder.load().errors.map(\.message)
        #expect(messages.count == 5)
        #expect(messages.first?.contains("a (a/settings.json) -> b (b/settings.json) -> a.") == true)
        #expect(messages.contains { $0.contains(": c -> d -> c.") })
        #expect(messages.contains("the job waits for itself: me -> me."))
    }

    @Test("A callback in a folder that is not there is a warning with the nearest one")
    func callbackFolder() throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "a", "worker": "base.w", "callback": "basse.c"}"#, to: "base/settings.json")
        let catalog = folder.load()
        #expect(catalog.names == ["a"])
        #expect(catalog.warnings.map(\.key) == ["callback"])
        #expect(catalog.warnings.map(\.nearest) == ["base"])
    }

    @Test("The report is the same for people and programs")
    func report() throws {
        let folder = try RegistryFolder()
        try folder.service("good", #""retry": {"max": 2}, "storing": true"#)
        try folder.service("bad", #""priority": "hihg", "colour": 1"#)
        try folder.service("off", #""disabled": true"#)
        let report = CatalogReport(folder.load())
        #expect(report.errors == 1)
        #expect(report.warnings == 1)
        #expect(
            report.text.contains(
                "  error: bad/settings.json, entry bad, key priority\n    \"hihg\" is not a priority.\n    Allowed: urgent"))
        #expect(report.text.contains("    Did you mean \"high\"?"))
        #expect(report.text.contains("good: services, good.worker, channel default, priority default, timeout 3600 s, retries 2, storing"))
        #expect(report.text.hasSuffix("1 job can run, 1 error, 1 warning."))
        let json = report.json
        #expect(json["ok"] == false)
        #expect(json["errors"] == 1)
        let services = try #require(json["services"]?.array)
        #expect(services.map { $0["state"]?.string } == ["error", "ok", "ok"])
        let problem = try #require(services[0]["problems"]?.array?.last)
        #expect(problem["key"] == "priority")
        #expect(problem["value"] == #""hihg""#)
        #expect(problem["nearest"] == "high")
        #expect(services[2]["disabled"] == ["off"])
    }
}
