import Foundation
import Stack

/// What `submit` asks of ingest's endpoint.
struct IngestAPI: Sendable {
    struct Resource: Decodable, Sendable, Hashable {
        var id: String
        /// The Orthanc server that has it; nil: whichever does.
        var server: String?
    }

    /// What became of a resource.
    enum Outcome: Sendable, Hashable {
        case dispatched
        case known
        case filtered(String)
        /// Orthanc still receives it.
        case unstable
        case notFound
        /// Ingest, Orthanc or the broker is away or busy.
        case unavailable(String)
    }

    /// How one is submitted.
    struct Manner: Sendable {
        var level = "study"
        /// One name for a whole command: known ones get a new run.
        var replay: String?
        /// At ingest's pace.
        var isBulk = false
    }

    private struct Accepted: Decodable {
        struct Reason: Decodable { let code: String }
        let outcome: String
        let reason: Reason?
    }

    private struct Problem: Decodable {
        let detail: String
        let code: String?
    }

    private struct Page: Decodable {
        let resources: [Resource]
        let next: String?
    }

    private struct Order: Encodable {
        let id: String
        let level: String
        let server: String?
        let replay: String?
        let bulk: Bool
    }

    let base: String
    let token: String?

    /// - Throws: ``StackError`` for what will be the same with every other resource: a wrong token, a name that ingest does not know.
    func submit(_ resource: Resource, _ manner: Manner) async throws -> Outcome {
        let order = Order(
            id: resource.id, level: manner.level, server: resource.server, replay: manner.replay, bulk: manner.isBulk)
        let answer: LoopbackHTTP.Answer
        do {
            answer = try await ask("POST", "/submit", body: JSONEncoder().encode(order), limit: .seconds(60))
        } catch let error as StackError where error.code == .unreachable {
            return .unavailable(error.message)
        }
        switch answer.status {
        case 200, 202:
            let accepted = try decode(Accepted.self, answer)
            return switch accepted.outcome {
            case "dispatched": .dispatched
            case "known": .known
            case "filtered": .filtered(accepted.reason?.code ?? "filtered")
            default: throw StackError(.refused, "Ingest at \(base) answers '\(accepted.outcome)'; it is of another version.")
            }
        case 404 where try decode(Problem.self, answer).code == "not-found": return .notFound
        case 503:
            let problem = try decode(Problem.self, answer)
            return problem.code == "unstable" ? .unstable : .unavailable(problem.detail)
        default: throw refusal(answer)
        }
    }

    /// All resources that Orthanc has.
    ///
    /// - Parameter since: only what was updated then or later.
    func resources(level: String, server: String?, since: Date?, onPage: (Int) -> Void) async throws -> [Resource] {
        var resources: [Resource] = []
        var after: String?
        repeat {
            var query = [URLQueryItem(name: "level", value: level)]
            if let server { query.append(URLQueryItem(name: "server", value: server)) }
            if let since { query.append(URLQueryItem(name: "since", value: since.ISO8601Format())) }
            if let after { query.append(URLQueryItem(name: "after", value: after)) }
            var parts = URLComponents()
            parts.queryItems = query
            let answer = try await ask("GET", "/resources?\(parts.percentEncodedQuery ?? "")", limit: .seconds(60))
            guard answer.status == 200 else { throw refusal(answer) }
            let page = try decode(Page.self, answer)
            resources += page.resources
            after = page.next
            onPage(resources.count)
        } while after != nil
        // What was listed twice, because something was deleted or came meanwhile, is submitted once.
        var seen: Set<Resource> = []
        return resources.filter { seen.insert($0).inserted }
    }

    private func ask(_ method: String, _ path: String, body: Data? = nil, limit: Duration) async throws -> LoopbackHTTP.Answer {
        guard let url = URL(string: base + path) else {
            throw StackError(.badSetting, "\(base) is not an address such as http://127.0.0.1:5000.")
        }
        return try await LoopbackHTTP.request(method, url, credentials: token.map { .bearer($0) } ?? .none, body: body, limit: limit)
    }

    private func decode<Value: Decodable>(_ type: Value.Type, _ answer: LoopbackHTTP.Answer) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: answer.body)
        } catch {
            throw StackError(.refused, "What answers at \(base) is not ingest (status \(answer.status)).")
        }
    }

    private func refusal(_ answer: LoopbackHTTP.Answer) -> StackError {
        guard let problem = try? JSONDecoder().decode(Problem.self, from: answer.body) else {
            return StackError(.refused, "What answers at \(base) is not ingest (status \(answer.status)).")
        }
        return StackError(.refused, "Ingest at \(base) refuses this (status \(answer.status)): \(problem.detail)")
    }
}
