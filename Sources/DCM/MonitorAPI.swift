import Foundation
import Stack

/// The part of the monitor's JSON API that the demo reads.
struct MonitorAPI: Sendable {
    struct Run: Decodable, Sendable {
        let id: String
        let state: String
        let level: String
        let resourceId: String
        let createdAt: Moment?
        let finishedAt: Moment?
        let jobs: [Job]?
    }

    struct Job: Decodable, Sendable {
        let id: String
        let name: String
        let state: String
        let attempt: Int?
        let queuedAt: Moment?
        let startedAt: Moment?
        let finishedAt: Moment?
        let worker: String?
    }

    private struct Page: Decodable { let runs: [Run] }

    let base: String
    let token: String

    func recentRuns() async throws -> [Run] {
        try await get("/api/v1/runs?limit=100", as: Page.self).runs
    }

    func run(_ id: String) async throws -> Run {
        try await get("/api/v1/runs/\(id)", as: Run.self)
    }

    private func get<Value: Decodable>(_ path: String, as type: Value.Type) async throws -> Value {
        let url = URL(string: base + path)!
        let answer = try await LoopbackHTTP.request("GET", url, credentials: .bearer(token), limit: .seconds(10))
        guard answer.status == 200 else {
            throw StackError(.refused, "The monitor answers \(path) with status \(answer.status).")
        }
        do {
            return try JSONDecoder().decode(Value.self, from: answer.body)
        } catch {
            throw StackError(.refused, "The monitor's answer to \(path) is not what its API promises: \(error)")
        }
    }
}

/// A point in time in the API: ISO 8601 text, or milliseconds since 1970.
struct Moment: Decodable, Sendable, Comparable {
    let date: Date

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let milliseconds = try? container.decode(Double.self) {
            date = Date(timeIntervalSince1970: milliseconds / 1000)
            return
        }
        let text = try container.decode(String.self)
        let parsed =
            (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
            ?? (try? Date(text, strategy: .iso8601))
        guard let parsed else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is no ISO 8601 time")
        }
        date = parsed
    }

    static func < (left: Moment, right: Moment) -> Bool { left.date < right.date }
}
