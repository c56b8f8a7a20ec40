import Foundation
import Synchronization

/// Readers, each with a connection and a thread of its own, who go over all routes again and again.
final class MonitorReaders: Sendable {
    private let port: Int
    private let routes: [MonitorRoutes.Route]
    private let isDone = Atomic(false)
    private let state: Mutex<State>

    private struct State {
        var seconds: [[Double]]
        var failure: String?
        var running = 0
    }

    init(port: Int, routes: [MonitorRoutes.Route]) {
        self.port = port
        self.routes = routes
        state = Mutex(State(seconds: routes.map { _ in [] }))
    }

    /// - Parameters:
    ///   - pause: what a reader waits between an answer and the next question.
    /// - Returns: seconds of each answer, by route.
    func read(_ readers: Int, pause: Duration, until enough: () async throws -> Void) async throws -> [[Double]] {
        state.withLock { $0.running = readers }
        for number in 0..<readers {
            let thread = Thread { [self] in
                do {
                    try go(number, of: readers, pause: pause)
                } catch {
                    state.withLock { $0.failure = "\(error)" }
                }
                state.withLock { $0.running -= 1 }
            }
            thread.start()
        }
        try await enough()
        isDone.store(true, ordering: .relaxed)
        while state.withLock({ $0.running }) > 0 { try await Task.sleep(for: .milliseconds(20)) }
        if let failure = state.withLock({ $0.failure }) { throw BenchmarkError(failure) }
        return state.withLock { $0.seconds }
    }

    private func go(_ number: Int, of readers: Int, pause: Duration) throws {
        let connection = try HTTPConnection(port: port)
        var random = SplitMix(state: UInt64(number))
        var order = Array(routes.indices)
        var round = number
        while true {
            order.shuffle(using: &random)
            for index in order {
                if isDone.load(ordering: .relaxed) { return }
                let route = routes[index]
                let path = route.paths[round % route.paths.count]
                let answer = try connection.get(path)
                guard answer.status == 200 else { throw BenchmarkError("\(path) answers \(answer.status).") }
                state.withLock { $0.seconds[index].append(answer.seconds) }
                // Not all at the same moment.
                Thread.sleep(forTimeInterval: pause / .seconds(1) * (0.5 + Double(random.below(1000)) / 1000))
            }
            round += readers
        }
    }
}

/// Open pages: each follows the stream of facts.
final class MonitorStreams: Sendable {
    private let connections: [HTTPStream]

    private struct HTTPStream: Sendable {
        let end: @Sendable () -> Void
    }

    private struct Seen {
        var arrivals: [Int64: (count: Int, last: ContinuousClock.Instant)] = [:]
    }

    private let seen: SharedSeen

    private final class SharedSeen: Sendable {
        let seen = Mutex(Seen())
    }

    /// - Parameter first: the path that every one of them asks.
    init(_ count: Int, port: Int, path: String = "/api/v1/stream") throws {
        let seen = SharedSeen()
        self.seen = seen
        connections = try (0..<count).map { _ in
            let connection = try HTTPConnection(port: port)
            try connection.follow(path)
            // A thread of its own reads it; ending the connection from here is safe for a socket.
            nonisolated(unsafe) let shared = connection
            Thread {
                try? shared.lines { line in
                    guard line.hasPrefix("id: "), let fact = Int64(line.dropFirst(4).trimmingCharacters(in: .whitespacesAndNewlines)) else {
                        return true
                    }
                    let now = ContinuousClock.now
                    seen.seen.withLock { seen in
                        let known = seen.arrivals[fact]?.count ?? 0
                        seen.arrivals[fact] = (known + 1, now)
                    }
                    return true
                }
            }.start()
            return HTTPStream { shared.end() }
        }
    }

    func end() { for connection in connections { connection.end() } }

    /// Facts that all of them have seen, and when the last of them did.
    func complete() -> [Int64: ContinuousClock.Instant] {
        seen.seen.withLock { seen in seen.arrivals.filter { $0.value.count >= connections.count }.mapValues(\.last) }
    }
}
