import Foundation
import Jobs
import Registry
import Testing

/// `when` and `requires` in settings files, and what planning makes of them.
@Suite struct ConditionPlanTests {
    private let headers: JSONValue = [
        "tags": [:], "studies": [["id": "t", "tags": [:], "series": [["id": "s", "tags": ["Modality": "CT", "PatientID": "4711"]]]]],
    ]

    private func plan(
        _ folder: RegistryFolder, _ answers: [String: CallbackAnswer.Verdict] = [:], headers: JSONValue? = nil
    ) async throws -> (RunPlan, asked: [String]) {
        let full = headers ?? self.headers
        var asked: [String] = []
        let input = PlanInput(level: .study, headers: ["dcmpath": "d"], fullHeaders: full, instances: ["s": 12])
        let plan = try await RunPlanner.plan(event: input, catalog: folder.load()) { questions, headers, _ in
            // Callbacks see the filtered headers.
            #expect(headers == ["dcmpath": "d"])
            asked += questions.map(\.jobName)
            return questions.map { CallbackAnswer(answers[$0.jobName] ?? .accepted(added: ["x": 1])) }
        }
        return (plan, asked)
    }

    @Test("A condition stands in for the callback, or is asked before it")
    func conditions() async throws {
        let folder = try RegistryFolder()
        try folder.write(#"{"jobName": "alone", "worker": "alone.w", "when": {"Modality": "CT"}}"#, to: "alone/settings.json")
        try folder.write(#"{"jobName": "no", "worker": "no.w", "when": {"Modality": "MR"}}"#, to: "no/settings.json")
        try folder.write(#"{"jobName": "open", "worker": "open.w", "when": {"not": {"Rows": 5}}}"#, to: "open/settings.json")
        try folder.service("both", #""when": {"instances": {"min": 10}}"#)
        try folder.service("never", #""when": {"instances": {"min": 20}}"#)
        try folder.service("after", #""dependsOn": "no""#)
        #expect(folder.load().problems.isEmpty)
        let (plan, asked) = try await plan(folder)
        #expect(asked == ["after", "both"])
        #expect(plan.addedParams == ["alone": [:], "both": ["x": 1]])
        let decisions = Dictionary(plan.decisions.map { ($0.job, $0) }) { first, _ in first }
        #expect(decisions["alone"]?.reason.text == "Its condition holds: Modality is CT.")
        #expect(decisions["both"]?.reason.text == "Its callback accepted this study. Its condition holds: the series has 12 instances.")
        #expect(decisions["no"]?.verdict == .declined)
        #expect(decisions["no"]?.reason == Reason("condition", "Its condition does not hold: Modality is CT, not MR."))
        #expect(decisions["open"]?.verdict == .declined)
        #expect(decisions["open"]?.reason.text == "Its condition cannot be decided, and so does not hold: Rows is missing.")
        #expect(decisions["never"]?.verdict == .declined)
        #expect(decisions["after"]?.reason.text == "Skipped, because no, which it depends on, has a condition that does not hold.")
    }

    @Test("A pre-service whose condition cannot be decided fails the run closed; one whose condition fails does not")
    func preServices() async throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.write(#"{"jobName": "anon", "worker": "anon.w", "stage": "pre", "when": {"Rows": 5}}"#, to: "anon/settings.json")
        let (failed, asked) = try await plan(folder)
        #expect(failed.failure?.code == "pre-condition-undecided")
        #expect(failed.failure?.subject == "anon")
        #expect(failed.jobs.isEmpty && asked.isEmpty)
        #expect(failed.decisions.map(\.verdict) == [.failed, .skipped])
        try folder.write(#"{"jobName": "anon", "worker": "anon.w", "stage": "pre", "when": {"Modality": "MR"}}"#, to: "anon/settings.json")
        let (plan, _) = try await plan(folder)
        #expect(plan.failure == nil)
        #expect(plan.jobs.map(\.definition.name) == ["export", "a"])
    }

    @Test func aBrokenConditionIsAnErrorOfItsEntry() throws {
        let folder = try RegistryFolder()
        try folder.service("good", #""when": {"Modality": "CT"}"#)
        try folder.service("bad", #""when": {"any": [{"SliceThickness": {"mim": 1}}]}"#)
        try folder.service("twice", #""when": {"Modality": "CT", "Modality": "MR"}"#)
        try folder.service("note", #""params": {"when": {"a": 1, "a": 2}}"#)
        try folder.service("near", #""when": {"Modalty": "CT"}"#)
        let catalog = folder.load()
        #expect(catalog.names == ["good", "near", "note"])
        #expect(catalog.errors.map(\.key) == ["when.any[0].SliceThickness.mim", nil])
        #expect(catalog.errors.first?.nearest == "min")
        #expect(catalog.warnings.map(\.key) == ["when.Modalty", "a"])
        #expect(CatalogReport(catalog).text.contains("when Modality is CT"))
        #expect(CatalogReport(catalog).json["services"]?.array?[1]["jobs"]?.array?[0]["when"] == "Modality is CT")
    }

    @Test("What is required has to be installed, as a service or as a job; else the whole service is broken")
    func requirements() throws {
        let folder = try RegistryFolder(pipeline: #"{"preServices": [{\#(RegistryFolder.entry("anon"))}]}"#)
        try folder.write("", to: "anon/__init__.py")
        try folder.write("{\(RegistryFolder.entry("job-of-b"))}", to: "b/settings.json")
        try folder.service("off", #""disabled": true"#)
        try folder.service("a", #""requires": ["b", "job-of-b", "off", "anon", "c"]"#)
        try folder.service("c", #""requires": "a""#)
        let whole = folder.load()
        #expect(whole.errors.isEmpty)
        #expect(whole.names.contains("a") && whole.names.contains("c"))
        try folder.write(
            "[{\(RegistryFolder.entry("x", #""requires": "anonn""#))}, {\(RegistryFolder.entry("y"))}]", to: "x/settings.json")
        let catalog = folder.load()
        #expect(catalog.errors.map(\.entry) == ["x", "y"])
        #expect(catalog.errors.first?.nearest == "anon")
        #expect(catalog.errors.map(\.key) == ["requires", "requires"])
        #expect(catalog.brokenEntries.compactMap(\.name) == ["x", "y"])
        #expect(catalog.failure == nil)
        try folder.service("p", #""stage": "pre", "requires": "nobody""#)
        #expect(folder.load().failure?.code == "settings-error")
    }
}
