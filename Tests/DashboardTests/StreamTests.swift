import Foundation
import FoundationNetworking
import JobStore
import Jobs
import Synchronization
import Testing

@testable import Dashboard

/// Collects what a server-sent event stream says.
final class Listener: NSObject, URLSessionDataDelegate {
    private let received = Mutex("")

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        received.withLock { $0 += String(decoding: data, as: UTF8.self) }
    }

    var text: String { received.withLock { $0 } }
    var ids: [Int] { text.matches(of: /(?m)^id: (\d+)$/).compactMap { Int($0.output.1) } }

    /// Listens until `done` or until half a minute is over.
    func listen(
        _ url: String, lastEventID: String? = nil, headers: [String: String] = [:], until done: (Listener) async throws -> Bool
    ) async throws {
        var request = URLRequest(url: try #require(URL(string: url)))
        if let lastEventID { request.setValue(lastEventID, forHTTPHeaderField: "Last-Event-ID") }
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        let configuration = URLSessionConfiguration.ephemeral
        configuration.httpShouldSetCookies = false
        let session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
        let task = session.dataTask(with: request)
        task.resume()
        defer {
            task.cancel()
            session.invalidateAndCancel()
        }
        let deadline = ContinuousClock.now + .seconds(60)
        while try await !done(self), ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(10)) }
    }
}

@Suite(.timeLimit(.minutes(2)))
struct StreamTests {
    @Test("A browser that was away gets every fact it missed, in order, then what happens now")
    func resume() async throws {
        let sample = try SampleLedger()
        for index in 0..<1200 { try sample.addFact("job.running", data: ["n": .integer(Int64(index))]) }
        try await RunningDashboard.serving(sample) { dashboard in
            var isSent = false
            let listener = Listener()
            try await listener.listen("http://127.0.0.1:\(dashboard.port)/api/v1/stream", lastEventID: "5") { listener in
                if !isSent, listener.ids.count == 1195 {
                    isSent = true
                    try sample.addFact("run.succeeded")
                }
                return listener.ids.last == 1201
            }
            let isComplete = listener.ids == Array(6...1201)
            #expect(isComplete, "\(listener.ids.count) facts from \(listener.ids.first ?? 0) to \(listener.ids.last ?? 0)")
            #expect(listener.text.contains("event: fact\ndata: {"))
        }
    }

    @Test("Who is disabled meanwhile hears no more")
    func revoked() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("anna", .viewer)
            let cookie = try await dashboard.signIn("anna").cookie
            let listener = Listener()
            let url = "http://127.0.0.1:\(dashboard.port)/api/v1/stream"
            var isDisabled = false
            try await listener.listen(url, headers: ["Cookie": cookie]) { listener in
                if !isDisabled, listener.text.contains("retry:"), dashboard.feed.watchers == 1 {
                    isDisabled = true
                    try await dashboard.store.setDisabled("anna", true, keepsAdmin: false)
                }
                return isDisabled && dashboard.feed.watchers == 0
            }
            #expect(isDisabled && dashboard.feed.watchers == 0)
            #expect(try await dashboard.get("/api/v1/stream", headers: ["Cookie": cookie]).status == 401)
        }
    }

    @Test("A doorbell is heard at once, and only the wanted run is told")
    func onlyOneRun() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            try await waitUntil { dashboard.feed.latest > 0 }
            let listener = Listener()
            var isSent = false
            try await listener.listen("http://127.0.0.1:\(dashboard.port)/api/v1/stream?run=\(hospital.active)") { listener in
                if !isSent, listener.text.contains("retry:"), dashboard.feed.watchers == 1 {
                    isSent = true
                    try sample.addFact("job.failed", run: hospital.failed)
                    try sample.addFact("job.succeeded", run: hospital.active)
                    dashboard.feed.ring()
                }
                return !listener.ids.isEmpty
            }
            #expect(listener.ids.count == 1)
            #expect(listener.text.contains("job.succeeded"))
            #expect(!listener.text.contains("job.failed"))
            try await waitUntil { dashboard.feed.watchers <= 1 }
        }
    }

    @Test("A number from another ledger's future starts anew")
    func future() async throws {
        let sample = try SampleLedger()
        try sample.addFact("run.created")
        try await RunningDashboard.serving(sample) { dashboard in
            try await waitUntil { dashboard.feed.latest == 1 }
            let listener = Listener()
            try await listener.listen("http://127.0.0.1:\(dashboard.port)/api/v1/stream?after=999") { $0.text.contains("event: reset") }
            #expect(listener.text.contains("event: reset"))
            #expect(listener.ids == [1])
        }
    }

    @Test(
        "Who is too far behind, or cannot be told all, reads anew; nobody else does",
        arguments: [(0, 1, 0, false), (0, 1, 5000, false), (0, 1, 5001, true), (9, 11, 20, true), (10, 11, 20, false), (21, 1, 20, true)])
    func needsReset(position: Int64, oldest: Int64, latest: Int64, isReset: Bool) {
        #expect(FactStream.needsReset(after: position, oldest: oldest, latest: latest) == isReset)
    }

    @Test("Who was away for so long that facts are gone starts anew from now on; who was not misses nothing")
    func afterRetention() async throws {
        let sample = try SampleLedger()
        for _ in 0..<20 { try sample.addFact("job.running") }
        try sample.deleteFacts(upTo: 10)
        try await RunningDashboard.serving(sample) { dashboard in
            try await waitUntil { dashboard.feed.latest == 20 }
            for (seen, ids) in [("9", [20, 21]), ("10", Array(11...21))] {
                var isSent = false
                let listener = Listener()
                try await listener.listen("http://127.0.0.1:\(dashboard.port)/api/v1/stream", lastEventID: seen) { listener in
                    if !isSent, seen == "9", listener.text.contains("event: reset") {
                        isSent = true
                        try sample.addFact("run.succeeded")
                    }
                    return listener.ids.last == 21
                }
                #expect(listener.ids == ids)
                #expect(listener.text.contains("event: reset") == (seen == "9"))
            }
        }
    }
}

/// Polls with a deadline.
func waitUntil(_ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !condition() {
        try #require(ContinuousClock.now < deadline, "what was waited for did not come")
        try await Task.sleep(for: .milliseconds(10))
    }
}
