import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Pipeline
import Stack
import Testing

@testable import Ingest

/// The doorbells of deploy/orthanc in a real Orthanc.
@Suite("Hooks of Orthanc", .timeLimit(.minutes(2)))
struct OrthancHookTests {
    private static let scripts = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../deploy/orthanc").standardized
    private static let token = "token-of-the-hooks"

    @Test("Lua: what has become stable gets its event although nobody looks at the change log")
    func lua() async throws {
        try await ring(Self.scripts.appending(path: "dcm-wake.lua"))
    }

    @Test(
        "Python plugin: what has become stable gets its event although nobody looks at the change log",
        .enabled(if: !OrthancNode.plugins.isEmpty, "Debian's package orthanc-python is not installed"))
    func python() async throws {
        try await ring(Self.scripts.appending(path: "dcm_wake.py"))
    }

    /// An ingest that looks at the change log once an hour, unless it is rung at.
    private func ring(_ script: URL) async throws {
        let port = try FreePorts.next()
        let hook = OrthancNode.Hook(script: script, url: "http://127.0.0.1:\(port)/", token: Self.token)
        try await OrthancFixture.with(hook: hook) { fixture in
            let server = try fixture.followed()
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { await server.run {} }
                let unready = StackError(.timedOut, "Orthanc was not followed.")
                try await poll(for: .seconds(20), orThrow: unready) { server.isFollowing ? true : nil }
                try await RunningEndpoint.serving(server, port: port, token: Self.token) { _ in
                    try await fixture.send([.init(instance: 1)])
                    let silent = StackError(.timedOut, "Nobody rang.", logFile: fixture.orthanc.node.logFile)
                    try await poll(for: .seconds(30), orThrow: silent) { fixture.events.all.isEmpty ? nil : true }
                    #expect(fixture.events.all.map(\.level) == [.study])
                }
                // The endpoint is gone: Orthanc goes on as before, and at its end it ends.
                try await fixture.send([.init(study: "2", instance: 1)])
                let missing = StackError(.timedOut, "Without ingest Orthanc did not go on.", logFile: fixture.orthanc.node.logFile)
                try await poll(for: .seconds(30), orThrow: missing) {
                    let stable = try await fixture.client.changes(since: 0, limit: 100).changes.count { $0.stableLevel == .study }
                    return stable == 2 ? true : nil
                }
                tasks.cancelAll()
            }
        }
    }

    /// Orthanc answers nobody while its Lua waits for an answer: whoever makes the event first and answers then waits in vain.
    @Test("A Lua hook that posts a series as upstream's does is let go, and the event is made")
    func upstreamLua() async throws {
        let port = try FreePorts.next()
        let script = FileManager.default.temporaryDirectory.appending(path: "stable-series-\(UUID().uuidString).lua")
        try Data(
            """
            function OnStableSeries(seriesId, tags, metadata)
               local instances = ParseJson(RestApiGet('/series/' .. seriesId))['Instances']
               local data = ParseJson(RestApiGet('/instances/' .. instances[1] .. '/simplified-tags'))
               data['seriesId'] = seriesId
               data['dcmpath'] = 'dicom/' .. seriesId
               local headers = {}
               headers['Content-Type'] = 'application/json'
               HttpPost(os.getenv('INGEST_URL') .. '/stable-series', DumpJson(data, true), headers)
            end
            """.utf8
        ).write(to: script)
        defer { try? FileManager.default.removeItem(at: script) }
        let hook = OrthancNode.Hook(script: script, url: "http://127.0.0.1:\(port)", token: "")
        try await OrthancFixture.with(hook: hook) { fixture in
            let client = try fixture.client
            let resources = ScriptedResources(onSubmit: { _ = try await client.system() })
            try await RunningEndpoint.serving(resources, port: port) { _ in
                try await fixture.send((1...4).map { .init(instance: $0) })
                let waiting = StackError(.timedOut, "No event was made.", logFile: fixture.orthanc.node.logFile)
                try await poll(for: .seconds(30), orThrow: waiting) { resources.requests.isEmpty ? nil : true }
                #expect(resources.requests.map(\.level) == [.series])
            }
        }
    }
}

extension OrthancFixture {
    /// A follower that hardly ever looks by itself.
    fileprivate func followed() throws -> FollowedServer {
        var configuration = IngestConfiguration()
        configuration.pollInterval = .seconds(3600)
        configuration.sweepInterval = .seconds(3600)
        configuration.stableAge = 1
        return FollowedServer(
            client: try client, configuration: configuration, journal: journal, publisher: events, ledger: nil,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }
}
