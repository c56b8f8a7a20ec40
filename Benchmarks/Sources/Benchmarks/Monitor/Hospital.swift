import Foundation
import Jobs
import Pipeline

/// What a made-up hospital has processed: which services, for which images, and how that ends.
enum Hospital {
    /// One kind of study and what is done with it; seven jobs each, the export among them.
    struct Practice: Sendable {
        var modality: String
        var level: ResourceLevel
        /// The three that do the work, the last of them after the first.
        var services: [String]
        /// Out of a thousand studies.
        var share: Int
    }

    /// How a run goes.
    enum Course: Sendable, Hashable {
        case succeeds
        /// One job fails once, and not again.
        case retries
        case fails(Int)
        /// A job that trying again cannot mend, or whose workers are lost three times.
        case dies(byCrash: Bool)
        case cancelled
        /// Nobody wants it.
        case declined
        /// Stays where it is after so many jobs.
        case stops(after: Int)

        /// Out of a thousand runs.
        var share: Int {
            switch self {
            case .succeeds: 907
            case .retries: 35
            case .fails: 6
            case .dies: 2
            case .cancelled: 5
            case .declined: 19
            case .stops: 0
            }
        }
    }

    static let practices = [
        Practice(modality: "CT", level: .study, services: ["dcm2nii", "preview", "lungs"], share: 330),
        Practice(modality: "CT", level: .study, services: ["dcm2nii", "preview", "lesions"], share: 150),
        Practice(modality: "MR", level: .study, services: ["dcm2nii", "preview", "volumes"], share: 250),
        Practice(modality: "MR", level: .series, services: ["dcm2nii", "quality", "prostate"], share: 69),
        Practice(modality: "DX", level: .study, services: ["quality", "preview", "boneage"], share: 150),
        Practice(modality: "US", level: .patient, services: ["quality", "preview", "cardiac"], share: 50),
        // Rare enough that each of its runs is looked up by itself.
        Practice(modality: "MG", level: .study, services: ["quality", "preview", "mammo"], share: 1),
    ]
    static let courses: [Course] =
        [.succeeds, .retries, .cancelled, .declined, .dies(byCrash: true), .dies(byCrash: false)] + failures.indices.map(Course.fails)

    /// Of all runs, those that have jobs.
    static var shareWithJobs: Double {
        let all = courses.reduce(0) { $0 + $1.share }
        return 1 - Double(Course.declined.share) / Double(all)
    }

    static let workers = (1...10).map { "worker-\($0)" }
    static let filters = ["modality", "too-few-images", "description", "own-result"]

    /// - Note: `CASE` becomes another number in each copy.
    private static let failures: [(kind: JobExit.Kind, type: String, message: String)] = [
        (.exception, "RuntimeError", "CUDA error: out of memory (tried to allocate 2.50 GiB, case CASE)"),
        (.exception, "subprocess.CalledProcessError", "dcm2niix returned non-zero exit status 2 for case CASE"),
        (.exception, "ValueError", "slices of series CASE are not equally spaced"),
        (.timeout, "Timeout", "The job ran longer than its timeout of 600 s."),
        (.outOfMemory, "OutOfMemory", "Killed at 12.0 GiB of memory."),
    ]

    static let services: [(name: String, stage: Stage, channel: String)] = [
        ("anonymizer", .pre, "default"), ("dcm2nii", .services, "default"), ("preview", .services, "default"),
        ("quality", .services, "default"), ("lungs", .services, "gpu"), ("lesions", .services, "gpu"), ("volumes", .services, "gpu"),
        ("prostate", .services, "gpu"), ("boneage", .services, "gpu"), ("cardiac", .services, "gpu"), ("mammo", .services, "gpu"),
        ("storage", .post, "default"), ("cleaner", .post, "default"),
    ]

    static func definition(_ name: String) -> JobDefinition {
        guard let service = services.first(where: { $0.name == name }) else {
            return JobDefinition(name: "export", service: "", stage: .export, kind: .export, entry: "")
        }
        return JobDefinition(
            name: name, service: name, stage: service.stage, entry: "\(name).worker.main",
            params: ["threshold": 0.5, "labels": ["liver", "spleen"], "model": .string("\(name)-2.1")], channel: service.channel,
            priority: name == "storage" ? .high : .default, retry: RetryPolicy(max: 1), isFinalizer: name == "cleaner",
            isStoring: name == "storage")
    }

    static func plan(_ practice: Practice, _ course: Course) -> RunPlan {
        let names = ["export", "anonymizer"] + practice.services + ["storage", "cleaner"]
        let isDeclined = course == .declined
        let decisions = names.map { name in
            let definition = definition(name)
            return Decision(
                job: name, service: definition.service, stage: definition.stage, verdict: isDeclined ? .declined : .accepted,
                reason: isDeclined ? Reason("declined", "Its callback did not want it.") : Reason("accepted", "Accepted by its callback."),
                duration: 0.012, output: name == "preview" ? "2 series of 3 are axial\n" : nil)
        }
        guard !isDeclined else { return RunPlan(decisions: decisions) }
        func declared(_ parents: Int...) -> [Dependency] { parents.map { Dependency(parent: $0, origin: .declared) } }
        let dependencies = [
            [], declared(0), declared(1), declared(1), declared(2),
            [2, 3, 4].map { Dependency(parent: $0, condition: .finished, origin: .stage) },
            (0...5).map { Dependency(parent: $0, condition: .finished, origin: .stage) },
        ]
        return RunPlan(
            jobs: zip(names, dependencies).map { .init(definition: definition($0), dependencies: $1) }, decisions: decisions)
    }

    static func event(_ practice: Practice, resource: String, at now: Date, filtered: String? = nil) -> EventMessage {
        let tags: [String: JSONValue] = [
            "Modality": .string(practice.modality), "StudyDescription": "Thorax with contrast", "PatientName": "DOE^JANE",
            "PatientID": "4711",
            "BodyPartExamined": "CHEST", "Manufacturer": "ACME", "SliceThickness": "1.0", "StationName": "CT-2",
        ]
        let series = (1...3).map { number in
            JSONValue.object(["id": .string("\(resource)-\(number)"), "tags": .object(tags), "instances": .integer(120)])
        }
        return EventMessage(
            server: "orthanc", level: practice.level, resourceID: resource, snapshot: "\(resource):1", observedAt: now,
            filtered: filtered.map { Reason($0, "Stopped by the filter '\($0)'.") },
            series: (1...3).map { .init(id: "\(resource)-\($0)", instances: 120) },
            headers: ["id": .string(resource), "tags": .object(tags), "series": .array(series)])
    }

    /// How a job of a run ends at an attempt; nil when its worker is lost.
    static func exit(_ course: Course, _ job: Int, _ attempt: Int, of run: RunID, from start: Date, to end: Date) -> JobExit? {
        var exit = JobExit(
            outcome: .succeeded, kind: .completed, exitCode: 0, result: ["volume": 12.5, "files": 3],
            artifacts: [.init(name: "report.json", path: "results/\(run)/report.json", kind: "json")],
            usage: .init(wall: end.timeIntervalSince(start), user: 10, system: 1, peakMemory: 1 << 28), startedAt: start, finishedAt: end,
            log: "runs/\(run)/\(job)-\(attempt).log", tail: "reading 120 slices\nwriting report.json\n")
        func fail(_ failure: (kind: JobExit.Kind, type: String, message: String)) {
            exit.outcome = .failed
            exit.kind = failure.kind
            exit.result = nil
            exit.artifacts = []
            let trace = (0..<8).map { "  File \"worker.py\", line \($0 * 17), in step\($0)\n    result = process(volume)\n" }.joined()
            exit.failure = .init(
                type: failure.type, message: failure.message,
                traceback: "Traceback (most recent call last):\n\(trace)\(failure.type): \(failure.message)")
        }
        guard job == 4 else { return exit }
        switch course {
        case .retries where attempt == 1: fail(failures[0])
        case .fails(let number): fail(failures[number])
        case .dies(byCrash: true): return nil
        case .dies(byCrash: false):
            fail((.brokenService, "ModuleNotFoundError", "No module named 'torch'"))
            exit.isRetriable = false
        default: break
        }
        return exit
    }
}
