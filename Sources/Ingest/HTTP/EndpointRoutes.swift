import Foundation
import HTTPTypes
import Hummingbird
import Jobs
import Logging
import NIOCore
import Orthanc

/// The requests that the endpoint understands. A payload is a hint: the id is taken from it, everything else is read from Orthanc.
struct EndpointRoutes: Sendable {
    let configuration: EndpointConfiguration
    let servers: [any FollowedResources]
    private let background = BackgroundWork(limit: 1000)

    init(configuration: EndpointConfiguration, servers: [any FollowedResources]) {
        self.configuration = configuration
        self.servers = servers
    }

    func add(to router: Router<EndpointContext>) {
        router.post("/wake", use: wake)
        router.post("/stable-series") { request, _ in try await stable(request, .series, ["seriesId", "id"]) }
        router.post("/stable-study") { request, _ in try await stable(request, .study, ["id", "studyId"]) }
        router.post("/stable-patient") { request, _ in try await stable(request, .patient, ["id", "patientId"]) }
        router.post("/submit", use: submit)
        router.get("/resources", use: resources)
        router.get("/healthz") { _, _ in Response(status: .ok, body: ResponseBody(byteBuffer: ByteBuffer(string: "ok\n"))) }
        router.get("/readyz", use: ready)
    }

    // MARK: Hooks

    @Sendable private func wake(_ request: Request, _ context: EndpointContext) async throws -> Response {
        let body = try await body(of: request)
        for server in try named(body.isEmpty ? nil : try RequestFields(body).text("server")) { server.wake() }
        return .json(["status": "accepted"], status: .accepted)
    }

    /// Upstream's hooks: the flat header of a series with `seriesId` (2021), the tree of a patient with `id` (2023).
    ///
    /// While Orthanc's Lua waits for the answer, Orthanc answers nobody, us included: the event can only be made when the hook has been
    /// let go. So after a moment it is told that nothing is certain yet, and the work goes on.
    private func stable(_ request: Request, _ level: ResourceLevel, _ names: [String]) async throws -> Response {
        let fields = try RequestFields(try await body(of: request))
        let id = try fields.identifier(names)
        let servers = try named(request.uri.queryParameters.get("server") ?? (try fields.text("server")))
        let outcome = try await background.run(waitingAtMost: configuration.hookLimit) {
            try await submit(level, id, to: servers, replay: nil, isBulk: false, within: nil)
        }
        guard let outcome else {
            throw EndpointProblem.unavailable(
                "Its event is still being made; the same request tells more later. Where EVENTS has this level, nothing has to be done.",
                code: "under-way")
        }
        return try answer(outcome, level, done: .accepted)
    }

    // MARK: Commands

    @Sendable private func submit(_ request: Request, _ context: EndpointContext) async throws -> Response {
        let fields = try RequestFields(try await body(of: request))
        let level = try self.level(try fields.text("level"))
        let id = try fields.identifier(["id"])
        let servers = try named(try fields.text("server"))
        let replay = try fields.text("replay")
        if let replay, !(1...64).contains(replay.utf8.count) {
            throw EndpointProblem.badRequest("'replay' is a text of \(replay.utf8.count) bytes; it takes 1 to 64.")
        }
        let outcome = try await submit(
            level, id, to: servers, replay: replay, isBulk: try fields.flag("bulk"), within: configuration.requestLimit)
        return try answer(outcome, level, done: .ok)
    }

    /// `?level=study&since=2026-01-31T00:00:00Z&server=main&after=<next of the page before>`
    @Sendable private func resources(_ request: Request, _ context: EndpointContext) async throws -> Response {
        let query = request.uri.queryParameters
        let level = try self.level(query.get("level"))
        let since = try query.get("since").map { text in
            guard let date = try? Date(text, strategy: .iso8601) else {
                throw EndpointProblem.badRequest("'since' has to be a time such as 2026-01-31T00:00:00Z.")
            }
            return date
        }
        let servers = try named(query.get("server"))
        // The server's position and the offset in it.
        let place = (query.get("after") ?? "0.0").split(separator: ".").compactMap { Int($0) }
        guard place.count == 2, servers.indices.contains(place[0]), place[1] >= 0 else {
            throw EndpointProblem.badRequest("'after' has to be the 'next' of the page before.")
        }
        let server = servers[place[0]]
        let page = try await within(configuration.requestLimit) {
            try await server.resources(level, updatedSince: since, offset: place[1])
        }
        var next: JSONValue = .null
        if let offset = page.next {
            next = .string("\(place[0]).\(offset)")
        } else if place[0] + 1 < servers.count {
            next = .string("\(place[0] + 1).0")
        }
        return .json([
            "resources": .array(page.ids.map { ["id": .string($0.rawValue), "server": .string(server.name)] }), "next": next,
        ])
    }

    // MARK: Health

    @Sendable private func ready(_ request: Request, _ context: EndpointContext) async throws -> Response {
        let isReady = servers.allSatisfy(\.isFollowing)
        return .json(
            [
                "ready": .bool(isReady),
                "servers": .array(servers.map { ["name": .string($0.name), "following": .bool($0.isFollowing)] }),
            ],
            status: isReady ? .ok : .serviceUnavailable)
    }

    // MARK: Pieces

    private struct Outcome: Sendable {
        var server: String
        var submission: Submission
    }

    /// An id is the same on every server that has the same images: without a name, all are asked, and the answer that says most counts.
    private func submit(
        _ level: ResourceLevel, _ id: OrthancID, to servers: [any FollowedResources], replay: String?, isBulk: Bool, within limit: Duration?
    ) async throws -> Outcome {
        // At once: one that hangs holds up no other.
        let submissions = try await withThrowingTaskGroup(of: (Int, Submission).self) { tasks in
            for (position, server) in servers.enumerated() {
                tasks.addTask {
                    guard let limit else { return (position, try await server.submit(level, id, replay: replay, isBulk: isBulk)) }
                    do {
                        return (position, try await within(limit) { try await server.submit(level, id, replay: replay, isBulk: isBulk) })
                    } catch let problem as EndpointProblem {
                        return (position, .failed(Reason("timeout", problem.detail)))
                    }
                }
            }
            return try await tasks.reduce(into: [Int: Submission]()) { $0[$1.0] = $1.1 }
        }
        var best: Outcome?
        for (position, server) in servers.enumerated() {
            guard let submission = submissions[position] else { continue }
            if let best, best.submission.weight >= submission.weight { continue }
            best = Outcome(server: server.name, submission: submission)
        }
        guard let best else { throw EndpointProblem.unavailable("Ingest follows no Orthanc server.") }
        return best
    }

    /// - Parameter done: for what needs no event.
    private func answer(_ outcome: Outcome, _ level: ResourceLevel, done: HTTPResponse.Status) throws -> Response {
        var body: [String: JSONValue] = ["status": "accepted", "server": .string(outcome.server)]
        switch outcome.submission {
        case .dispatched(let snapshot):
            body["outcome"] = "dispatched"
            body["snapshot"] = .string(snapshot)
            return .json(.object(body), status: .accepted)
        case .known(let snapshot):
            body["outcome"] = "known"
            body["snapshot"] = .string(snapshot)
        case .filtered(let reason):
            body["outcome"] = "filtered"
            body["reason"] = ["code": .string(reason.code), "text": .string(reason.text)]
        case .unstable:
            throw EndpointProblem.unavailable(
                "Orthanc still receives this \(level.rawValue); its event follows when it is stable.", code: "unstable")
        case .notFound:
            throw EndpointProblem.notFound("Orthanc has no \(level.rawValue) with this id.", code: "not-found")
        case .failed(let reason):
            throw EndpointProblem.unavailable(reason.text, code: reason.code)
        }
        return .json(.object(body), status: done)
    }

    /// - Returns: the servers that a request means.
    private func named(_ name: String?) throws -> [any FollowedResources] {
        guard let name, !name.isEmpty else { return servers }
        guard let server = servers.first(where: { $0.name == name }) else {
            throw EndpointProblem.badRequest(
                "'server' names no Orthanc server of this ingest (a text of \(name.utf8.count) bytes); "
                    + "it has \(servers.map(\.name).joined(separator: ", ")).")
        }
        return [server]
    }

    private func level(_ text: String?) throws -> ResourceLevel {
        guard let text else { return .study }
        guard let level = ResourceLevel(rawValue: text) else {
            throw EndpointProblem.badRequest("'level' is a text of \(text.utf8.count) bytes; it has to be series, study or patient.")
        }
        return level
    }

    private func body(of request: Request) async throws -> Data {
        let limit = configuration.bodyLimit
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit { throw EndpointProblem.tooLarge(limit) }
        do {
            let buffer = try await within(configuration.requestLimit) { try await request.body.collect(upTo: limit) }
            return Data(buffer.readableBytesView)
        } catch is NIOTooManyBytesError {
            throw EndpointProblem.tooLarge(limit)
        }
    }
}

extension Submission {
    /// Which of several servers' answers says most: what one has dealt with is not undone by another one that is away, but only when
    /// all could be asked is it nowhere.
    fileprivate var weight: Int {
        switch self {
        case .dispatched: 5
        case .known: 4
        case .filtered: 3
        case .unstable: 2
        case .failed: 1
        case .notFound: 0
        }
    }
}
