import Foundation
import Jobs
import Registry
import Testing

/// Plans one event over a registry written for the test; every callback accepts unless told otherwise.
struct Planned {
    var plan: RunPlan
    var asked: [[CallbackQuestion]]

    init(
        _ folder: RegistryFolder,
        level: ResourceLevel = .study,
        defaults: CatalogDefaults = CatalogDefaults(),
        answers: [String: CallbackAnswer.Verdict] = [:],
    ) async throws {
        var asked: [[CallbackQuestion]] = []
        plan = try await RunPlanner.plan(
            event: PlanInput(level: level, headers: ["dcmpath": "dicom/1"]),
            catalog: folder.load(defaults),
        ) { questions, _, _ in
            asked.append(questions)
            return questions.map { CallbackAnswer(answers[$0.jobName] ?? .accepted(added: [:]), duration: 0.1) }
        }
        self.asked = asked
    }

    var names: [String] { plan.jobs.map(\.definition.name) }

    func job(_ name: String) throws -> RunPlan.Entry {
        try #require(plan.jobs.first { $0.definition.name == name })
    }

    /// `parent condition origin` of every edge of a job.
    func edges(_ name: String) throws -> [String] {
        try job(name).dependencies.map { "\(plan.jobs[$0.parent].definition.name) \($0.condition) \($0.origin)" }
    }

    func decision(_ name: String) throws -> Decision {
        try #require(plan.decisions.first { $0.job == name })
    }
}

private let raised = CallbackAnswer.Verdict.failed(
    JobExit.Failure(type: "KeyError", message: "Doe^Jane", traceback: "Traceback: Doe^Jane")
)

private func pipeline(pre: [String] = [], post: [String] = []) -> String {
    let lists = [pre, post].map { $0.map { "{\($0)}" }.joined(separator: ",") }
    return "{\"preServices\": [\(lists[0])], \"postServices\": [\(lists[1])]}"
}

private func entry(_ name: String, _ members: String = "") -> String { RegistryFolder.entry(name, members) }

@Suite struct PlannerVerdictTests {
    @Test func asksEachStageOnceInOrder() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon")], post: [entry("store")]))
        try folder.service("late")
        try folder.service("soon", #""sortPosition": 1, "params": {"x": 1}"#)
        let planned = try await Planned(folder)
        #expect(planned.asked.map { $0.map(\.jobName) } == [["anon"], ["soon", "late"], ["store"]])
        #expect(planned.asked[1][0] == CallbackQuestion(jobName: "soon", entry: "soon.callback", params: ["x": 1], stage: .services))
        #expect(planned.names == ["export", "anon", "soon", "late", "store"])
        #expect(planned.plan.decisions.map(\.verdict) == Array(repeating: .accepted, count: 4))
        #expect(planned.plan.failure == nil)
    }

    @Test func addedParamsGrowFromStageToStage() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon")], post: [entry("store")]))
        try folder.service("a")
        try folder.service("b")
        var seen: [[String: JSONValue]] = []
        let plan = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: folder.load()) { questions, _, added in
            seen.append(added)
            return questions.map { question in
                switch question.jobName {
                case "anon": CallbackAnswer(.accepted(added: ["x": 1]))
                case "a": CallbackAnswer(.accepted(added: "no object"))
                case "b": CallbackAnswer(.declined)
                default: CallbackAnswer(.accepted(added: [:]))
                }
            }
        }
        #expect(seen == [[:], ["anon": ["x": 1]], ["anon": ["x": 1], "a": [:]]])
        #expect(plan.addedParams == ["anon": ["x": 1], "a": [:], "store": [:]])
    }

    @Test func anEventWhoseServicesAllDeclineHasNoJobs() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon")], post: [entry("store")]))
        try folder.service("a")
        let planned = try await Planned(folder, answers: ["a": .declined])
        #expect(planned.plan.jobs.isEmpty)
        #expect(planned.plan.addedParams.isEmpty)
        #expect(planned.plan.failure == nil)
        #expect(planned.plan.decisions.map(\.verdict) == [.accepted, .declined, .skipped])
        #expect(planned.plan.decisions.map(\.reason.code) == ["nothing-to-do", "declined", "nothing-to-do"])
        #expect(planned.asked.count == 2)
    }

    @Test func aRegistryWithoutServicesAsksNobody() async throws {
        let planned = try await Planned(try RegistryFolder())
        #expect(planned.asked.isEmpty)
        #expect(planned.plan == RunPlan())
    }

    @Test func aPreCallbackThatFailsStopsTheRun() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon"), entry("other")], post: [entry("store")]))
        try folder.service("a")
        let planned = try await Planned(folder, answers: ["anon": raised])
        #expect(planned.plan.jobs.isEmpty)
        #expect(planned.plan.addedParams.isEmpty)
        #expect(planned.plan.failure?.code == "pre-callback-failed")
        #expect(planned.plan.failure?.subject == "anon")
        #expect(planned.asked.map { $0.map(\.jobName) } == [["anon", "other"]])
        #expect(planned.plan.decisions.map(\.verdict) == [.failed, .accepted, .skipped, .skipped])
        #expect(try planned.decision("a").reason.code == "planning-failed")
    }

    @Test func preServicesWithBrokenSettingsStopTheRun() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon", #""timeout": "soon""#)]))
        try folder.service("a")
        let planned = try await Planned(folder)
        #expect(planned.asked.isEmpty)
        #expect(planned.plan.jobs.isEmpty)
        #expect(planned.plan.failure?.subject == "anon")
        #expect(try planned.decision("anon").verdict == .failed)
    }

    @Test(arguments: ["disabled", "level", "declined", "skipped"])
    func aPreServiceThatIsSkippedStopsTheRun(_ kind: String) async throws {
        let members = ["disabled": #""disabled": true"#, "level": #""events": "series""#]
        // The finalizer comes before what follows it, and is held back itself.
        let base =
            kind == "skipped"
            ? [entry("store", #""storing": true, "dependsOn": "no""#), entry("no"), entry("base", #""finalizer": true"#)]
            : [entry("base", members[kind] ?? "")]
        let folder = try RegistryFolder(
            pipeline: pipeline(pre: base + [entry("anon", #""dependsOn": "base""#), entry("free")], post: [entry("post")])
        )
        try folder.service("a", #""dependsOn": "anon", "onFailure": "run""#)
        let planned = try await Planned(folder, answers: ["no": .declined, "base": kind == "declined" ? .declined : .accepted(added: [:])])
        #expect(planned.plan.failure?.code == "pre-service-skipped")
        #expect(planned.plan.failure?.subject == (kind == "skipped" ? "store" : "anon"))
        #expect(planned.plan.jobs.isEmpty)
        #expect(planned.plan.addedParams.isEmpty)
        #expect(planned.asked.count == 1)
        #expect(try planned.decision("anon").verdict == .skipped)
        #expect(try planned.decision("a").reason.code == "planning-failed")
        #expect(try planned.decision("post").reason.code == "planning-failed")
    }

    @Test func aPreServiceThatNeedsNobodyOrOnlyCleansUpStopsNothing() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(
                pre: [
                    entry("base"), entry("anon", #""dependsOn": "base", "onFailure": "run""#),
                    entry("store", #""storing": true, "dependsOn": "base", "onFailure": "run""#), entry("off", #""disabled": true"#),
                    entry("tidy", #""finalizer": true, "dependsOn": "late""#), entry("late", #""finalizer": true, "dependsOn": "base""#),
                ]
            )
        )
        try folder.service("a")
        let planned = try await Planned(folder, answers: ["base": .declined])
        #expect(planned.plan.failure == nil)
        #expect(try planned.job("anon").skipped == nil)
        #expect(try planned.job("a").skipped == nil)
    }

    @Test func aCleanUpThatIsHeldBackBeforeTheServicesStopsNothing() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon"), entry("tidy", #""finalizer": true"#)]))
        try folder.service("a")
        try folder.service("broken", #""storing": true, "timeout": "x""#)
        let planned = try await Planned(folder)
        #expect(planned.plan.failure == nil)
        #expect(try planned.job("tidy").skipped?.subject == "broken")
        #expect(try planned.edges("a") == ["anon succeeded stage"])
    }

    @Test func anotherCallbackThatFailsStopsOnlyItsJob() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("store")]))
        try folder.service("a")
        try folder.service("b")
        let planned = try await Planned(folder, answers: ["a": raised, "store": raised])
        #expect(planned.names == ["export", "b"])
        #expect(planned.plan.failure == nil)
        let decision = try planned.decision("a")
        #expect(decision.verdict == .failed)
        #expect(decision.output == "Traceback: Doe^Jane")
        #expect(decision.reason.text.contains("KeyError"))
        #expect(!decision.reason.text.contains("Doe"))
        #expect(decision.duration == 0.1)
    }

    /// Neither "declined" nor "succeeded" is true of a run that lost a job to a broken callback.
    @Test func theFirstCallbackThatFailsIsTheRunsConcern() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("store")]))
        try folder.service("a")
        try folder.service("b")
        try folder.service("broken", #""timeout": "x""#)
        let calm = try await Planned(folder, answers: ["a": .declined])
        #expect(calm.plan.concern == nil)
        let both = try await Planned(folder, answers: ["b": raised, "store": raised])
        #expect(both.names == ["export", "a"])
        #expect(both.plan.concern?.code == "callback-failed")
        #expect(both.plan.concern?.subject == "b")
        #expect(both.plan.concern?.text.contains("KeyError") == true)
        #expect(both.plan.concern?.text.contains("Doe") == false)
        let post = try await Planned(folder, answers: ["store": raised])
        #expect(post.plan.concern?.subject == "store")
        #expect(post.plan.failure == nil)
        let nothing = try await Planned(folder, answers: ["a": .declined, "b": raised])
        #expect(nothing.plan.jobs.isEmpty)
        #expect(nothing.plan.concern?.subject == "b")
    }

    @Test func aMissingAnswerIsAFailedCallback() async throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.service("b")
        let plan = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: folder.load()) { _, _, _ in
            [CallbackAnswer(.accepted(added: [:]))]
        }
        #expect(plan.jobs.map(\.definition.name) == ["export", "a"])
        #expect(plan.decisions.map(\.verdict) == [.accepted, .failed])
        #expect(plan.concern?.subject == "b")
    }

    @Test func aHostThatCannotAnswerIsTheCallersError() async throws {
        struct NoHost: Error {}
        let folder = try RegistryFolder()
        try folder.service("a")
        let catalog = folder.load()
        await #expect(throws: NoHost.self) {
            try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: catalog) { _, _, _ in throw NoHost() }
        }
    }

    @Test func levelsDisabledAndBrokenEntriesAreDecidedWithoutAsking() async throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        try folder.service("broken", #""timeout": "x""#)
        try folder.service("off", #""disabled": true"#)
        try folder.service("series", #""events": ["series", "patient"]"#)
        let planned = try await Planned(folder)
        #expect(planned.asked.map { $0.map(\.jobName) } == [["a"]])
        #expect(try planned.decision("series").reason.code == "event-level")
        #expect(try planned.decision("off").reason.code == "disabled")
        #expect(try planned.decision("broken").reason.code == "settings-error")
        #expect(try planned.decision("broken").verdict == .failed)
        let other = try await Planned(folder, level: .series)
        #expect(other.names == ["export", "a", "series"])
    }

    /// Upstream kept one dictionary for the life of its process, so that patient A's results were filed into patient B's study.
    @Test func nothingOfOneEventShowsUpInAnother() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("anon")], post: [entry("store")]))
        try folder.service("report")
        let catalog = folder.load()
        func run(_ patient: String, declines: Bool) async throws -> (plan: RunPlan, seen: [[String: JSONValue]]) {
            var seen: [[String: JSONValue]] = []
            let headers: JSONValue = ["seriesId": .string(patient)]
            let plan = try await RunPlanner.plan(event: PlanInput(level: .series, headers: headers), catalog: catalog) {
                questions,
                headers,
                added in
                seen.append(added)
                let owner = headers["seriesId"] ?? .null
                return questions.map {
                    CallbackAnswer($0.jobName == "report" && declines ? .declined : .accepted(added: ["storage": owner]))
                }
            }
            return (plan, seen)
        }
        let (first, _) = try await run("A", declines: false)
        #expect(first.addedParams["report"] == ["storage": "A"])
        let (second, seenBySecond) = try await run("B", declines: true)
        #expect(second.addedParams.isEmpty)
        let (third, seenByThird) = try await run("C", declines: false)
        #expect(Set(third.addedParams.values) == [["storage": "C"]])
        for seen in seenBySecond + seenByThird {
            #expect(!seen.values.contains { $0 == ["storage": "A"] })
        }
        #expect(seenBySecond.first == [:])
        #expect(seenByThird.first == [:])
    }
}

@Suite struct PlannerGraphTests {
    @Test func stagesWaitForTheOnesBefore() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(
                pre: [entry("p1"), entry("p2", #""dependsOn": "p1""#)],
                post: [entry("z1"), entry("z2", #""dependsOn": "z1""#)],
            )
        )
        try folder.service("s1", #""dependsOn": "p2""#)
        try folder.service("s2")
        let planned = try await Planned(folder)
        #expect(planned.names == ["export", "p1", "p2", "s1", "s2", "z1", "z2"])
        #expect(try planned.edges("export") == [])
        #expect(try planned.edges("p1") == ["export succeeded stage"])
        #expect(try planned.edges("p2") == ["export succeeded stage", "p1 succeeded declared"])
        #expect(try planned.edges("s1") == ["p1 succeeded stage", "p2 succeeded declared"])
        #expect(try planned.edges("s2") == ["p1 succeeded stage", "p2 succeeded stage"])
        let all = ["p1", "p2", "s1", "s2"].map { "\($0) succeeded stage" }
        #expect(try planned.edges("z1") == all)
        #expect(try planned.edges("z2") == all + ["z1 succeeded declared"])
    }

    @Test func theExportIsTheFirstJob() async throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""priority": "low""#)
        try folder.service("b", #""priority": "urgent", "dependsOn": "export""#)
        let planned = try await Planned(folder, defaults: CatalogDefaults(priority: .medium, channel: "site"))
        #expect(
            planned.plan.jobs[0].definition
                == JobDefinition(
                    name: "export",
                    service: "",
                    stage: .export,
                    kind: .export,
                    entry: "",
                    channel: "site",
                    priority: .urgent,
                    timeout: .after(seconds: 3600),
                    retry: RetryPolicy(max: 5, delay: 5),
                )
        )
        #expect(try planned.edges("a") == ["export succeeded stage"])
        #expect(try planned.edges("b") == ["export succeeded declared"])
    }

    @Test func parentsStandBeforeTheirChildrenWhateverTheirPosition() async throws {
        let folder = try RegistryFolder()
        try folder.service("a", #""dependsOn": "c", "sortPosition": 1"#)
        try folder.service("b", #""sortPosition": 2"#)
        try folder.service("c", #""sortPosition": 3"#)
        #expect(try await Planned(folder).names == ["export", "b", "c", "a"])
    }

    @Test func aJobWithoutItsDependencyIsSkippedAndSoAreItsOwn() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("post")]))
        try folder.service("base")
        try folder.service("child", #""dependsOn": "base""#)
        try folder.service("grandchild", #""dependsOn": ["child", "free"]"#)
        try folder.service("free")
        let planned = try await Planned(folder, answers: ["base": .declined])
        #expect(planned.names == ["export", "child", "free", "grandchild", "post"])
        #expect(try planned.job("child").skipped?.code == "dependency-not-accepted")
        #expect(try planned.job("child").skipped?.subject == "base")
        #expect(try planned.job("child").skipped?.text.contains("declined") == true)
        #expect(try planned.job("grandchild").skipped?.subject == "child")
        #expect(try planned.edges("grandchild") == ["export succeeded stage", "free succeeded declared"])
        #expect(try planned.edges("post") == ["free succeeded stage"])
        #expect(Set(planned.plan.addedParams.keys) == ["free", "post"])
        #expect(try planned.decision("child").verdict == .skipped)
    }

    @Test func skippedJobsHandNothingToLaterStages() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("post")]))
        try folder.service("base")
        try folder.service("child", #""dependsOn": "base""#)
        try folder.service("free")
        var seen: [String: JSONValue] = [:]
        _ = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: folder.load()) { questions, _, added in
            seen = added
            return questions.map { CallbackAnswer($0.jobName == "base" ? .declined : .accepted(added: ["of": .string($0.jobName)])) }
        }
        #expect(seen == ["free": ["of": "free"]])
    }

    @Test func onlySkippedServicesAreNoReasonToDownload() async throws {
        let folder = try RegistryFolder()
        try folder.service("base")
        try folder.service("child", #""dependsOn": "base""#)
        let planned = try await Planned(folder, answers: ["base": .declined])
        #expect(planned.plan.jobs.isEmpty)
        #expect(try planned.decision("child").verdict == .skipped)
        #expect(try planned.decision("child").reason.code == "dependency-not-accepted")
    }

    @Test(arguments: ["disabled", "level", "broken", "raised"])
    func everyKindOfAbsenceSkips(_ kind: String) async throws {
        let folder = try RegistryFolder()
        let members = ["disabled": #""disabled": true"#, "level": #""events": "series""#, "broken": #""timeout": "x""#]
        try folder.service("base", members[kind] ?? "")
        try folder.service("child", #""dependsOn": "base""#)
        try folder.service("brave", #""dependsOn": "base", "onFailure": "run""#)
        let planned = try await Planned(folder, answers: kind == "raised" ? ["base": raised] : [:])
        #expect(try planned.job("child").skipped?.subject == "base")
        #expect(try planned.job("brave").skipped == nil)
        #expect(try planned.edges("brave") == ["export succeeded stage"])
    }

    @Test func anActiveJobIsFoundBesideADisabledOneOfTheSameName() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(post: [entry("base", #""disabled": true"#), entry("post", #""dependsOn": "base""#)])
        )
        try folder.service("base")
        let planned = try await Planned(folder)
        #expect(try planned.job("post").skipped == nil)
        #expect(try planned.edges("post") == ["base succeeded declared"])
    }

    @Test func onFailureRunWaitsForTheEndOfDeclaredDependenciesOnly() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(pre: [entry("anon")], post: [entry("post", #""dependsOn": "a", "onFailure": "run""#)])
        )
        try folder.service("a")
        try folder.service("b", #""dependsOn": ["a", "anon"], "onFailure": "run""#)
        let planned = try await Planned(folder)
        // The pre-service stays a must: nothing may run on data that it did not prepare.
        #expect(try planned.edges("b") == ["anon succeeded declared", "a finished declared"])
        #expect(try planned.edges("post") == ["anon succeeded stage", "a finished declared", "b succeeded stage"])
    }

    @Test func aFinalizerWaitsForTheEndOfEverything() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(
                pre: [entry("anon")],
                post: [
                    entry("clean", #""finalizer": true, "dependsOn": "tidy""#), entry("tidy", #""finalizer": true"#),
                    entry("store", #""storing": true"#),
                ],
            )
        )
        try folder.service("a")
        let planned = try await Planned(folder)
        #expect(planned.names == ["export", "anon", "a", "store", "tidy", "clean"])
        let all = ["anon", "a", "store"].map { "\($0) finished stage" }
        #expect(try planned.edges("tidy") == all)
        #expect(try planned.edges("clean") == all + ["tidy finished declared"])
    }

    @Test func whatFollowsAFinalizerIsNotWaitedFor() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(
                post: [
                    entry("f1", #""finalizer": true"#), entry("f2", #""finalizer": true"#), entry("x", #""dependsOn": "f2""#),
                    entry("y", #""dependsOn": "f1""#), entry("store"),
                ]
            )
        )
        try folder.service("a")
        let planned = try await Planned(folder)
        #expect(try planned.edges("f1") == ["a finished stage", "store finished stage"])
        #expect(try planned.edges("f2") == ["a finished stage", "store finished stage"])
        #expect(try planned.edges("x") == ["a succeeded stage", "f2 succeeded declared"])
    }

    @Test func cleaningUpRunsAlsoWhenThereWasNothingToStore() async throws {
        let folder = try RegistryFolder(
            pipeline: pipeline(post: [entry("store", #""storing": true"#), entry("clean", #""finalizer": true, "dependsOn": "store""#)])
        )
        try folder.service("a")
        let planned = try await Planned(folder, answers: ["store": .declined])
        #expect(try planned.job("clean").skipped == nil)
        #expect(try planned.edges("clean") == ["a finished stage"])
    }

    @Test(arguments: ["", #""dependsOn": "store""#])
    func cleaningUpIsHeldBackWhenNobodyKnowsWhetherToStore(_ dependsOn: String) async throws {
        let members = [#""finalizer": true"#, dependsOn].filter { !$0.isEmpty }.joined(separator: ", ")
        for store in [#""storing": true, "sortPosition": 2"#, #""storing": true, "timeout": "x""#] {
            let folder = try RegistryFolder(pipeline: pipeline(post: [entry("clean", members), entry("store", store)]))
            try folder.service("a")
            let planned = try await Planned(folder, answers: ["store": raised])
            #expect(try planned.job("clean").skipped?.code == "dependency-not-accepted")
            #expect(try planned.job("clean").skipped?.subject == "store")
        }
    }

    @Test(arguments: [
        "[[]]", #"{"jobName": "store" "storing": true}"#,
        #"{\#(entry("store", #""storing": 1"#))}"#, #"{\#(entry("store", #""storing": "true""#))}"#,
        #"{\#(entry("store", #""storing": "false""#))}"#, #"{\#(entry("store", #""storing": {}"#))}"#,
    ])
    func cleaningUpIsHeldBackByWhatMayBeStoring(_ text: String) async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("clean", #""finalizer": true"#)]))
        try folder.service("a")
        try folder.write(text, to: "s/settings.json")
        let planned = try await Planned(folder)
        let skipped = try #require(try planned.job("clean").skipped)
        #expect(skipped.code == "dependency-not-accepted")
        #expect(skipped.subject == (text.contains("callback") ? "store" : "s/settings.json"))
        #expect(try planned.job("a").skipped == nil)
        #expect(planned.plan.failure == nil)
        #expect(planned.plan.concern == nil)
        #expect(planned.plan.decisions.contains { $0.service == "s" && $0.verdict == .failed })
    }

    @Test(arguments: [#"{"postServices": 1}"#, #"{"postService": []}"#])
    func cleaningUpIsHeldBackByPostServicesThatCannotBeRead(_ text: String) async throws {
        let folder = try RegistryFolder(pipeline: text)
        try folder.service("a")
        try folder.service("clean", #""finalizer": true"#)
        #expect(try await Planned(folder).job("clean").skipped?.subject == "settings.json")
    }

    @Test(arguments: [#""timeout": "x""#, #""timeout": "x", "storing": null"#, #""timeout": "x", "storing": false"#])
    func cleaningUpIsNotHeldBackByWhatClearlyStoresNothing(_ members: String) async throws {
        let folder = try RegistryFolder(pipeline: pipeline(post: [entry("clean", #""finalizer": true"#)]))
        try folder.service("a")
        try folder.service("broken", members)
        try folder.write("", to: "shared/__init__.py")
        try folder.write("", to: "README.md")
        #expect(try await Planned(folder).job("clean").skipped == nil)
    }

    @Test func servicesBehindAFinalizingPreServiceStillNeedTheirImages() async throws {
        let folder = try RegistryFolder(pipeline: pipeline(pre: [entry("tidy", #""finalizer": true"#)]))
        try folder.service("a")
        #expect(try await Planned(folder).edges("a") == ["export succeeded stage", "tidy succeeded stage"])
    }
}
