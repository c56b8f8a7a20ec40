import Foundation
import Jobs
import Stack
import Testing

/// The monitor's JSON API and Orthanc's REST API, as a user's own program would use them.
extension TestStack {
    func get(_ path: String) async throws -> JSONValue {
        let url = try #require(URL(string: endpoints.monitor + path))
        let answer = try await LoopbackHTTP.request("GET", url, credentials: .bearer(endpoints.monitorToken), limit: .seconds(10))
        guard answer.status == 200 else { throw TestFailure("GET \(path) answers \(answer.status).") }
        return try JSONValue(json: answer.body)
    }

    func post(_ path: String) async throws {
        let url = try #require(URL(string: endpoints.monitor + path))
        let answer = try await LoopbackHTTP.request(
            "POST", url, credentials: .bearer(endpoints.monitorToken), body: Data("{}".utf8), limit: .seconds(10))
        guard answer.status == 202 else { throw TestFailure("POST \(path) answers \(answer.status).") }
    }

    func orthanc(_ method: String, _ path: String) async throws -> Int {
        let url = try #require(URL(string: endpoints.orthanc + path))
        let credentials = LoopbackHTTP.Credentials.basic(user: endpoints.orthancUser, password: endpoints.orthancPassword)
        return try await LoopbackHTTP.request(method, url, credentials: credentials, limit: .seconds(10)).status
    }

    /// What Orthanc answers.
    func orthanc(_ path: String) async throws -> JSONValue {
        let url = try #require(URL(string: endpoints.orthanc + path))
        let credentials = LoopbackHTTP.Credentials.basic(user: endpoints.orthancUser, password: endpoints.orthancPassword)
        let answer = try await LoopbackHTTP.request("GET", url, credentials: credentials, limit: .seconds(10))
        guard answer.status == 200 else { throw TestFailure("Orthanc answers GET \(path) with \(answer.status).") }
        return try JSONValue(json: answer.body)
    }

    /// The run of a study, once there is one.
    func run(of study: String) async throws -> JSONValue {
        let summary = try await until("a run of study \(study)") {
            try await get("/api/v1/runs?limit=100")["runs"]?.array?.first { $0["resourceId"]?.string == study }
        }
        return try await get("/api/v1/runs/\(try #require(summary["id"]?.string))")
    }

    /// The run once it has ended.
    func ended(_ run: JSONValue, limit: Duration = .seconds(120)) async throws -> JSONValue {
        let id = try #require(run["id"]?.string)
        return try await until("run \(id) ended", limit: limit) {
            let run = try await get("/api/v1/runs/\(id)")
            return run["state"]?.string == "active" ? nil : run
        }
    }
}

extension JSONValue {
    func job(_ name: String) -> JSONValue? { self["jobs"]?.array?.first { $0["name"]?.string == name } }

    /// Each job's state by its name.
    var states: [String: String] {
        Dictionary(
            (self["jobs"]?.array ?? []).compactMap { job in
                job["name"]?.string.flatMap { name in job["state"]?.string.map { (name, $0) } }
            }, uniquingKeysWith: { first, _ in first })
    }
}
