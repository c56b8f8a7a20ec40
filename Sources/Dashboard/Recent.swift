/// A value that many ask for at the same time: computed once, shared for a moment.
actor Recent<Value: Sendable> {
    private let lifetime: Duration
    private let load: @Sendable () async throws -> Value
    private var value: (value: Value, until: ContinuousClock.Instant)?
    private var loading: Task<Value, any Error>?

    init(for lifetime: Duration, _ load: @escaping @Sendable () async throws -> Value) {
        self.lifetime = lifetime
        self.load = load
    }

    func get() async throws -> Value {
        if let value, value.until > .now { return value.value }
        if let loading { return try await loading.value }
        // Not the caller's child: whoever asked first may go away while others wait.
        let task = Task { [load] in try await load() }
        loading = task
        defer { loading = nil }
        let fresh = try await task.value
        value = (fresh, .now + lifetime)
        return fresh
    }
}
