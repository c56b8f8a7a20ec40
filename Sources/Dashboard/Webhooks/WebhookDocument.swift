package import Foundation
package import JobStore
package import Jobs

/// What a webhook is sent. Ids, names of services, states and codes: no header of an image, no result, no error's text, as these may
/// hold what identifies a patient.
package enum WebhookDocument {
    /// What *send a test* sends.
    package static let testEvent = "webhook.test"

    /// - Parameter address: of the monitor, as others reach it; nil gives no links.
    package static func make(_ ending: LedgerEnding, address: String?) -> JSONValue {
        var data: [String: JSONValue] = [
            "runId": .string(ending.run),
            "state": .string(ending.state),
            "reason": JSONValue(ending.reason),
            "level": .string(ending.level),
            "resourceId": .string(ending.resourceID),
            "server": .string(ending.server),
            "createdAt": JSONValue(ending.createdAt),
            "finishedAt": JSONValue(ending.finishedAt),
            "url": JSONValue(address.map { "\($0)/runs/\(ending.run)" }),
            "jobs": .array(ending.jobs.map { make($0) }),
        ]
        if let job = ending.job { data["jobId"] = .string(job) }
        return document(ending.event.rawValue, ending.at, .object(data))
    }

    package static func test(_ webhook: MonitorWebhook, address: String?, at now: Date) -> JSONValue {
        document(testEvent, now, ["webhook": .string(webhook.name), "url": JSONValue(address)])
    }

    private static func document(_ type: String, _ at: Date, _ data: JSONValue) -> JSONValue {
        ["type": .string(type), "timestamp": JSONValue(at), "data": data]
    }

    private static func make(_ job: LedgerEnding.Job) -> JSONValue {
        [
            "id": .string(job.id),
            "name": .string(job.name),
            "service": .string(job.service),
            "state": .string(job.state),
            "reason": JSONValue(job.reason),
            "exit": JSONValue(job.exit),
            "attempt": JSONValue(job.attempt),
            "startedAt": JSONValue(job.startedAt),
            "finishedAt": JSONValue(job.finishedAt),
        ]
    }
}
