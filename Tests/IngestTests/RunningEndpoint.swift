import Foundation
import FoundationNetworking
import Glibc
import Jobs
import Logging
import Orthanc
import ServiceLifecycle
import Stack
import Synchronization

@testable import Ingest

/// A followed server that answers what a test tells it to.
final class ScriptedResources: FollowedResources {
    struct Request: Sendable, Hashable {
        var level: ResourceLevel
        var id: OrthancID
        var replay: String?
        var isBulk = false
    }

    private struct State {
        var wakes = 0
        var requests: [Request] = []
        var answers: [Submission] = []
        var isFollowing = true
    }

    let name: String
    private let state = Mutex(State())
    private let answer: Submission
    private let pages: [[OrthancID]]
    private let delay: Duration
    private let onSubmit: @Sendable () async throws -> Void

    /// - Parameters:
    ///   - answer: to each submission, after those of `answerNext`.
    ///   - pages: what it lists.
    init(
        _ name: String = "orthanc", answering answer: Submission = .dispatched(snapshot: "0123"), after delay: Duration = .zero,
        pages: [[OrthancID]] = [], onSubmit: @escaping @Sendable () async throws -> Void = {}
    ) {
        self.onSubmit = onSubmit
        self.name = name
        self.answer = answer
        self.delay = delay
        self.pages = pages
    }

    var wakes: Int { state.withLock { $0.wakes } }
    var requests: [Request] { state.withLock { $0.requests } }
    var isFollowing: Bool { state.withLock { $0.isFollowing } }

    func stopFollowing() { state.withLock { $0.isFollowing = false } }
    func answerNext(_ answers: Submission...) { state.withLock { $0.answers = answers } }

    func wake() { state.withLock { $0.wakes += 1 } }

    func submit(_ level: ResourceLevel, _ id: OrthancID, replay: String?, isBulk: Bool) async throws -> Submission {
        if delay > .zero { try await Task.sleep(for: delay) }
        try await onSubmit()
        return state.withLock { state in
            state.requests.append(Request(level: level, id: id, replay: replay, isBulk: isBulk))
            return state.answers.isEmpty ? answer : state.answers.removeFirst()
        }
    }

    func resources(_ level: ResourceLevel, updatedSince: Date?, offset: Int) async throws -> ResourcePage {
        guard pages.indices.contains(offset) else { return ResourcePage(ids: [], next: nil) }
        return ResourcePage(ids: pages[offset], next: offset + 1 < pages.count ? offset + 1 : nil)
    }
}

/// Ingest's endpoint on a free port, and a client for it.
struct RunningEndpoint: Sendable {
    let port: Int

    var url: String { "http://127.0.0.1:\(port)" }

    static func serving(
        _ servers: any FollowedResources..., port: UInt16? = nil, token: String? = nil,
        configure: (inout EndpointConfiguration) -> Void = { _ in }, _ body: @Sendable (RunningEndpoint) async throws -> Void
    ) async throws {
        var configuration = EndpointConfiguration(port: Int(port ?? 0), token: token)
        configure(&configuration)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let endpoint = EndpointServer(configuration: configuration, servers: servers, logger: logger)
        let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: [endpoint], logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            do {
                let limit = StackError(.timedOut, "The endpoint was not bound in 20 s.")
                let port = try await poll(for: .seconds(20), every: .milliseconds(5), orThrow: limit) { endpoint.port }
                try await body(RunningEndpoint(port: port))
            } catch {
                await group.triggerGracefulShutdown()
                throw error
            }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    struct Answer: Sendable {
        var status: Int
        var headers: [String: String]
        var data: Data

        var text: String { String(decoding: data, as: UTF8.self) }
        /// The member of the JSON object that the answer is.
        func member(_ name: String) throws -> JSONValue? { try JSONValue(json: data).object?[name] }
    }

    func post(_ path: String, _ body: String, headers: [String: String] = [:]) async throws -> Answer {
        try await send("POST", path, Data(body.utf8), headers: headers)
    }

    func get(_ path: String, headers: [String: String] = [:]) async throws -> Answer { try await send("GET", path, nil, headers: headers) }

    func send(_ method: String, _ path: String, _ body: Data?, headers: [String: String] = [:]) async throws -> Answer {
        guard let url = URL(string: url + path) else { throw URLError(.badURL) }
        var request = URLRequest(url: url, timeoutInterval: 20)
        request.httpMethod = method
        request.httpBody = body
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        let session = URLSession(configuration: .ephemeral)
        defer { session.finishTasksAndInvalidate() }
        let (data, response) = try await session.data(for: request)
        guard let response = response as? HTTPURLResponse else { throw URLError(.badServerResponse) }
        let fields = response.allHeaderFields.map { (String(describing: $0.key).lowercased(), String(describing: $0.value)) }
        return Answer(status: response.statusCode, headers: Dictionary(fields) { first, _ in first }, data: data)
    }
}

extension RunningEndpoint {
    /// Sends these bytes and gives back all that comes until the connection ends.
    func raw(_ request: String) async throws -> String {
        let port = port
        return try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(with: Result { try Self.exchange(request, port: port) })
            }
        }
    }

    private static func exchange(_ request: String, port: Int) throws -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw URLError(.cannotConnectToHost) }
        let bytes = Array(request.utf8)
        // An answer may come, and the connection end, before all is sent.
        _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            answer += buffer[..<count]
        }
        return String(decoding: answer, as: UTF8.self)
    }
}
