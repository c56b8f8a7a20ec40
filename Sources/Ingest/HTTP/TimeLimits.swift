import Synchronization

/// Cancels what takes longer.
func within<Value: Sendable>(_ limit: Duration, _ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { tasks in
        tasks.addTask { try await work() }
        tasks.addTask {
            try await Task.sleep(for: limit)
            return nil
        }
        defer { tasks.cancelAll() }
        guard let value = try await tasks.next() ?? nil else {
            throw EndpointProblem.unavailable("It was not done within \(limit.components.seconds) s.", retryAfter: 10)
        }
        return value
    }
}

/// Work that goes on when whoever asked for it waits no longer.
final class BackgroundWork: Sendable {
    private let limit: Int
    private let running = Mutex(0)

    /// - Parameter limit: of what runs at one time.
    init(limit: Int) { self.limit = limit }

    /// - Returns: nil when it is not done yet.
    func run<Value: Sendable>(
        waitingAtMost patience: Duration, _ work: @escaping @Sendable () async throws -> Value
    ) async throws -> Value? {
        let isTaken = running.withLock { running in
            guard running < limit else { return false }
            running += 1
            return true
        }
        guard isTaken else { throw EndpointProblem.unavailable("\(limit) requests like this are under way already.") }
        let (results, announce) = AsyncStream<Result<Value, any Error>>.makeStream()
        Task {
            let result: Result<Value, any Error>
            do { result = .success(try await work()) } catch { result = .failure(error) }
            self.running.withLock { $0 -= 1 }
            announce.yield(result)
            announce.finish()
        }
        return try await withThrowingTaskGroup(of: Value?.self) { tasks in
            tasks.addTask {
                for await result in results { return try result.get() }
                return nil
            }
            tasks.addTask {
                try await Task.sleep(for: patience)
                return nil
            }
            defer { tasks.cancelAll() }
            return try await tasks.next() ?? nil
        }
    }
}
