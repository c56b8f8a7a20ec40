import Foundation
import GRDB
import HTTPTypes
import Hummingbird
import JobStore
import Jobs
import Logging
import Testing

@testable import Dashboard

/// The document says what the server does: every route, and every key of real answers.
@Suite(.timeLimit(.minutes(2)))
struct OpenAPITests {
    @Test("What the server routes below /api/ and what the document describes are the same")
    func routes() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let served = try DashboardServer.sample(sample).routing().router.routes
            .map { "\($0.method.rawValue.lowercased()) \($0.path.description.replacing(#/:(\w+)/#) { "{\($0.output.1)}" })" }
            .filter { $0.contains(" /api/") }
        try await RunningDashboard.serving(sample) { dashboard in
            let document = try await dashboard.get("/api/v1/openapi.json").json
            #expect(document["openapi"] == "3.1.0")
            let paths = try #require(document["paths"]?.object)
            let described = paths.flatMap { path, operations in (operations.object ?? [:]).keys.map { "\($0) \(path)" } }
            #expect(Set(described) == Set(served))
            #expect(described.count == served.count && described.count > 20)
            let names = paths.values.flatMap { ($0.object ?? [:]).values.compactMap { $0["operationId"]?.string } }
            #expect(Set(names).count == described.count)
            // Texts of several lines are joined where they are written: nothing of how they are written is published.
            let texts = paths.values.flatMap { ($0.object ?? [:]).values.compactMap { $0["description"]?.string } }
            #expect(texts.count > 3 && !texts.contains { $0.contains("\\") })
        }
    }

    @Test("Real answers hold exactly the keys and types that the document promises")
    func answers() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 3)
        try await RunningDashboard.serving(sample) { dashboard in
            let document = try await dashboard.get("/api/v1/openapi.json").json
            let paths = try #require(document["paths"]?.object)
            let schemas = SchemaCheck(document: document)
            var seen: Set<String> = []
            func check(_ path: String, _ template: String, headers: [String: String] = [:]) async throws {
                let answer = try await dashboard.get(path, headers: headers)
                let operation = try #require(paths["/api/v1\(template)"]?["get"])
                let schema = operation["responses"]?[String(answer.status)]?["content"]?["application/json"]?["schema"]
                let problems = schemas.problems(of: try answer.json, against: try #require(schema))
                #expect(problems.isEmpty, "\(path): \(problems.prefix(3))")
                seen.insert("/api/v1\(template)")
            }
            for path in ["runs", "workers", "queues", "services", "dead", "events", "audit"] {
                try await check("/api/v1/\(path)", "/\(path)")
            }
            let runs = [
                hospital.succeeded, hospital.failed, hospital.dead, hospital.active, hospital.paused, hospital.declined, hospital.cancelled,
            ]
            for run in runs {
                try await check("/api/v1/runs/\(run)", "/runs/{id}")
                for job in try await dashboard.get("/api/v1/runs/\(run)").json["jobs"]?.array ?? [] {
                    let id = try #require(job["id"]?.string)
                    try await check("/api/v1/jobs/\(id)", "/jobs/{id}")
                    try await check("/api/v1/jobs/\(id)/log", "/jobs/{id}/log")
                }
            }
            try await check("/api/v1/openapi.json", "/openapi.json")
            let preview = try await dashboard.post("/api/v1/bulk/preview", ["kind": "runs", "action": "retry", "filter": [:]]).json
            #expect(schemas.problems(of: preview, against: Schema.ref("BulkPreview")).isEmpty, "\(preview.text)")
            let token = try #require(preview["token"]?.string)
            let started = try await dashboard.post("/api/v1/bulk", ["token": .string(token)]).json
            #expect(schemas.problems(of: started, against: Schema.ref("Bulk")).isEmpty, "\(started.text)")
            try await check("/api/v1/bulk", "/bulk")
            try await check("/api/v1/bulk/\(token)", "/bulk/{id}")
            try await check("/api/v1/bulk/\(token)/items", "/bulk/{id}/items")
            try await dashboard.store.addWebhook(
                MonitorWebhook(
                    id: "w", name: "w", url: "https://a.example", events: [.runFailed], secret: "x", createdBy: "root", createdAt: Date(),
                    place: .start))
            try await dashboard.store.queueDeliveries([
                WebhookDelivery(id: "d", webhook: "w", event: "run.failed", body: "{}", createdAt: Date())
            ])
            // Those take an admin, and so a user: everybody else has to sign in from then on.
            let admin = try await dashboard.bearer(.admin)
            try await dashboard.addUser("root", .admin)
            for (path, template) in [
                ("webhooks", "/webhooks"), ("webhooks/w", "/webhooks/{id}"), ("webhooks/w/deliveries", "/webhooks/{id}/deliveries"),
            ] {
                try await check("/api/v1/\(path)", template, headers: admin)
            }
            for (path, status) in [("/api/v1/runs?limit=x", 400), ("/api/v1/runs/none", 404), ("/api/v1/nothing", 404)] {
                let answer = try await dashboard.get(path, headers: admin)
                #expect(answer.status == status && answer.headers["content-type"] == "application/problem+json")
                #expect(schemas.problems(of: try answer.json, against: Schema.ref("Problem")).isEmpty, "\(path)")
            }
            let readable = paths.filter { $0.value["get"]?["responses"]?["200"]?["content"]?["application/json"] != nil }
            #expect(Set(readable.keys) == seen)
        }
    }

    @Test("A key too many, a key too few and a wrong type are found")
    func checkFinds() {
        let check = SchemaCheck(document: [:])
        let schema = Schema.object(["a": Schema.nullable(Schema.count), "b": Schema.list(Schema.one(of: ["x"]))])
        #expect(check.problems(of: ["a": .null, "b": ["x"]], against: schema).isEmpty)
        for wrong: JSONValue in [["a": 1], ["a": 1, "b": [], "c": 2], ["a": "1", "b": []], ["a": -1, "b": []], ["a": 1, "b": ["y"]]] {
            #expect(check.problems(of: wrong, against: schema).count == 1, "\(wrong.text)")
        }
    }

    @Test("A parameter that does not fit is refused with its name, its value and what is allowed")
    func parameters() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 20)
        try await RunningDashboard.serving(sample) { dashboard in
            for (query, name, value) in [
                ("runs?limit=501", "limit", "501"), ("runs?state=failed,lost", "state", "failed,lost"),
                ("events?filtered=maybe", "filtered", "maybe"),
                ("runs?cursor=01K00000000000000000000000", "cursor", "01K00000000000000000000000"),
                ("dead?messageCursor=7", "messageCursor", "7"),
            ] {
                let answer = try await dashboard.get("/api/v1/\(query)")
                let problem = try answer.json
                #expect(answer.status == 400, "\(query)")
                #expect(problem["type"] == "urn:dcm-processor:problem:parameter")
                #expect(problem["parameter"] == .string(name) && problem["value"] == .string(value))
                #expect(problem["allowed"]?.string?.isEmpty == false)
            }
            // A cursor belongs to its list and filter.
            let next = try #require(try await dashboard.get("/api/v1/runs?limit=2").json["next"]?.string)
            #expect(try await dashboard.get("/api/v1/runs?limit=5&cursor=\(next)").status == 200)
            #expect(try await dashboard.get("/api/v1/runs?state=failed&cursor=\(next)").status == 400)
            #expect(try await dashboard.get("/api/v1/events?cursor=\(next)").status == 400)
        }
    }

    @Test("Another method than those of an address is refused with those")
    func methods() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for (method, path, allowed) in [
                ("DELETE", "/api/v1/runs", "GET, HEAD"), ("POST", "/api/v1/workers", "GET, HEAD"),
                ("GET", "/api/v1/jobs/\(hospital.failed).2/retry", "POST"), ("PUT", "/api/v1/runs/\(hospital.failed)", "GET, HEAD"),
            ] {
                let answer = try await dashboard.send(method, path)
                #expect(answer.status == 405 && answer.headers["allow"] == allowed, "\(method) \(path)")
                #expect(answer.headers["content-type"] == "application/problem+json")
            }
            #expect(try await dashboard.send("DELETE", "/api/v1/nothing").status == 404)
        }
    }

    @Test("Whoever has an answer already gets 304 until it changes")
    func entityTags() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let path = "/api/v1/runs/\(hospital.succeeded)"
            let first = try await dashboard.get(path)
            let tag = try #require(first.headers["etag"])
            #expect(first.headers["cache-control"] == "private, no-cache")
            let second = try await dashboard.get(path, headers: ["If-None-Match": "\"other\", \(tag)"])
            #expect(second.status == 304 && second.data.isEmpty && second.headers["etag"] == tag)
            try await sample.database.write {
                try $0.execute(sql: "UPDATE run SET level = 'series' WHERE id = ?", arguments: [hospital.succeeded])
            }
            #expect(try await dashboard.get(path, headers: ["If-None-Match": tag]).status == 200)
            #expect(try await dashboard.get("/api/v1/nothing").headers["etag"] == nil)
        }
    }
}

/// As much of JSON Schema as the document uses. Strict: a key that the schema does not name is a problem.
struct SchemaCheck {
    let document: JSONValue

    func problems(of value: JSONValue, against schema: JSONValue, at place: String = "$") -> [String] {
        if let name = schema["$ref"]?.string {
            let target = name.split(separator: "/").dropFirst().reduce(document as JSONValue?) { $0?[String($1)] }
            guard let target else { return ["\(place): no schema \(name)"] }
            return problems(of: value, against: target, at: place)
        }
        if let choices = (schema["anyOf"] ?? schema["oneOf"])?.array {
            let found = choices.map { problems(of: value, against: $0, at: place) }
            return found.contains { $0.isEmpty } ? [] : found.min { $0.count < $1.count } ?? []
        }
        let types = schema["type"]?.array?.compactMap(\.string) ?? schema["type"]?.string.map { [$0] } ?? []
        guard types.isEmpty || types.contains(where: { Self.isOf($0, value) }) else {
            return ["\(place): \(value.text.prefix(40)) is no \(types)"]
        }
        if let names = schema["enum"]?.array, !names.contains(value) { return ["\(place): \(value.text.prefix(40)) is none of the enum"] }
        if let minimum = schema["minimum"]?.integer, let number = value.integer, number < minimum {
            return ["\(place): \(number) < \(minimum)"]
        }
        switch value {
        case .array(let items):
            guard let element = schema["items"] else { return [] }
            return items.enumerated().flatMap { problems(of: $1, against: element, at: "\(place)[\($0)]") }
        case .object(let members):
            if let values = schema["additionalProperties"] {
                return members.flatMap { problems(of: $1, against: values, at: "\(place).\($0)") }
            }
            guard let properties = schema["properties"]?.object else { return [] }
            let required = schema["required"]?.array?.compactMap(\.string) ?? []
            return required.filter { members[$0] == nil }.map { "\(place): no key \($0)" }
                + members.flatMap { key, member in
                    properties[key].map { problems(of: member, against: $0, at: "\(place).\(key)") } ?? [
                        "\(place): key \(key) is not described"
                    ]
                }
        default: return []
        }
    }

    private static func isOf(_ type: String, _ value: JSONValue) -> Bool {
        switch value {
        case .null: type == "null"
        case .bool: type == "boolean"
        case .integer: type == "integer" || type == "number"
        case .number(let number): type == "number" || (type == "integer" && number == number.rounded())
        case .string: type == "string"
        case .array: type == "array"
        case .object: type == "object"
        }
    }
}

extension DashboardServer {
    /// One that is not started.
    static func sample(_ sample: SampleLedger) throws -> DashboardServer {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let ledger = LedgerReader(path: sample.path)
        var configuration = try DashboardConfiguration(data: sample.data, logs: sample.logs)
        configuration.passwordCost = testCost
        return DashboardServer(
            configuration: configuration, ledger: ledger,
            journal: IngestJournalReader(path: sample.folder.appending(path: "state/ingest.sqlite").path),
            store: try MonitorStore(folder: sample.folder.appending(path: "state")), sender: RecordedCommands(),
            feed: FactFeed(ledger: ledger, logger: logger), logger: logger)
    }
}
