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
