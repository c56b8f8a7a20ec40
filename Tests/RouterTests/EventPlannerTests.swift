import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry
import Testing

@testable import Router

/// Upstream's worst bug: what a callback added for one patient reached the next patient's jobs, and a result was filed into the wrong study.
@Suite(.timeLimit(.minutes(2))) struct EventPlannerTests {
    final class Tree: Sendable {
        let root = FileManager.default.temporaryDirectory.appending(path: "planner-\(UUID().uuidString)")

        init(callback: String) throws {
            try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true)
            try Data("{}".utf8).write(to: root.appending(path: "settings.json"))
            for (position, name) in ["first", "second"].enumerated() {
                let folder = root.appending(path: name)
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                let settings =
                    #"{"jobName": "\#(name)", "worker": "\#(name).work", "callback": "\#(name).callback", "sortPosition": \#(position)}"#
                try Data(settings.utf8).write(to: folder.appending(path: "settings.json"))
                try Data(callback.utf8).write(to: folder.appending(path: "__init__.py"))
            }
        }

        deinit { try? FileManager.default.removeItem(at: root) }

        var planner: EventPlanner {
            var logger = Logger(label: "planner-test")
            logger.logLevel = .error
            let host = PythonHostConfiguration(
                python: ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3", hostPath: Self.package, root: root,
                environment: ["PATH": "/usr/bin:/bin"])
            return EventPlanner(
                catalog: ServiceCatalogSource(registry: root, settings: root.appending(path: "settings.json")),
                callbacks: CallbackHost(configuration: host, timeout: .seconds(2), logger: logger), logger: logger)
        }

        static let package = URL(filePath: #filePath).resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "python")
    }

    func event(_ patient: String) -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: patient, snapshot: patient, observedAt: Date(), series: [],
            headers: ["id": .string(patient)])
    }

    @Test("A settings file that is being copied gets a moment to become whole; one that stays half fails the run")
    func halfWrittenSettings() async throws {
        let tree = try Tree(callback: "def callback(**arguments):\n    return True\n")
        let file = tree.root.appending(path: "second/settings.json")
        let whole = try Data(contentsOf: file)
        try whole.prefix(20).write(to: file)
        let planner = tree.planner
        async let copied = planner.plan(event("one"))
        // Whoever copies takes a while.
        try await Task.sleep(for: .milliseconds(500))
        try whole.write(to: file)
        let first = try await copied.plan
        #expect(first.failure == nil && first.jobs.map(\.definition.name) == ["export", "first", "second"])

        try whole.prefix(20).write(to: file)
        for name in ["settings.json", "first/settings.json", "second/settings.json"] {
            try FileManager.default.setAttributes([.modificationDate: Date() - 60], ofItemAtPath: tree.root.appending(path: name).path)
        }
        let second = try await planner.plan(event("two")).plan
        #expect(second.failure?.code == "settings-error")
    }

    @Test func whatOneEventAddsIsNeverSeenByAnotherHoweverTheyInterleave() async throws {
        // Everything that a callback can do to remember: a module's global, a default argument, the environment, its own arguments.
        let tree = try Tree(
            callback: """
                import os

                seen = []

                def callback(jobName, headers, params, added_params, kept=[], **_):
                    patient = headers["id"]
                    seen.append(patient)
                    kept.append(patient)
                    os.environ["PATIENTS"] = os.environ.get("PATIENTS", "") + patient
                    others = sorted(str(value) for value in added_params.values())
                    added_params["smuggled"] = {"patient": patient}
                    headers["smuggled"] = patient
                    return True, {"patient": patient, "seen": sorted(set(seen + kept)), "others": others, "env": os.environ["PATIENTS"]}
                """)
        let planner = tree.planner
        let patients = (0..<12).map { "patient-\($0)" }
        let plans = try await withThrowingTaskGroup(of: (String, PlannedRun).self) { group in
            for patient in patients { group.addTask { (patient, try await planner.plan(event(patient))) } }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        for patient in patients {
            let planned = try #require(plans[patient])
            #expect(Set(planned.context.addedParams.keys) == ["first", "second"])
            let text = JSONValue.object(planned.context.addedParams).text + planned.context.headers.text
            for other in patients where other != patient { #expect(!text.contains("\"\(other)\""), "\(other) is in \(patient)'s run") }
            #expect(planned.context.addedParams["first"]?["patient"]?.string == patient)
            #expect(planned.context.addedParams["second"]?["env"]?.string?.contains(patient) == true)
            #expect(planned.context.headers["smuggled"] == nil)
            #expect(planned.context.source.resourceID == patient)
        }
        #expect(Set(plans.values.map(\.context.source.dcmpath)).count == patients.count)
    }

    @Test func aCallbackThatRaisesLeavesItsTracebackAsTheReason() async throws {
        let tree = try Tree(callback: "def callback(**_):\n    print('looks at it')\n    raise ValueError('cannot decide')\n")
        let planned = try await tree.planner.plan(event("a"))
        let decision = try #require(planned.plan.decisions.first { $0.job == "first" })
        #expect(decision.verdict == .failed)
        // What it raised may hold a patient's data: the reason names the class, the rest is with what it printed.
        #expect(decision.reason.text.contains("ValueError"))
        #expect(decision.output?.contains("looks at it") == true)
        #expect(decision.output?.contains("Traceback") == true)
        #expect(decision.output?.contains("cannot decide") == true)
    }

    @Test func aServiceThatIsReplacedWhileItIsAskedIsPlannedWithItsNewSettings() async throws {
        // What an installation does at the worst moment: the callback that is asked puts new settings into its service's place.
        let tree = try Tree(
            callback: """
                import json, os, pathlib

                def callback(jobName, params, **_):
                    file = pathlib.Path(__file__).parent / "settings.json"
                    settings = json.loads(file.read_text())
                    if "params" not in settings:
                        new = file.with_suffix(".new")
                        new.write_text(json.dumps({**settings, "params": {"generation": 2}}))
                        os.replace(new, file)
                    return True, {"asked with": params}
                """)
        let planned = try await tree.planner.plan(event("a"))
        for name in ["first", "second"] {
            let job = try #require(planned.plan.jobs.first { $0.definition.name == name })
            #expect(job.definition.params == ["generation": 2])
            #expect(planned.context.addedParams[name]?["asked with"] == ["generation": 2])
        }
    }

    /// Callbacks and jobs get the tags that headerFields leaves; conditions are about the images, and cost no callback.
    @Test func conditionsSeeAllTagsAndTheCountsOfImages() async throws {
        let tree = try Tree(callback: "def callback(**_):\n    raise ValueError('must not be asked')\n")
        try Data(#"{"headerFields": ["Modality"]}"#.utf8).write(to: tree.root.appending(path: "settings.json"))
        for (name, when) in [("first", #"{"SliceThickness": {"max": 2}, "instances": {"min": 10}}"#), ("second", #"{"Modality": "MR"}"#)] {
            let settings = #"{"jobName": "\#(name)", "worker": "\#(name).work", "when": \#(when)}"#
            try Data(settings.utf8).write(to: tree.root.appending(path: "\(name)/settings.json"))
        }
        let event = EventMessage(
            server: "orthanc", level: .study, resourceID: "t", snapshot: "t", observedAt: Date(),
            series: [EventMessage.Series(id: "s", instances: 12)],
            headers: [
                "id": "t", "tags": [:],
                "studies": [["id": "t", "tags": [:], "series": [["id": "s", "tags": ["Modality": "CT", "SliceThickness": "1"]]]]],
            ])
        let planned = try await tree.planner.plan(event)
        #expect(planned.plan.jobs.map(\.definition.name) == ["export", "first"])
        let reasons = Dictionary(uniqueKeysWithValues: planned.plan.decisions.map { ($0.job, $0.reason) })
        #expect(reasons.mapValues(\.code) == ["first": "accepted", "second": "condition"])
        #expect(reasons["first"]?.text == "Its condition holds: SliceThickness is 1; the series has 12 instances.")
        #expect(planned.context.headers["studies"]?.array?.first?["series"]?.array?.first?["tags"] == ["Modality": "CT"])
    }

    @Test func aHostThatCannotBeStartedIsAnErrorOfTheWholeEvent() async throws {
        let tree = try Tree(callback: "def callback(**_):\n    return True\n")
        let host = PythonHostConfiguration(
            python: "/nowhere/python3", hostPath: Tree.package, root: tree.root, environment: [:])
        let planner = EventPlanner(
            catalog: ServiceCatalogSource(registry: tree.root, settings: tree.root.appending(path: "settings.json")),
            callbacks: CallbackHost(configuration: host, logger: Logger(label: "t")), logger: Logger(label: "t"))
        let plans: () async throws -> Void = { _ = try await planner.plan(event("a")) }
        await #expect(throws: PythonHostError.self) { try await plans() }
        let failure = planner.failure(of: event("a"), Reason("planning-given-up", "No."))
        #expect(failure.plan.jobs.isEmpty)
        #expect(failure.plan.failure?.code == "planning-given-up")
    }
}
