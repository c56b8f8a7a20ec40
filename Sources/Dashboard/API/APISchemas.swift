import JobStore
import Jobs
import Pipeline

/// The shapes of the API's answers and bodies, beside `Representations.swift`, which makes them.
enum APISchemas {
    static let all: [String: JSONValue] = base.merging(runs) { $1 }.merging(jobs) { $1 }.merging(pipeline) { $1 }.merging(security) { $1 }
        .merging(bulk) { $1 }.merging(webhooks) { $1 }

    /// A list with the way to its next page.
    static func page(_ key: String, _ element: String) -> JSONValue {
        Schema.object([key: Schema.list(Schema.ref(element)), "next": next])
    }

    static let next = Schema.described(Schema.nullable(Schema.text), "The `cursor` of the next page; null at the end.")

    private static let counts = Schema.object(
        Dictionary(uniqueKeysWithValues: JobState.allCases.map { ($0.rawValue, Schema.count) }), "Jobs by state.")

    private static let attemptSeen: JSONValue = [
        "type": "integer", "description": "The attempt of the job that is meant: at another one by then, nothing is done.",
    ]

    private static let base: [String: JSONValue] = [
        "Problem": Schema.object(
            [
                "type": Schema.described(Schema.text, "urn:dcm-processor:problem:<kind>, for programs."),
                "title": Schema.text,
                "status": Schema.integer,
                "detail": Schema.described(Schema.text, "What is wrong, where, and what would be right."),
                "instance": Schema.text,
                "parameter": Schema.described(Schema.text, "The parameter or the body's key that does not fit."),
                "value": Schema.nullable(Schema.text),
                "allowed": Schema.text,
                "retryAfter": Schema.described(Schema.integer, "Seconds."),
            ], optional: ["parameter", "value", "allowed", "retryAfter"], "RFC 9457."),
        "Reason": Schema.object([
            "code": Schema.described(Schema.text, "Stable, for programs."), "text": Schema.text, "subject": Schema.nullable(Schema.text),
        ]),
        "Failure": Schema.object(["type": Schema.text, "message": Schema.text, "traceback": Schema.nullable(Schema.text)]),
        "Progress": Schema.object(["fraction": Schema.number, "text": Schema.nullable(Schema.text)]),
        "Counts": counts,
        "Explanation": Schema.object([
            "code": Schema.one(of: Explanation.Code.self),
            "sentence": Schema.text,
            "subjects": Schema.list(Schema.object(["kind": Schema.text, "id": Schema.text, "name": Schema.text])),
            "since": Schema.nullable(Schema.time),
            "until": Schema.nullable(Schema.time),
        ]),
        "Retry": Schema.object(["max": Schema.count, "delay": Schema.number, "backoff": Schema.one(of: RetryPolicy.Backoff.self)]),
        "CommandReceipt": Schema.object(["command": Schema.described(Schema.text, "The command's id, as in the fact `command.done`.")]),
    ]

    private static let run = Schema.object([
        "id": Schema.text,
        "state": Schema.one(of: RunState.self),
        "reason": Schema.nullable(Schema.ref("Reason")),
        "level": Schema.one(of: ResourceLevel.self),
        "resourceId": Schema.described(Schema.text, "Orthanc's id."),
        "server": Schema.text,
        "origin": Schema.one(of: ["event", "reprocess"]),
        "reprocessOf": Schema.nullable(Schema.text),
        "createdAt": Schema.time,
        "finishedAt": Schema.nullable(Schema.time),
        "modalities": Schema.described(Schema.list(Schema.text), "Of its series, by name."),
        "series": Schema.described(Schema.count, "How many series the event holds."),
        "instances": Schema.described(Schema.count, "How many images they have."),
        "counts": Schema.ref("Counts"),
    ])

    private static let runs: [String: JSONValue] = [
        "Run": run,
        "RunPage": page("runs", "Run"),
        "RunDetail": Schema.extending(
            run,
            [
                "dcmpath": Schema.text,
                "follows": Schema.nullable(Schema.text),
                "event": Schema.ref("Event"),
                "refusedSeries": Schema.anything,
                "jobs": Schema.list(Schema.ref("RunJob")),
                "decisions": Schema.list(Schema.ref("Decision")),
            ]),
        "Decision": Schema.object([
            "job": Schema.text,
            "service": Schema.text,
            "stage": Schema.one(of: Stage.self),
            "verdict": Schema.text,
            "reason": Schema.ref("Reason"),
            "duration": Schema.described(Schema.nullable(Schema.number), "Seconds."),
            "output": Schema.nullable(Schema.text),
        ]),
        "Event": Schema.object([
            "sequence": Schema.integer,
            "snapshot": Schema.text,
            "server": Schema.text,
            "level": Schema.one(of: ResourceLevel.self),
            "resourceId": Schema.text,
            "observedAt": Schema.time,
            "receivedAt": Schema.time,
            "follows": Schema.nullable(Schema.text),
            "filtered": Schema.flag,
            "reason": Schema.nullable(Schema.ref("Reason")),
            "planningFailures": Schema.count,
            "problem": Schema.nullable(Schema.ref("Reason")),
            "abandoned": Schema.flag,
            "series": Schema.list(Schema.object(["id": Schema.text, "instances": Schema.count])),
            "refusedSeries": Schema.count,
            "runs": Schema.list(Schema.object(["id": Schema.text, "state": Schema.one(of: RunState.self)])),
        ]),
    ]

    private static let job = Schema.object([
        "id": Schema.text,
        "runId": Schema.text,
        "name": Schema.text,
        "service": Schema.described(Schema.text, "Empty for a built-in job."),
        "stage": Schema.one(of: Stage.self),
        "channel": Schema.text,
        "priority": Schema.one(of: Priority.allCases.map(\.name)),
        "dependsOn": Schema.list(Schema.text),
        "state": Schema.one(of: JobState.self),
        "reason": Schema.ref("Reason"),
        "attempt": Schema.count,
        "crashes": Schema.count,
        "cancelRequested": Schema.flag,
        "worker": Schema.nullable(Schema.text),
        "progress": Schema.nullable(Schema.ref("Progress")),
        "notBefore": Schema.nullable(Schema.time),
        "queuedAt": Schema.nullable(Schema.time),
        "startedAt": Schema.nullable(Schema.time),
        "finishedAt": Schema.nullable(Schema.time),
        "error": Schema.nullable(Schema.ref("Failure")),
        "discarded": Schema.described(
            Schema.nullable(Schema.object(["by": Schema.text, "at": Schema.time])), "Who took the dead job off the list."),
    ])

    private static let jobs: [String: JSONValue] = [
        "Job": job,
        "RunJob": Schema.extending(job, ["explanation": Schema.nullable(Schema.ref("Explanation"))]),
        "JobDetail": Schema.extending(
            job,
            [
                "level": Schema.one(of: ResourceLevel.self),
                "resourceId": Schema.text,
                "entry": Schema.text,
                "kind": Schema.text,
                "command": Schema.list(Schema.text),
                "resources": Schema.object(["memory": Schema.nullable(Schema.integer), "gpus": Schema.count]),
                "environment": Schema.nullable(Schema.text),
                "timeout": Schema.described(Schema.nullable(Schema.integer), "Seconds; null is none."),
                "retry": Schema.ref("Retry"),
                "params": Schema.described(Schema.anything, "What the next attempt, or the one that runs, is given."),
                "plannedParams": Schema.described(Schema.anything, "What was planned; others only after a retry with other params."),
                "addedParams": Schema.anything,
                "result": Schema.anything,
                "onLeaseLoss": Schema.one(of: OnLeaseLoss.self),
                "explanation": Schema.ref("Explanation"),
                "artifacts": Schema.list(
                    Schema.object(["name": Schema.text, "path": Schema.text, "kind": Schema.text, "url": Schema.text])),
                "attempts": Schema.list(Schema.ref("Attempt")),
            ]),
        "Attempt": Schema.object([
            "attempt": Schema.count,
            "token": Schema.count,
            "worker": Schema.text,
            "claimedAt": Schema.time,
            "endedAt": Schema.nullable(Schema.time),
            "outcome": Schema.described(Schema.nullable(Schema.text), "succeeded, failed, cancelled, released or lost."),
            "kind": Schema.described(Schema.nullable(Schema.text), "The exit class: exception, timeout, killed, out-of-memory, ..."),
            "reason": Schema.nullable(Schema.ref("Reason")),
            "exitCode": Schema.nullable(Schema.integer),
            "signal": Schema.nullable(Schema.integer),
            "usage": Schema.nullable(
                Schema.object([
                    "wall": Schema.number, "user": Schema.number, "system": Schema.number,
                    "peakMemory": Schema.described(Schema.integer, "Bytes."),
                ])),
            "error": Schema.nullable(Schema.ref("Failure")),
            "tail": Schema.nullable(Schema.text),
            "progress": Schema.nullable(Schema.ref("Progress")),
            "params": Schema.described(Schema.anything, "What it ran with, when that was not `plannedParams`; else null."),
        ]),
        "Log": Schema.object([
            "offset": Schema.count, "next": Schema.described(Schema.count, "Where to read on."), "eof": Schema.flag, "text": Schema.text,
            "parts": Schema.list(
                Schema.object([
                    "stream": Schema.one(of: ["stdout", "stderr", "note"]), "at": Schema.nullable(Schema.time), "text": Schema.text,
                ])),
            "attempt": Schema.nullable(Schema.integer), "token": Schema.nullable(Schema.integer),
        ]),
        "RetryOrder": [
            "type": "object", "additionalProperties": false,
            "properties": [
                "params": [
                    "type": "object",
                    "description": .string(
                        "The whole of them. At most \(CommandMessage.longestParams) bytes and \(CommandMessage.deepestParams) levels deep."),
                ],
                "attempt": attemptSeen,
            ],
        ],
        "DiscardOrder": ["type": "object", "additionalProperties": false, "properties": ["attempt": attemptSeen]],
        "PriorityOrder": Schema.object([
            "priority": [
                "oneOf": [
                    Schema.one(of: Priority.allCases.reversed().map(\.name)),
                    ["type": "integer", "minimum": 0, "maximum": 4],
                ]
            ]
        ]),
        "DeadJob": Schema.extending(
            job, ["level": Schema.one(of: ResourceLevel.self), "resourceId": Schema.text], without: ["dependsOn"]),
    ]

    private static let pipeline: [String: JSONValue] = [
        "Workers": Schema.object(["workers": Schema.list(Schema.ref("Worker"))]),
        "Worker": Schema.object([
            "id": Schema.text,
            "host": Schema.text,
            "pid": Schema.nullable(Schema.integer),
            "version": Schema.nullable(Schema.text),
            "state": Schema.one(of: ["running", "draining", "stopped", "lost"]),
            "slots": Schema.count,
            "busy": Schema.count,
            "channels": Schema.list(Schema.text),
            "drained": Schema.flag,
            "load": Schema.list(Schema.number),
            "memory": Schema.nullable(Schema.integer),
            "freeMemory": Schema.nullable(Schema.integer),
            "gpus": Schema.nullable(Schema.integer),
            "startedAt": Schema.time,
            "seenAt": Schema.time,
            "jobs": Schema.list(Schema.object(["id": Schema.text, "name": Schema.text, "startedAt": Schema.nullable(Schema.time)])),
        ]),
        "Queues": Schema.object(["queues": Schema.list(Schema.ref("Queue")), "broker": Schema.ref("Broker")]),
        "Queue": Schema.object([
            "name": Schema.text,
            "paused": Schema.flag,
            "pausedBy": Schema.nullable(Schema.text),
            "pausedAt": Schema.nullable(Schema.time),
            "counts": Schema.ref("Counts"),
            "priorities": Schema.map(Schema.ref("Counts")),
            "oldestQueuedAt": Schema.nullable(Schema.time),
            "oldestAge": Schema.described(Schema.nullable(Schema.number), "Seconds."),
            "workers": Schema.count,
            "slots": Schema.count,
            "unservedSince": Schema.nullable(Schema.time),
        ]),
        "Broker": Schema.object(
            [
                "state": Schema.described(Schema.nullable(Schema.text), "connected, blocked or disconnected."),
                "reason": Schema.nullable(Schema.text),
                "since": Schema.nullable(Schema.time),
                "reportedAt": Schema.nullable(Schema.time),
            ], "How the router sees the broker."),
        "Services": Schema.object(["services": Schema.list(Schema.ref("Service"))]),
        "Service": Schema.object([
            "name": Schema.text,
            "state": Schema.one(of: ["ok", "warning", "error"]),
            "loadedAt": Schema.time,
            "jobs": Schema.list(Schema.ref("ServiceJob")),
            "problems": Schema.list(Schema.ref("ServiceProblem")),
            "lastDay": Schema.ref("Counts"),
            "paused": Schema.flag,
            "pausedBy": Schema.nullable(Schema.text),
            "pausedAt": Schema.nullable(Schema.time),
            "queued": Schema.described(Schema.count, "Its jobs that a worker could take."),
        ]),
        "ServiceJob": Schema.object([
            "name": Schema.text,
            "stage": Schema.one(of: Stage.self),
            "kind": Schema.text,
            "entry": Schema.text,
            "command": Schema.list(Schema.text),
            "channel": Schema.text,
            "priority": Schema.one(of: Priority.allCases.map(\.name)),
            "timeout": Schema.nullable(Schema.integer),
            "retry": Schema.ref("Retry"),
            "storing": Schema.flag,
            "finalizer": Schema.flag,
            "onLeaseLoss": Schema.one(of: OnLeaseLoss.self),
        ]),
        "ServiceProblem": Schema.object([
            "severity": Schema.text,
            "file": Schema.nullable(Schema.text),
            "entry": Schema.nullable(Schema.text),
            "key": Schema.nullable(Schema.text),
            "message": Schema.text,
            "value": Schema.nullable(Schema.text),
            "allowed": Schema.nullable(Schema.text),
            "nearest": Schema.nullable(Schema.text),
        ]),
        "DeadLetters": Schema.object([
            "jobs": Schema.list(Schema.ref("DeadJob")), "next": next, "messages": Schema.list(Schema.ref("DeadMessage")),
            "nextMessage": Schema.described(Schema.nullable(Schema.text), "The `messageCursor` of the next page of messages."),
        ]),
        "DeadMessage": Schema.object([
            "sequence": Schema.integer,
            "at": Schema.time,
            "queue": Schema.described(Schema.text, "Where it came from."),
            "routingKey": Schema.text,
            "reason": Schema.text,
            "state": Schema.one(of: ParkedMessage.State.self),
            "decidedBy": Schema.nullable(Schema.text),
            "decidedAt": Schema.nullable(Schema.time),
            "problem": Schema.described(Schema.nullable(Schema.text), "Why it could not be requeued."),
            "hasBody": Schema.described(Schema.flag, "Without its body it cannot be requeued."),
            "messageId": Schema.nullable(Schema.text),
            "type": Schema.nullable(Schema.text),
            "size": Schema.count,
        ]),
        "RevealedMessage": Schema.object([
            "sequence": Schema.integer, "queue": Schema.text, "type": Schema.nullable(Schema.text),
            "encoding": Schema.one(of: ["utf-8", "base64"]), "body": Schema.text,
        ]),
        "Events": Schema.object([
            "events": Schema.list(Schema.ref("Event")), "next": next, "sources": Schema.list(Schema.ref("Source")),
            "accounts": Schema.list(Schema.ref("Account")), "pending": Schema.list(Schema.ref("Pending")),
        ]),
        "Source": Schema.object([
            "server": Schema.text, "state": Schema.one(of: IngestSource.State.self), "lag": Schema.integer, "checkedAt": Schema.time,
            "reason": Schema.nullable(Schema.ref("Reason")),
        ]),
        "Account": Schema.object([
            "server": Schema.text,
            "level": Schema.one(of: ResourceLevel.self),
            "listed": Schema.nullable(Schema.count),
            "sweptAt": Schema.nullable(Schema.time),
            "received": Schema.count,
            "counts": Schema.list(Schema.object(["state": Schema.text, "reason": Schema.text, "count": Schema.count])),
        ]),
        "Pending": Schema.object([
            "server": Schema.text, "level": Schema.one(of: ResourceLevel.self), "resourceId": Schema.text, "since": Schema.time,
            "reason": Schema.ref("Reason"),
        ]),
    ]
}
