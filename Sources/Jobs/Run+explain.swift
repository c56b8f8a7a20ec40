import Foundation

extension Run {
    /// Why the job stands where it stands.
    ///
    /// - Parameter index: the position of one of the run's jobs.
    package func explain(job index: Int, surroundings: JobSurroundings) -> Explanation {
        guard let job = existing(index) else { return Explanation(.unexpected, "The run has no job at position \(index).") }
        let question = JobQuestion(run: self, job: job, surroundings: surroundings)
        return switch job.state {
        case .waiting: question.waiting
        case .ready, .dispatched: question.queued
        case .running: question.running
        case .retrying: question.retrying
        case .succeeded: question.succeeded
        case .failed, .dead: job.explainedFailure ?? question.unexpected
        case .cancelled: question.cancelled
        case .skipped: question.skipped
        }
    }
}

private struct JobQuestion {
    typealias Subject = Explanation.Subject

    var run: Run
    var job: Job
    var surroundings: JobSurroundings

    private var channel: Subject { Subject(kind: .channel, id: job.definition.channel) }
    private var service: Subject { Subject(kind: .service, id: job.definition.service) }
    private var worker: Subject { job.lastWorker }
    private var person: Subject { Subject(kind: .person, id: job.reason.subject ?? "someone") }
    var unexpected: Explanation { Explanation(.unexpected, job.reason.text) }
}

// MARK: - Not yet

extension JobQuestion {
    var waiting: Explanation {
        let open = job.dependencies.filter { $0.satisfiedBy == nil }.map(\.parent)
        let subjects = open.map(subject)
        let names = list(open.map { "\(run.jobs[$0].definition.name) (\(run.jobs[$0].state.rawValue))" })
        return switch job.cause {
        case .waitingForDependencies: Explanation(.waitsForJobs, "Waits for \(names).", subjects)
        case .retried: Explanation(.waitsForJobs, "Retried by \(person.name), it waits for \(names).", subjects + [person])
        case .rerun:
            Explanation(.waitsForJobs, "To be done once more at the wish of \(person.name), it waits for \(names).", subjects + [person])
        default: unexpected
        }
    }

    var queued: Explanation {
        if let obstacle { return obstacle }
        let place = "for a worker of channel \(channel.name), priority \(job.priority.name)"
        let since = job.queuedAt
        return switch (job.state, job.cause) {
        case (.ready, .ready):
            Explanation(
                .sending, "All that it depends on has ended; its message is on the way to channel \(channel.name).", [channel], since: since
            )
        case (.dispatched, .queued):
            Explanation(.queued, "Waits\(since.map { " since \(time($0))" } ?? "") \(place).", [channel], since: since)
        case (.ready, .raised), (.dispatched, .raised):
            Explanation(
                .raised, "Waited so long that ageing raised it from \(job.definition.priority.name); it waits \(place).", [channel],
                since: since)
        case (.ready, .prioritySet), (.dispatched, .prioritySet):
            Explanation(.prioritySet, "\(person.name) set its priority; it waits \(place).", [person, channel], since: since)
        case (.ready, .workerLost):
            Explanation(
                .workerLost, "Worker \(lostWorker.name) was lost with it (\(job.crashes) of \(Run.crashLimit)); it waits \(place).",
                [lostWorker, channel], since: since)
        case (.ready, .released):
            Explanation(
                .released, "Worker \(lostWorker.name) handed it back unfinished; it waits \(place).", [lostWorker, channel], since: since)
        case (.ready, .notHere), (.dispatched, .notHere):
            Explanation(
                .notHere, "Worker \(lostWorker.name) has not what it wants (\(wants)); it waits \(place).",
                [lostWorker, channel], since: since)
        case (.ready, .retried): Explanation(.retried, "Retried by \(person.name), it waits \(place).", [person, channel], since: since)
        case (.ready, .rerun):
            Explanation(.rerun, "Done once more at the wish of \(person.name), it waits \(place).", [person, channel], since: since)
        case (.ready, .hintLost):
            Explanation(
                .hintLost, "Its message got lost in the broker and has been sent again; it waits \(place).", [channel], since: since)
        case (.ready, .channelPaused):
            Explanation(.queued, "Channel \(channel.name) has just been resumed; it waits \(place).", [channel], since: since)
        case (.ready, .servicePaused):
            Explanation(
                .queued, "Service \(service.name) has just been resumed; it waits \(place).", [service, channel], since: since)
        default: unexpected
        }
    }

    /// What keeps any job of the channel from starting.
    private var obstacle: Explanation? {
        if let pause = surroundings.pause {
            let by = pause.actor.map { " by \($0)" } ?? ""
            let people = pause.actor.map { [Subject(kind: .person, id: $0)] } ?? []
            let (code, what, subject): (Explanation.Code, String, Subject) =
                switch pause.target {
                case .channel: (.channelPaused, "channel", channel)
                case .service: (.servicePaused, "service", service)
                }
            return Explanation(
                code,
                "\(what.capitalized) \(subject.name) was paused\(by) at \(time(pause.at)): the job starts when the \(what) is resumed.",
                [subject] + people, since: pause.at)
        }
        if let cause = surroundings.brokerBlocked {
            let since = surroundings.brokerBlockedSince.map { " since \(time($0))" } ?? ""
            return Explanation(
                .brokerBlocked, "RabbitMQ takes no messages\(since) (\(cause)), so no job can start.", [],
                since: surroundings.brokerBlockedSince)
        }
        if surroundings.workersOfChannel == 0, !surroundings.drainedWorkers.isEmpty {
            let drained = surroundings.drainedWorkers.map { Subject(kind: .worker, id: $0) }
            let who = drained.count == 1 ? "The only worker" : "Each of the \(drained.count) workers"
            return Explanation(
                .noWorker,
                "\(who) of channel \(channel.name) is drained and takes no new job: resume worker \(drained[0].name), or start another.",
                [channel, drained[0]], since: job.queuedAt)
        }
        if surroundings.workersOfChannel == 0 {
            return Explanation(
                .noWorker,
                "No worker serves channel \(channel.name): start one, or add the channel to a worker's WORKER_CHANNELS.", [channel],
                since: job.queuedAt)
        }
        return nil
    }

    private var wants: String {
        let resources = job.definition.resources
        let gpus = resources.gpus == 0 ? nil : resources.gpus == 1 ? "1 GPU" : "\(resources.gpus) GPUs"
        let parts = [gpus, resources.memory.map { "\(ByteCount.text($0)) of memory" }].compactMap(\.self)
        return parts.isEmpty ? "resources" : parts.joined(separator: ", ")
    }

    /// The worker that had it last: the reason's subject.
    private var lostWorker: Subject { Subject(kind: .worker, id: job.reason.subject ?? "unknown") }
}

// MARK: - Now

extension JobQuestion {
    var running: Explanation {
        let since = job.startedAt
        let until = since.flatMap { start in job.definition.timeout.seconds.map { start.addingTimeInterval(Double($0)) } }
        return switch job.cause {
        case .running:
            Explanation(
                .running, "Attempt \(job.attempt) runs on worker \(worker.name)\(since.map { " since \(time($0))" } ?? "").", [worker],
                since: since, until: until)
        case .stopping:
            Explanation(
                .stopping, "\(person.name) asked to cancel it; worker \(worker.name) has been told and has not reported its end yet.",
                [person, worker], since: since)
        default: unexpected
        }
    }

    var retrying: Explanation {
        guard job.cause == .retrying else { return unexpected }
        let retry = "retry \(job.failures) of \(job.definition.retry.max)"
        let failed = "Attempt \(job.attempt - 1) failed\(failureType)"
        guard let due = job.notBefore, due > surroundings.now else {
            if let obstacle { return obstacle }
            return Explanation(
                .retryDue, "\(failed); \(retry) is due and waits for a worker of channel \(channel.name), priority \(job.priority.name).",
                [channel], since: job.notBefore)
        }
        return Explanation(.retryLater, "\(failed); \(retry) comes at \(time(due)).", [], until: due)
    }
}

// MARK: - Ended

extension JobQuestion {
    var succeeded: Explanation {
        guard job.cause == .succeeded else { return unexpected }
        let needed = job.dependencies.map(\.parent)
        let because = needed.isEmpty ? "" : " after \(list(needed.map { run.jobs[$0].definition.name })) had ended"
        return Explanation(
            .succeeded, "Attempt \(job.attempt) succeeded on worker \(worker.name)\(at)\(because).", [worker], since: job.finishedAt)
    }

    var cancelled: Explanation {
        guard job.cause == .cancelled else { return unexpected }
        let notBegun = job.attempt == 1 ? "before it had begun" : "before attempt \(job.attempt) had begun"
        let began = job.startedAt == nil ? notBegun : "while attempt \(job.attempt) ran"
        return Explanation(.cancelled, "Cancelled by \(person.name)\(at), \(began).", [person], since: job.finishedAt)
    }

    var skipped: Explanation {
        switch job.cause {
        case .dependencyFailed: dependencyEnded(.failed)
        case .dependencyDead: dependencyEnded(.dead)
        case .dependencyCancelled: dependencyEnded(.cancelled)
        case .dependencySkipped: dependencyEnded(.skipped)
        case .dependencyNotAccepted: notAccepted
        case .planningFailed:
            Explanation(
                .planningFailed,
                "Nothing of this run may start, because planning failed: \(sentencePart(run.concern?.text ?? job.reason.text)).",
                job.reason.subject.map { [Subject(kind: .service, id: $0)] } ?? [])
        case .heldBack:
            Explanation(
                .heldBack,
                "Cleaning up is held back, because job \(culprit.name) did not carry its results out: retry that one, and this one follows.",
                [culprit], since: job.finishedAt)
        default: unexpected
        }
    }

    private func dependencyEnded(_ state: JobState) -> Explanation {
        let root = rootCause
        let behind = root.id == culprit.id ? "" : ", behind which is job \(root.name)"
        return Explanation(
            .dependencyEnded, "It needs job \(culprit.name), which \(state.ending)\(behind).",
            root.id == culprit.id ? [culprit] : [culprit, root],
            since: job.finishedAt)
    }

    private var notAccepted: Explanation {
        let name = job.reason.subject ?? "a job"
        let needs = job.definition.isFinalizer ? "which stores results or may do so" : "which it depends on"
        let subjects: [Subject]
        let what: String
        if let decision = surroundings.decisions.first(where: { $0.job == name }) {
            subjects = decision.service.isEmpty ? [] : [Subject(kind: .service, id: decision.service)]
            what =
                switch decision.verdict {
                case .declined where decision.reason.code == "declined": "was declined by its callback"
                case .declined, .skipped: "is not part of this run (\(sentencePart(decision.reason.text)))"
                case .failed: "could not be asked (\(sentencePart(decision.reason.text)))"
                case .accepted: "is not part of this run, although it was accepted"
                }
        } else {
            subjects = []
            what = "is not part of this run"
        }
        return Explanation(.dependencyNotAccepted, "Skipped, because job \(name), \(needs), \(what).", subjects)
    }
}

// MARK: - Words

extension JobQuestion {
    private func subject(_ index: Int) -> Subject {
        Subject(kind: .job, id: run.jobID(index).rawValue, name: run.jobs[index].definition.name)
    }

    /// The job that the reason names.
    private var culprit: Subject { job.reason.subject.flatMap(index(of:)).map(subject) ?? Subject(kind: .job, id: "unknown") }

    /// Where a chain of skipped jobs begins.
    private var rootCause: Subject {
        var place = job.reason.subject.flatMap(index(of:))
        while let current = place, run.jobs[current].state == .skipped, run.jobs[current].cause != .heldBack,
            let next = run.jobs[current].reason.subject.flatMap(index(of:)), next < current
        {
            place = next
        }
        return place.map(subject) ?? culprit
    }

    private func index(of id: String) -> Int? {
        guard let id = JobID(rawValue: id), id.run == run.id, run.jobs.indices.contains(id.index) else { return nil }
        return id.index
    }

    private var at: String { job.endedAt }
    private var failureType: String { job.failureType }
    private func time(_ date: Date) -> String { date.inSentences }

    private func list(_ names: [String]) -> String {
        guard names.count > 1, let last = names.last else { return names.first ?? "nothing" }
        return names.dropLast().joined(separator: ", ") + " and " + last
    }

    private func sentencePart(_ text: String) -> String { text.hasSuffix(".") ? String(text.dropLast()) : text }
}
