import Foundation
import Jobs
import Stack

/// The part of the monitor's JSON API that the demo and the commands for runs and jobs read.
struct MonitorAPI: Sendable {
    struct Run: Decodable, Sendable {
        let id: String
        let state: String
        let level: String
        let resourceId: String
        let createdAt: Moment?
        let finishedAt: Moment?
        let reason: Reason?
        let jobs: [Job]?
    }

    /// Why a run or a job is in the state it is in.
    struct Reason: Decodable, Sendable {
        let text: String
    }

    /// Why a job is where it is.
    struct Explanation: Decodable, Sendable {
        struct Subject: Decodable, Sendable {
            let kind: String
            let id: String
            let name: String
        }

        let sentence: String
        let subjects: [Subject]
    }

    struct Failure: Decodable, Sendable {
        let type: String
        let message: String
        let traceback: String?

        /// The services' environments need a package registry that was not there, or did not have a package.
        var isEnvironment: Bool { type == "EnvironmentFailed" }
    }

    struct Progress: Decodable, Sendable {
        let text: String?
    }

    struct Job: Decodable, Sendable {
        let id: String
        let name: String
        let state: String
        let reason: Reason?
        let queuedAt: Moment?
        let startedAt: Moment?
        let finishedAt: Moment?
        let worker: String?
        let error: Failure?
        let progress: Progress?
        /// Missing for a job of a run that has succeeded.
        let explanation: Explanation?
    }

    private struct Page: Decodable { let runs: [Run] }

    let base: String
    let token: String

    func recentRuns(state: String? = nil) async throws -> [Run] {
        try await get("/api/v1/runs?limit=100\(state.map { "&state=\($0)" } ?? "")", as: Page.self).runs
    }

    func run(_ id: String) async throws -> Run {
        guard RunID(rawValue: id) != nil, let run = try await find("/api/v1/runs/\(id)", as: Run.self) else {
            throw StackError(
                .notFound,
                "There is no run '\(id)' in this stack. A run's id has 26 letters and digits, as in 01ARZ3NDEKTSV4RRFFQ69G5FAV; \(base)/runs lists "
                    + "those that there are.")
        }
        return run
    }

    func job(_ id: String) async throws -> Job {
        guard JobID(rawValue: id) != nil, let job = try await find("/api/v1/jobs/\(id)", as: Job.self) else {
            throw StackError(
                .notFound,
                "There is no job '\(id)' in this stack. A job's id is its run's id, a dot and its number in the run, as in "
                    + "01ARZ3NDEKTSV4RRFFQ69G5FAV.2; './dcm run show RUN' lists the jobs of a run, \(base)/runs the runs.")
        }
        return job
    }

    private func find<Value: Decodable>(_ path: String, as type: Value.Type) async throws -> Value? {
        do {
            return try await get(path, as: type)
        } catch let error as StackError where error.code == .notFound {
            return nil
        }
    }

    private func get<Value: Decodable>(_ path: String, as type: Value.Type) async throws -> Value {
        guard let url = URL(string: base + path) else {
            throw StackError(.badSetting, "\(base + path) is no address.")
        }
        let answer = try await LoopbackHTTP.request("GET", url, credentials: .bearer(token), limit: .seconds(10))
        if answer.status == 404 { throw StackError(.notFound, "The monitor has no \(path).") }
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

/// A point in time in the API: ISO 8601 with fractions of a second.
struct Moment: Decodable, Sendable {
    let date: Date

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        do {
            date = try Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        } catch {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is no ISO 8601 time")
        }
    }
}
