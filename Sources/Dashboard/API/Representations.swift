import Foundation
import JobStore
import Jobs

// The shapes of the JSON API. A key is always there; what is unknown is null. Times are ISO 8601 in UTC.

extension JSONValue {
    init(_ text: String?) { self = text.map(JSONValue.string) ?? .null }
    init(_ number: Int) { self = .integer(Int64(number)) }
    init(_ number: Int?) { self = number.map { .integer(Int64($0)) } ?? .null }
    init(_ time: Date?) { self = time.map { .string($0.formatted(Self.time)) } ?? .null }

    private static let time = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
}

extension JSONValue {
    /// Every state, those without jobs with 0.
    init(counts: [JobState: Int]) {
        self = .object(Dictionary(uniqueKeysWithValues: JobState.allCases.map { ($0.rawValue, JSONValue(counts[$0] ?? 0)) }))
    }

    init(_ reason: Reason?) {
        guard let reason else {
            self = .null
            return
        }
        self = ["code": .string(reason.code), "text": .string(reason.text), "subject": JSONValue(reason.subject)]
    }

    init(_ failure: JobExit.Failure?) {
        guard let failure else {
            self = .null
            return
        }
        self = ["type": .string(failure.type), "message": .string(failure.message), "traceback": JSONValue(failure.traceback)]
    }

    init(_ progress: LedgerProgress?) {
        guard let progress else {
            self = .null
            return
        }
        self = ["fraction": .number(progress.fraction), "text": JSONValue(progress.text)]
    }

    init(_ run: LedgerRun) {
        let reprocessed = run.origin.hasPrefix("reprocess:") ? String(run.origin.dropFirst("reprocess:".count)) : nil
        self = [
            "id": .string(run.id),
            "state": .string(run.state.rawValue),
            "reason": JSONValue(run.reason),
            "level": .string(run.level),
            "resourceId": .string(run.resourceID),
            "server": .string(run.server),
            "origin": .string(reprocessed == nil ? run.origin : "reprocess"),
            "reprocessOf": JSONValue(reprocessed),
            "createdAt": JSONValue(run.createdAt),
            "finishedAt": JSONValue(run.finishedAt),
            "modalities": .array(run.modalities.map(JSONValue.string)),
            "series": JSONValue(run.series),
            "instances": JSONValue(run.images),
            "counts": JSONValue(counts: run.counts),
        ]
    }

    /// - Parameter explanations: by position; jobs that have succeeded need none.
    init(_ detail: LedgerRunDetail, explanations: [Int: Explanation]) {
        guard var run = JSONValue(detail.run).object else { preconditionFailure("a run is an object") }
        let names = Dictionary(detail.jobs.map { ($0.position, $0.name) }) { first, _ in first }
        let parents = Dictionary(grouping: detail.edges, by: \.child)
        run["dcmpath"] = .string(detail.run.dcmpath)
        run["follows"] = JSONValue(detail.follows)
        run["event"] = JSONValue(detail.event)
        run["refusedSeries"] = detail.refused
        run["jobs"] = .array(
            detail.jobs.map { job in
                let parents = (parents[job.position] ?? []).sorted { $0.parent < $1.parent }
                var value = JSONValue(job, dependsOn: parents.compactMap { names[$0.parent] }).object ?? [:]
                value["explanation"] = explanations[job.position].map { JSONValue($0) } ?? .null
                return .object(value)
            })
        run["decisions"] = .array(detail.decisions.map(JSONValue.init))
        self = .object(run)
    }

    init(_ decision: Decision) {
        self = [
            "job": .string(decision.job),
            "service": .string(decision.service),
            "stage": .string(decision.stage.rawValue),
            "verdict": .string(decision.verdict.rawValue),
            "reason": JSONValue(decision.reason),
            "duration": decision.duration.map(JSONValue.number) ?? .null,
            "output": JSONValue(decision.output),
        ]
    }

    init(_ job: LedgerJob, dependsOn: [String]) {
        self = [
            "id": .string(job.id),
            "runId": .string(job.runID),
            "name": .string(job.name),
            "service": .string(job.service),
            "stage": .string(job.stage.rawValue),
            "channel": .string(job.channel),
            "priority": .string(job.priority.name),
            "dependsOn": .array(dependsOn.map(JSONValue.string)),
            "state": .string(job.state.rawValue),
            "reason": JSONValue(job.reason),
            "attempt": JSONValue(job.attempt),
            "crashes": JSONValue(job.crashes),
            "cancelRequested": .bool(job.cancelRequested),
            "worker": JSONValue(job.worker),
            "progress": JSONValue(job.progress),
            "notBefore": JSONValue(job.notBefore),
            "queuedAt": JSONValue(job.queuedAt),
            "startedAt": JSONValue(job.startedAt),
            "finishedAt": JSONValue(job.finishedAt),
            "error": JSONValue(job.error),
            "discarded": job.discarded.map { ["by": .string($0.actor), "at": JSONValue($0.at)] } ?? .null,
        ]
    }

    init(_ detail: LedgerJobDetail, explanation: Explanation) {
        guard var job = JSONValue(detail.job, dependsOn: detail.parents.map(\.name)).object else {
            preconditionFailure("a job is an object")
        }
        job["level"] = .string(detail.run.level)
        job["resourceId"] = .string(detail.run.resourceID)
        job["entry"] = .string(detail.definition.entry)
        job["kind"] = .string(detail.definition.kind.rawValue)
        job["command"] = .array(detail.definition.command.map(JSONValue.string))
        job["resources"] = [
            "memory": detail.definition.resources.memory.map(JSONValue.integer) ?? .null,
            "gpus": JSONValue(detail.definition.resources.gpus),
        ]
        job["environment"] = JSONValue(detail.definition.environment)
        job["timeout"] = JSONValue(detail.definition.timeout.seconds)
        job["retry"] = JSONValue(detail.definition.retry)
        job["params"] = HeaderMask.masked(detail.params)
        job["plannedParams"] = HeaderMask.masked(detail.definition.params)
        job["addedParams"] = detail.addedParams.map(HeaderMask.masked) ?? .null
        job["result"] = detail.result.map(HeaderMask.masked) ?? .null
        job["onLeaseLoss"] = .string(detail.definition.onLeaseLoss.rawValue)
        job["explanation"] = JSONValue(explanation)
        job["artifacts"] = .array(JobArtifact.all(of: detail.attempts, job: detail.job.id).map(JSONValue.init))
        job["attempts"] = .array(detail.attempts.map(JSONValue.init))
        self = .object(job)
    }

    init(_ explanation: Explanation) {
        self = [
            "code": .string(explanation.code.rawValue),
            "sentence": .string(explanation.sentence),
            "subjects": .array(
                explanation.subjects.map { ["kind": .string($0.kind.rawValue), "id": .string($0.id), "name": .string($0.name)] }),
            "since": JSONValue(explanation.since),
            "until": JSONValue(explanation.until),
        ]
    }

    init(_ retry: RetryPolicy) {
        self = ["max": JSONValue(retry.max), "delay": JSONValue(retry.delay), "backoff": .string(retry.backoff.rawValue)]
    }

    init(_ artifact: JobArtifact) {
        self = [
            "name": .string(artifact.name), "path": .string(artifact.path), "kind": .string(artifact.kind), "url": .string(artifact.url),
        ]
    }

    init(_ attempt: LedgerAttempt) {
        let usage: JSONValue =
            attempt.exit?.usage.map {
                ["wall": .number($0.wall), "user": .number($0.user), "system": .number($0.system), "peakMemory": .integer($0.peakMemory)]
            } ?? .null
        self = [
            "attempt": JSONValue(attempt.attempt),
            "token": JSONValue(attempt.token),
            "worker": .string(attempt.worker),
            "claimedAt": JSONValue(attempt.claimedAt),
            "endedAt": JSONValue(attempt.endedAt),
            "outcome": JSONValue(attempt.outcome),
            "kind": JSONValue(attempt.kind),
            "reason": JSONValue(attempt.lostReason),
            "exitCode": JSONValue(attempt.exit?.exitCode),
            "signal": JSONValue(attempt.exit?.signal),
            "usage": usage,
            "error": JSONValue(attempt.exit?.failure),
            "tail": JSONValue(attempt.exit?.tail),
            "progress": JSONValue(attempt.progress),
            "params": attempt.params.map(HeaderMask.masked) ?? .null,
        ]
    }

    init(_ event: LedgerEvent) {
        self = [
            "sequence": .integer(event.sequence),
            "snapshot": .string(event.snapshot),
            "server": .string(event.server),
            "level": .string(event.level),
            "resourceId": .string(event.resourceID),
            "observedAt": JSONValue(event.observedAt),
            "receivedAt": JSONValue(event.receivedAt),
            "follows": JSONValue(event.follows),
            "filtered": .bool(event.filtered != nil),
            "reason": JSONValue(event.filtered),
            "planningFailures": JSONValue(event.planningFailures),
            "problem": JSONValue(event.problem),
            "abandoned": .bool(event.isAbandoned),
            "series": .array(event.series.map { ["id": .string($0.id), "instances": JSONValue($0.instances)] }),
            "refusedSeries": JSONValue(event.refusedSeries),
            "runs": .array(event.runs.map { ["id": .string($0.id), "state": .string($0.state.rawValue)] }),
        ]
    }

    init(_ source: IngestSource) {
        self = [
            "server": .string(source.server),
            "state": .string(source.state.rawValue),
            "lag": .integer(source.lag),
            "checkedAt": JSONValue(source.checkedAt),
            "reason": JSONValue(source.error),
        ]
    }

    init(_ worker: LedgerWorker, at now: Date) {
        self = [
            "id": .string(worker.id),
            "host": .string(worker.host),
            "pid": worker.pid.map(JSONValue.integer) ?? .null,
            "version": JSONValue(worker.version),
            "state": .string(worker.presence(at: now).rawValue),
            "slots": JSONValue(worker.slots),
            "busy": JSONValue(worker.jobs.count),
            "channels": .array(worker.channels.map(JSONValue.string)),
            "drained": .bool(worker.isDrained),
            "load": .array(worker.load.map(JSONValue.number)),
            "memory": worker.memory.map(JSONValue.integer) ?? .null,
            "freeMemory": worker.freeMemory.map(JSONValue.integer) ?? .null,
            "gpus": worker.gpus.map(JSONValue.integer) ?? .null,
            "startedAt": JSONValue(worker.startedAt),
            "seenAt": JSONValue(worker.seenAt),
            "jobs": .array(
                worker.jobs.map { ["id": .string($0.id), "name": .string($0.name), "startedAt": JSONValue($0.startedAt)] }),
        ]
    }

    init(_ state: LedgerPipelineState) {
        self = [
            "state": JSONValue(state.broker?.condition.rawValue),
            "reason": JSONValue(state.broker?.reason),
            "since": JSONValue(state.broker?.since),
            "reportedAt": JSONValue(state.reportedAt),
        ]
    }

    init(_ channel: LedgerChannel, unservedSince: Date?, at now: Date) {
        let levels = channel.levels.map { ($0.priority.name, JSONValue(counts: $0.counts)) }
        self = [
            "name": .string(channel.name),
            "paused": .bool(channel.pausedAt != nil),
            "pausedBy": JSONValue(channel.pausedBy),
            "pausedAt": JSONValue(channel.pausedAt),
            "counts": JSONValue(counts: channel.counts),
            "priorities": .object(Dictionary(levels) { first, _ in first }),
            "oldestQueuedAt": JSONValue(channel.oldestQueuedAt),
            "oldestAge": channel.oldestQueuedAt.map { .number(max(0, now.timeIntervalSince($0))) } ?? .null,
            "workers": JSONValue(channel.workers),
            "slots": JSONValue(channel.slots),
            "unservedSince": JSONValue(unservedSince),
        ]
    }

    /// - Parameter lastDay: its jobs that ended within the last 24 hours, to the half hour.
    init(_ service: LedgerService, lastDay: [JobState: Int]) {
        let jobs: [JSONValue] = service.jobs.map { job in
            [
                "name": .string(job.name),
                "stage": .string(job.stage.rawValue),
                "kind": .string(job.kind.rawValue),
                "entry": .string(job.entry),
                "command": .array(job.command.map(JSONValue.string)),
                "channel": .string(job.channel),
                "priority": .string(job.priority.name),
                "timeout": JSONValue(job.timeout.seconds),
                "retry": JSONValue(job.retry),
                "storing": .bool(job.isStoring),
                "finalizer": .bool(job.isFinalizer),
                "onLeaseLoss": .string(job.onLeaseLoss.rawValue),
            ]
        }
        let problems: [JSONValue] = service.problems.map { problem in
            [
                "severity": .string(problem.severity),
                "file": JSONValue(problem.file),
                "entry": JSONValue(problem.entry),
                "key": JSONValue(problem.key),
                "message": .string(problem.message),
                "value": JSONValue(problem.value),
                "allowed": JSONValue(problem.allowed),
                "nearest": JSONValue(problem.nearest),
            ]
        }
        self = [
            "name": .string(service.name),
            "state": .string(service.condition.rawValue),
            "loadedAt": JSONValue(service.loadedAt),
            "jobs": .array(jobs),
            "problems": .array(problems),
            "lastDay": JSONValue(counts: lastDay),
            "paused": .bool(service.pause != nil),
            "pausedBy": JSONValue(service.pause?.actor),
            "pausedAt": JSONValue(service.pause?.at),
            "queued": JSONValue(service.queued),
        ]
    }

    init(_ dead: LedgerDeadJob) {
        guard var job = JSONValue(dead.job, dependsOn: []).object else { preconditionFailure("a job is an object") }
        job["dependsOn"] = nil
        job["level"] = .string(dead.level)
        job["resourceId"] = .string(dead.resourceID)
        self = .object(job)
    }

    init(_ message: LedgerDeadMessage) {
        self = [
            "sequence": .integer(message.sequence),
            "at": JSONValue(message.at),
            "queue": .string(message.queue),
            "routingKey": .string(message.routingKey),
            "reason": .string(message.reason),
            "state": .string(message.state.rawValue),
            "decidedBy": JSONValue(message.decidedBy),
            "decidedAt": JSONValue(message.decidedAt),
            "problem": JSONValue(message.problem),
            "hasBody": .bool(message.hasBody),
            "messageId": JSONValue(message.messageID),
            "type": JSONValue(message.type),
            "size": JSONValue(message.size),
        ]
    }

    init(_ fact: LedgerFact) {
        self = [
            "sequence": .integer(fact.sequence),
            "at": JSONValue(fact.at),
            "kind": .string(fact.kind),
            "run": JSONValue(fact.runID),
            "job": JSONValue(fact.jobID),
            "data": fact.data,
        ]
    }
}

extension LedgerWorker {
    enum Presence: String {
        case running
        case draining
        case stopped
        /// Said nothing for so long that its leases have run out.
        case lost
    }

    func presence(at now: Date) -> Presence {
        if state == "stopped" { return .stopped }
        if now.timeIntervalSince(seenAt) > LedgerReader.workerSilence { return .lost }
        return Presence(rawValue: state) ?? .running
    }
}

extension LedgerService {
    enum Condition: String {
        case ok
        case warning
        case error
    }

    var condition: Condition {
        if problems.contains(where: { $0.severity == "error" }) { return .error }
        return problems.isEmpty ? .ok : .warning
    }
}
