import Accounts
import Foundation
import FoundationNetworking
import JobStore
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Synchronization

@testable import Dashboard

/// Keeps what the monitor would hand to the broker.
final class RecordedCommands: CommandSender, Sendable {
    struct BrokerAway: Error {}

    private let commands = Mutex<[CommandMessage]>([])
    private let isAway = Mutex(false)

    var sent: [CommandMessage] { commands.withLock { $0 } }
    var isConnected: Bool { !isAway.withLock { $0 } }

    func goAway() { isAway.withLock { $0 = true } }

    func send(_ command: CommandMessage) async throws {
        if isAway.withLock({ $0 }) { throw BrokerAway() }
        commands.withLock { $0.append(command) }
    }
}

/// Fast, and weak.
let testCost = PasswordHash.Cost(logN: 8, r: 8, p: 1)

struct Answer: Sendable {
    var status: Int
    var headers: [String: String]
    var data: Data

    var text: String { String(decoding: data, as: UTF8.self) }
    var json: JSONValue {
        get throws { try JSONValue(json: data) }
    }
}

/// A monitor on a free port, and a browser for it that keeps cookies only when told to.
struct RunningDashboard: Sendable {
    let port: Int
    let commands: RecordedCommands
    let feed: FactFeed
    let store: MonitorStore

    /// Runs `body` against a monitor that shows the ledger at `path`.
    static func serving(
        _ sample: SampleLedger, token: String? = nil, proxy: ProxySignIn? = nil, host: String = "127.0.0.1", path: String? = nil,
        orthanc: OrthancPages = OrthancPages(), _ body: @Sendable (RunningDashboard) async throws -> Void
    ) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let ledger = LedgerReader(path: path ?? sample.path)
        let feed = FactFeed(ledger: ledger, interval: .milliseconds(100), logger: logger)
        let commands = RecordedCommands()
        let (ports, announce) = AsyncStream<Int>.makeStream()
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        var configuration = try DashboardConfiguration(
            host: host, port: 0, token: token, proxy: proxy, data: sample.data, logs: sample.logs)
        configuration.passwordCost = testCost
        configuration.orthanc = orthanc
        let server = DashboardServer(
            configuration: configuration, ledger: ledger,
            journal: IngestJournalReader(path: sample.folder.appending(path: "state/ingest.sqlite").path), store: store, sender: commands,
            feed: feed, logger: logger
        ) { announce.yield($0) }
        let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: [feed, server], logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                defer { announce.finish() }
                try await group.run()
            }
            var bound: Int?
            for await port in ports {
                bound = port
                break
            }
            guard let port = bound else {
                try await tasks.next()
                return
            }
            let dashboard = RunningDashboard(port: port, commands: commands, feed: feed, store: store)
            do {
                try await body(dashboard)
            } catch {
                await group.triggerGracefulShutdown()
                throw error
            }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    func send(
        _ method: String = "GET", _ path: String, headers: [String: String] = [:], form: [String: String]? = nil, body: Data? = nil
    ) async throws -> Answer {
        guard let url = URL(string: "http://127.0.0.1:\(port)\(path)") else { throw URLError(.badURL) }
        var request = URLRequest(url: url, timeoutInterval: 10)
        request.httpMethod = method
        request.httpBody = body
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        if let form {
            request.setValue("application/x-www-form-urlencoded", forHTTPHeaderField: "Content-Type")
            request.httpBody = Data(form.map { "\($0.key)=\(Self.encode($0.value))" }.joined(separator: "&").utf8)
        }
        let configuration = URLSessionConfiguration.ephemeral
        configuration.httpShouldSetCookies = false
        configuration.httpCookieAcceptPolicy = .never
        let session = URLSession(configuration: configuration, delegate: StayHere(), delegateQueue: nil)
        defer { session.finishTasksAndInvalidate() }
        let (data, response) = try await session.data(for: request)
        guard let response = response as? HTTPURLResponse else { throw URLError(.badServerResponse) }
        let fields = response.allHeaderFields.map { (String(describing: $0.key).lowercased(), String(describing: $0.value)) }
        return Answer(status: response.statusCode, headers: Dictionary(fields) { first, _ in first }, data: data)
    }

    func get(_ path: String, headers: [String: String] = [:]) async throws -> Answer { try await send("GET", path, headers: headers) }

    /// A page's session cookie and the token in its forms.
    func openForm(
        _ path: String, cookie: String? = nil, headers: [String: String] = [:]
    ) async throws -> (cookie: String, token: String) {
        let page = try await get(path, headers: headers.merging(cookie.map { ["Cookie": $0] } ?? [:]) { $1 })
        let issued = page.headers["set-cookie"]?.split(separator: ";").first.map(String.init)
        let token = page.text.firstMatch(of: /name="csrf" value="([0-9a-f]+)"/).map { String($0.output.1) }
        guard let cookie = issued ?? cookie, let token else { throw URLError(.cannotParseResponse) }
        return (cookie, token)
    }

    private static func encode(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
    }
}

/// Shows redirects as they are.
private final class StayHere: NSObject, URLSessionTaskDelegate {
    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse, newRequest request: URLRequest,
        completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }
}
