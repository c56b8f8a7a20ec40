import Foundation
import Jobs

extension SampleLedger {
    /// The ids of the runs that `fillHospital` makes.
    struct Hospital: Sendable {
        var succeeded: String
        var active: String
        var failed: String
        var retrying: String
        var dead: String
        var cancelled: String
        var declined: String
        var paused: String
        var reprocessed: String
    }

    static let traceback = """
        Traceback (most recent call last):
          File "dcm2nii/worker.py", line 42, in run
            subprocess.run(command, check=True, capture_output=True)
          File "/usr/lib/python3.11/subprocess.py", line 571, in run
            raise CalledProcessError(retcode, process.args, output=stdout, stderr=stderr)
        subprocess.CalledProcessError: Command '['dcm2niix', '-z', 'y']' returned non-zero exit status 2.
        """

    /// A morning in a hospital: a run in each state, with everything that the pages can show.
    func fillHospital(older: Int = 60) throws -> Hospital {
        try addWorker("hal.4711.a1", channels: ["default", "gpu"], slots: 2)
        try addWorker("hal.4712.b2", channels: ["default"], slots: 2)
        try addWorker("titan.99.c3", channels: ["gpu"], slots: 1, seen: 400)
        try addServices()
        try pause("gpu", by: "operator")
        for index in 0..<older {
            let resource = Self.resource(100 + index)
            let ago = 4000 + Double(index) * 731
            let event = try addEvent(resource: resource, secondsAgo: ago)
            try addRun(
                event: event, resource: resource, secondsAgo: ago, state: .succeeded, duration: 41 + Double(index % 7), jobs: Self.done())
        }
        try addEvent(
            resource: Self.resource(1), level: "study", secondsAgo: 3000, filtered: ("modality", "Modality US is not one of CT, MR."))
        try addEvent(
            resource: Self.resource(2), level: "study", secondsAgo: 2000,
            filtered: ("own-result", "This system stored it itself: loop protection."))
        try addEvent(resource: Self.resource(3), secondsAgo: 1500, filtered: ("modality", "Modality DX is not one of CT, MR."))
        try addDeadMessage(queue: "dcm.ingest.v1", reason: "not a JSON document")
        let declinedEvent = try addEvent(resource: Self.resource(9), secondsAgo: 1300)
        let declined = try addRun(
            event: declinedEvent, resource: Self.resource(9), secondsAgo: 1300, state: .declined,
            reason: Reason("declined", "No service accepted it."), duration: 0.4,
            decisions: [
                Decision(
                    job: "dcm2nii", service: "dcm2nii", stage: .services, verdict: .declined,
                    reason: Reason("callback-declined", "The callback returned False."), duration: 0.012)
            ])
        let failed = try addFailedRun()
        let dead = try addDeadRun()
        return Hospital(
            succeeded: try addSucceededRun(), active: try addActiveRun(), failed: failed, retrying: try addRetryingRun(), dead: dead,
            cancelled: try addCancelledRun(), declined: declined, paused: try addPausedRun(), reprocessed: try addReprocessedRun(of: failed)
        )
    }

    static func resource(_ number: Int) -> String {
        let block = String(UInt32(truncatingIfNeeded: number &* 2_654_435_761), radix: 16)
        let padded = String(repeating: "0", count: 8 - block.count) + block
        return [padded, "1f6d4a10", "9b1d2c33", "44aa55bb", "66cc77dd"].joined(separator: "-")
    }

    private func addServices() throws {
        func definition(
            _ name: String, _ service: String, _ stage: Stage, channel: String = "default", retry: RetryPolicy = .never
        ) -> JobDefinition {
            JobDefinition(name: name, service: service, stage: stage, entry: "\(service).worker", channel: channel, retry: retry)
        }
        try addService("anonymizer", jobs: [definition("anonymize", "anonymizer", .pre)])
        try addService("dcm2nii", jobs: [definition("dcm2nii", "dcm2nii", .services, retry: RetryPolicy(max: 2, delay: 30))])
        try addService("preview", jobs: [definition("preview", "preview", .services)])
        try addService(
            "lesions", jobs: [definition("lesion-segmentation", "lesions", .services, channel: "gpu")],
            problems: [
                [
                    "severity": "warning", "file": "lesions/settings.json", "entry": "lesion-segmentation", "key": "timout",
                    "message": "there is no key timout, so it is ignored.", "value": "\"30m\"", "nearest": "timeout",
                ]
            ])
        try addService("storage", jobs: [definition("storageManager", "storage", .post)])
        try addService(
            "broken", jobs: [],
            problems: [
                [
                    "severity": "error", "file": "broken/settings.json", "entry": "register", "key": "priority",
                    "message": "\"hihg\" is not a priority.", "value": "\"hihg\"",
                    "allowed": "urgent, high, default, medium, low, or 4 to 0", "nearest": "high",
                ]
            ])
    }

    /// export -> anonymize -> dcm2nii -> preview + lesions -> storage
    private static func graph(_ states: [JobState]) -> [SampleJob] {
        var jobs = [
            SampleJob(name: "export", service: "", stage: .export),
            SampleJob(name: "anonymize", service: "anonymizer", stage: .pre, stageNeeds: [0]),
            SampleJob(name: "dcm2nii", service: "dcm2nii", stageNeeds: [0, 1], params: ["compression": 6, "orient": true]),
            SampleJob(name: "preview", service: "preview", needs: [2], stageNeeds: [0, 1]),
            SampleJob(name: "lesion-segmentation", service: "lesions", channel: "gpu", priority: .high, needs: [2], stageNeeds: [0, 1]),
            SampleJob(name: "storageManager", service: "storage", stage: .post, priority: .low, stageNeeds: [0, 1, 2, 3, 4]),
        ]
        let times: [(Double, Double, Double)] = [
            (0.1, 0.4, 6), (6.1, 6.6, 11), (11.1, 13, 24), (24.1, 24.4, 27), (24.1, 25, 38), (38.1, 38.3, 41),
        ]
        for index in jobs.indices {
            jobs[index].state = states[index]
            let (queued, started, finished) = times[index]
            switch states[index] {
            case .succeeded, .failed, .dead:
                jobs[index].queued = queued
                jobs[index].started = started
                jobs[index].finished = finished
                jobs[index].worker = index % 2 == 0 ? "hal.4711.a1" : "hal.4712.b2"
                jobs[index].token = 1
                jobs[index].reason = Reason("succeeded", "Ended well at attempt 1.")
            case .running:
                jobs[index].queued = queued
                jobs[index].started = started
                jobs[index].worker = "hal.4711.a1"
                jobs[index].token = 1
                jobs[index].reason = Reason("running", "Runs on worker hal.4711.a1.", subject: "hal.4711.a1")
            case .ready, .dispatched, .retrying:
                jobs[index].queued = queued
                jobs[index].reason = Reason(
                    states[index] == .ready ? "ready" : "queued", "Waits in channel \(jobs[index].channel) for a worker.")
            case .cancelled, .skipped: jobs[index].finished = finished
            case .waiting: break
            }
        }
        return jobs
    }

    private static func attempts(_ jobs: [SampleJob], except skipped: Set<Int> = []) -> [SampleAttempt] {
        jobs.enumerated().compactMap { index, job in
            guard !skipped.contains(index), let started = job.started, let worker = job.worker else { return nil }
            let exit = job.finished.map { finished in
                JobExit(
                    outcome: job.state == .succeeded ? .succeeded : .failed, kind: job.state == .succeeded ? .completed : .exception,
                    failure: job.failure, exitCode: job.state == .succeeded ? 0 : 1, result: job.result,
                    usage: JobExit.Usage(wall: finished - started, user: (finished - started) * 0.8, system: 0.3, peakMemory: 231_000_000),
                    startedAt: Date(timeIntervalSince1970: 0), finishedAt: Date(timeIntervalSince1970: 1))
            }
            return SampleAttempt(job: index, token: 1, worker: worker, claimed: started, ended: job.finished, exit: exit)
        }
    }

    static func done() -> [SampleJob] { graph([.succeeded, .succeeded, .succeeded, .succeeded, .succeeded, .succeeded]) }

    private static let decisions: [Decision] = [
        Decision(
            job: "anonymize", service: "anonymizer", stage: .pre, verdict: .accepted,
            reason: Reason("callback-accepted", "The callback accepted it."), duration: 0.031),
        Decision(
            job: "dcm2nii", service: "dcm2nii", stage: .services, verdict: .accepted,
            reason: Reason("callback-accepted", "The callback accepted it."), duration: 0.008),
        Decision(
            job: "preview", service: "preview", stage: .services, verdict: .accepted,
            reason: Reason("callback-accepted", "The callback accepted it."), duration: 0.004),
        Decision(
            job: "lung-nodules", service: "lungs", stage: .services, verdict: .declined,
            reason: Reason("callback-declined", "The callback returned False."), duration: 0.006),
        Decision(
            job: "bone-age", service: "bones", stage: .services, verdict: .failed,
            reason: Reason("callback-raised", "The callback raised KeyError."), duration: 0.009,
            output: "Traceback (most recent call last):\n  File \"bones/callback.py\", line 9, in accept\n    KeyError: 'BodyPartExamined'"),
    ]

    private func addSucceededRun() throws -> String {
        let resource = Self.resource(4)
        let event = try addEvent(
            resource: resource, secondsAgo: 700, snapshot: "snap-grown", follows: "snap-first",
            series: [Series(id: Self.resource(41), instances: 108), Series(id: Self.resource(42), instances: 12)],
            refused: [Self.resource(43): ["code": "image-type", "text": "ImageType holds LOCALIZER."]])
        var jobs = Self.done()
        jobs[2].result = ["output": "nifti/head.nii.gz", "volumes": 1, "patient_name": "ROE^RICHARD", "spacing": [0.957, 0.957, 1.5]]
        var attempts = Self.attempts(jobs)
        attempts[3].exit?.artifacts = [
            .init(name: "Middle slice", path: "preview/head.png", kind: "image"),
            .init(name: "Volume", path: "nifti/head.nii.gz", kind: "nifti"),
            .init(name: "Gone", path: "preview/gone.png", kind: "image"),
            .init(name: "Outside", path: "../logs/secret.txt", kind: "text"),
            .init(name: "Linked", path: "preview/link.txt", kind: "text"),
        ]
        attempts[3].exit?.log = "runs/preview.log"
        try writeFile(
            "logs/runs/preview.log",
            Data("\u{1B}[32mINFO\u{1B}[0m reading nifti/head.nii.gz\nINFO middle slice is 54\nINFO wrote preview/head.png\n".utf8))
        try writeFile("data/preview/head.png", Self.picture)
        try writeFile("data/nifti/head.nii.gz", Data([0x1f, 0x8b, 0, 1, 2, 3]))
        try writeFile("logs/secret.txt", Data("treasure".utf8))
        try FileManager.default.createSymbolicLink(
            at: data.appending(path: "preview/link.txt"), withDestinationURL: logs.appending(path: "secret.txt"))
        return try addRun(
            event: event, resource: resource, secondsAgo: 700, state: .succeeded, duration: 41,
            addedParams: ["dcm2nii": ["output": "nifti/head.nii.gz", "PatientID": "MRN-5521"], "preview": [:]], jobs: jobs,
            attempts: attempts, decisions: Self.decisions)
    }

    private func addActiveRun() throws -> String {
        let resource = Self.resource(5)
        let event = try addEvent(resource: resource, secondsAgo: 21)
        let jobs = Self.graph([.succeeded, .succeeded, .running, .waiting, .waiting, .waiting])
        var attempts = Self.attempts(jobs)
        attempts[2].progress = ["fraction": 0.42, "text": "converting slice 45 of 108"]
        let id = try addRun(
            event: event, resource: resource, secondsAgo: 21, state: .active, jobs: jobs, attempts: attempts, decisions: Self.decisions)
        try writeFile(
            "logs/runs/\(id)/2-1-1.log", Data("Chris Rorden's dcm2niiX version\nFound 108 DICOM file(s)\nConvert 45 of 108 …\n".utf8))
        return id
    }

    private func addFailedRun() throws -> String {
        let resource = Self.resource(6)
        let event = try addEvent(resource: resource, secondsAgo: 1200)
        var jobs = Self.graph([.succeeded, .succeeded, .failed, .skipped, .skipped, .skipped])
        let failure = JobExit.Failure(
            type: "subprocess.CalledProcessError", message: "Command '['dcm2niix', '-z', 'y']' returned non-zero exit status 2.",
            traceback: Self.traceback)
        jobs[2].failure = failure
        jobs[2].attempt = 2
        jobs[2].reason = Reason("exception", "Attempt 2 failed and none is left.")
        for index in 3...5 {
            jobs[index].reason = Reason("dependency-failed", "Needs job dcm2nii, which failed.", subject: "#2")
        }
        var attempts = Self.attempts(jobs, except: [2])
        for (number, start) in [(1, 12.0), (2, 18.0)] {
            attempts.append(
                SampleAttempt(
                    job: 2, attempt: number, token: number, worker: "hal.4711.a1", claimed: start, ended: start + 5,
                    exit: JobExit(
                        outcome: .failed, kind: .exception, failure: failure, exitCode: 1,
                        usage: JobExit.Usage(wall: 5, user: 3.1, system: 0.2, peakMemory: 88_000_000),
                        startedAt: Date(timeIntervalSince1970: 0), finishedAt: Date(timeIntervalSince1970: 5))))
        }
        return try addRun(
            event: event, resource: resource, secondsAgo: 1200, state: .failed,
            reason: Reason("job-failed", "Job dcm2nii failed."), duration: 24, jobs: jobs, attempts: attempts,
            decisions: Self.decisions)
    }

    private func addDeadRun() throws -> String {
        let resource = Self.resource(7)
        let event = try addEvent(resource: resource, secondsAgo: 1000)
        var jobs = Self.graph([.succeeded, .succeeded, .succeeded, .succeeded, .dead, .skipped])
        jobs[4].reason = Reason(
            "crash-limit", "Workers were lost 3 times while they ran this job. Retry it when the cause is known.", subject: "titan.99.c3")
        jobs[4].attempt = 3
        jobs[5].reason = Reason("dependency-dead", "Needs job lesion-segmentation, which died.", subject: "#4")
        var attempts = Self.attempts(jobs, except: [4])
        for number in 1...3 {
            attempts.append(
                SampleAttempt(
                    job: 4, attempt: number, token: number, worker: "titan.99.c3", claimed: 20 + Double(number) * 4,
                    ended: 23 + Double(number) * 4,
                    lost: Reason("worker-lost", "Worker titan.99.c3 stopped renewing its lease.", subject: "titan.99.c3")))
        }
        return try addRun(
            event: event, resource: resource, secondsAgo: 1000, state: .failed,
            reason: Reason("job-dead", "Job lesion-segmentation died."), duration: 39, jobs: jobs, attempts: attempts,
            decisions: Self.decisions)
    }

    private func addRetryingRun() throws -> String {
        let resource = Self.resource(8)
        let event = try addEvent(resource: resource, secondsAgo: 40)
        var jobs = Self.graph([.succeeded, .succeeded, .retrying, .waiting, .waiting, .waiting])
        jobs[2].attempt = 2
        jobs[2].notBefore = 55
        jobs[2].retry = RetryPolicy(max: 2, delay: 30)
        jobs[2].reason = Reason("retrying", "Attempt 1 failed (timeout). Tries again after 30s, 1 of 2.")
        var attempts = Self.attempts(jobs)
        attempts.append(
            SampleAttempt(
                job: 2, worker: "hal.4712.b2", claimed: 13, ended: 25,
                exit: JobExit(
                    outcome: .failed, kind: .timeout, failure: .init(type: "timeout", message: "Ran longer than 12 s."), signal: 15,
                    startedAt: Date(timeIntervalSince1970: 0), finishedAt: Date(timeIntervalSince1970: 12))))
        return try addRun(event: event, resource: resource, secondsAgo: 40, state: .active, jobs: jobs, attempts: attempts)
    }

    private func addCancelledRun() throws -> String {
        let resource = Self.resource(10)
        let event = try addEvent(resource: resource, level: "series", secondsAgo: 900)
        var jobs = Self.graph([.succeeded, .cancelled, .cancelled, .cancelled, .cancelled, .cancelled])
        for index in 1...5 { jobs[index].reason = Reason("cancelled", "Cancelled by operator.", subject: "operator") }
        return try addRun(
            event: event, resource: resource, level: "series", secondsAgo: 900, state: .cancelled, duration: 9, jobs: jobs,
            attempts: Self.attempts(jobs))
    }

    private func addPausedRun() throws -> String {
        let resource = Self.resource(11)
        let event = try addEvent(resource: resource, level: "patient", secondsAgo: 120)
        var jobs = Self.graph([.succeeded, .succeeded, .succeeded, .succeeded, .ready, .waiting])
        jobs[4].reason = Reason("channel-paused", "Channel gpu is paused.", subject: "gpu")
        return try addRun(
            event: event, resource: resource, level: "patient", secondsAgo: 120, state: .active, jobs: jobs, attempts: Self.attempts(jobs))
    }

    private func addReprocessedRun(of run: String) throws -> String {
        let resource = Self.resource(6)
        let event = try addEvent(resource: resource, secondsAgo: 30)
        let jobs = Self.graph([.running, .waiting, .waiting, .waiting, .waiting, .waiting])
        return try addRun(
            event: event, resource: resource, secondsAgo: 5, state: .active, origin: "reprocess:\(run)", jobs: jobs,
            attempts: Self.attempts(jobs))
    }

    /// A PNG of 2 by 2 grey pixels.
    static let picture =
        Data(
            base64Encoded: "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGNgaGD4/x8ABIQCgH1nAhIAAAAASUVORK5CYII=") ?? Data()
}
