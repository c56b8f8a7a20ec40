import Foundation
import Jobs
import Registry
import Stack
import Synchronization
import Testing
import Workbench

@Suite(.timeLimit(.minutes(2))) struct ServiceTrialTests {
    private static let pair = """
        image("a/1.dcm", number=2, Modality="CT", SliceThickness="1.25", SeriesDescription="Doe")
        image("a/2", number=1, Modality="CT", SliceThickness="1.25")
        image("b.img", series="1.2.3.2", number=1, Modality="MR", ImageType=["ORIGINAL", "PRIMARY"])
        open(os.path.join(sys.argv[1], "README"), "w").write("no image")
        """

    private func trial(
        _ place: TrialPlace, _ name: String, on study: TrialStudy, dependencies: Bool = false
    ) async throws -> (ServiceTrial.Result, log: String) {
        let log = Mutex("")
        let trial = ServiceTrial(bench: place.bench, catalog: place.catalog) { event in
            switch event {
            case .log(let text): log.withLock { $0 += text }
            case .without(let job, let names): log.withLock { $0 += "without \(job) \(names)\n" }
            default: break
            }
        }
        let result = try await trial.run(
            ServiceTrial.entries(of: name, in: place.catalog, dependencies: dependencies), on: study)
        return (result, log.withLock { $0 })
    }

    @Test("A folder of images is read as Orthanc would tell it")
    func study() async throws {
        let place = try TrialPlace([:])
        let folder = try await place.images(Self.pair)
        let study = try await TrialStudy.read(folder, level: .study, on: place.bench)
        #expect(study.images == 3 && study.skipped == 1)
        #expect(study.instances.values.sorted() == [1, 2])
        // Orthanc's ids are hashes of the DICOM ones.
        #expect(study.headers["id"]?.string?.count == 44)
        let series = try #require(study.headers["studies"]?.array?.first?["series"]?.array)
        #expect(series.map { $0["tags"]?["Modality"] } == ["CT", "MR"])
        #expect(series[0]["tags"]?["InstanceNumber"] == "1" && series[1]["tags"]?["ImageType"] == "ORIGINAL\\PRIMARY")
        #expect(study.headers["tags"]?["PatientID"] == "4711" && study.headers["tags"]?["StudyInstanceUID"] == "1.2.3")
        let one = try #require(study.headers["seriesIds"]?.array?.last?.string)
        let flat = try await TrialStudy.read(folder, level: .series, series: one, on: place.bench)
        #expect(flat.headers["Modality"] == "MR" && flat.headers["seriesId"]?.string == one && flat.images == 1)
        await #expect(throws: StackError.self) { try await TrialStudy.read(folder, level: .series, on: place.bench) }
        await #expect(throws: StackError.self) { try await TrialStudy.read(place.bench.modules, level: .study, on: place.bench) }
        await #expect(throws: StackError.self) { try await TrialStudy.read(folder.appending(path: "none"), level: .study, on: place.bench) }
    }

    @Test("Callback and worker run on copies, with nothing of the stack in reach, and what they did is told")
    func runs() async throws {
        let place = try TrialPlace([
            "registry/settings.json": #"{"headerFields": ["Modality"]}"#,
            "registry/count/settings.json":
                #"{"jobName": "count", "worker": "count.worker", "callback": "count.callback", "when": {"SliceThickness": {"max": 2}, "instances": 2}}"#,
            "registry/count/__init__.py": """
            def callback(jobName, headers, params, added_params):
                tags = [series["tags"] for study in headers["studies"] for series in study["series"]]
                print("asked")
                return tags == [{"Modality": "CT"}, {"Modality": "MR"}], {"output": "count/x.txt"}
            """,
            "modules/count/__init__.py": """
            import os

            def worker(jobName, headers, params, added_params, **kwargs):
                folder = os.path.join(os.environ["DATA"], headers["dcmpath"])
                files = sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
                os.remove(files[0])
                open(files[1], "ab").write(b"x")
                output = os.path.join(os.environ["DATA"], added_params[jobName]["output"])
                os.makedirs(os.path.dirname(output))
                open(output, "w").write(str(len(files)))
                print("counted", len(files))
                print(sorted(set(os.environ) & {"AMQP_URL", "MONITOR_TOKEN"}), os.path.getsize(os.environ["ANONYMIZER_KEY_FILE"]))
                return {"files": len(files)}
            """,
        ])
        let folder = try await place.images(Self.pair)
        let study = try await TrialStudy.read(folder, level: .study, on: place.bench)
        let (result, log) = try await trial(place, "count", on: study)
        #expect(result.isGood)
        #expect(result.decisions.map(\.verdict) == [.accepted])
        #expect(
            result.decisions.first?.reason.text
                == "Its callback accepted this study. Its condition holds: SliceThickness is 1.25 (1 of 2 series); "
                + "the series has 2 instances (1 of 2 series).")
        #expect(result.decisions.first?.output == "asked\n")
        #expect(log == "counted 3\n[] 64\n")
        let outcome = try #require(result.outcomes.first)
        #expect(outcome.exit.result == ["files": 3])
        #expect(outcome.made == ["count/x.txt"] && outcome.changed.count == 1 && outcome.removed.count == 1)
        #expect(outcome.exit.usage?.peakMemory ?? 0 > 0)
        // The images themselves are as they were.
        #expect(try FileManager.default.subpathsOfDirectory(atPath: folder.path).count == 5)
    }

    @Test("Post-services, dependencies, refusals and failures")
    func others() async throws {
        let place = try TrialPlace([
            "registry/first/settings.json": #"{"jobName": "first", "command": ["./first.sh"]}"#,
            "modules/first/first.sh": "#!/bin/sh\nls \"$DCM_IMAGES\" | wc -l > \"$DCM_OUTPUTS/count.txt\"\n",
            "registry/second/settings.json":
                #"{"jobName": "second", "worker": "second.worker", "when": {"Modality": "CT"}, "dependsOn": "first", "stage": "post"}"#,
            "modules/second/__init__.py": """
            import os
            def worker(**kwargs):
                print(open(os.path.join(os.environ["DCM_RUN_OUTPUTS"], "first", "count.txt")).read().strip())
            """,
            "registry/no/settings.json": #"{"jobName": "no", "worker": "second.worker", "when": {"Modality": "US"}, "stage": "pre"}"#,
        ])
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o755], ofItemAtPath: place.bench.modules.appending(path: "first/first.sh").path)
        let study = try await TrialStudy.read(try await place.images(Self.pair), level: .study, on: place.bench)
        let (alone, log) = try await trial(place, "second", on: study)
        #expect(!alone.isGood)
        #expect(log.hasPrefix("without second [\"first\"]\n") && log.contains("FileNotFoundError"))
        #expect(alone.outcomes.map(\.exit.kind) == [.exception])
        let (both, answer) = try await trial(place, "second", on: study, dependencies: true)
        #expect(both.isGood, "\(both.outcomes.map(\.exit.failure))")
        #expect(answer == "2\n")
        #expect(both.outcomes.map(\.job.name) == ["first", "second"])
        let (refused, _) = try await trial(place, "no", on: study)
        #expect(refused.isGood && refused.outcomes.isEmpty)
        #expect(
            refused.decisions.map(\.reason.text) == [
                "Its condition does not hold: Modality is CT, not US (1 of 2 series); Modality is MR, not US (1 of 2 series)."
            ])
    }
}
