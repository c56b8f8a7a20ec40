/// Asks `condition` again and again until it answers with a value or `limit` has passed.
///
/// - Parameters:
///   - limit: the longest time to wait.
///   - interval: the pause between two questions.
///   - failure: the error of a wait that was in vain.
/// - Throws: `failure()` at the deadline, whatever `condition` throws, and `CancellationError`.
@discardableResult
package func poll<Value>(
    for limit: Duration,
    every interval: Duration = .milliseconds(50),
    orThrow failure: @autoclosure () -> StackError,
    until condition: () async throws -> Value?,
) async throws -> Value {
    let deadline = ContinuousClock.now + limit
    while true {
        if let value = try await condition() { return value }
        guard ContinuousClock.now < deadline else { throw failure() }
        try await Task.sleep(for: interval)
    }
}
