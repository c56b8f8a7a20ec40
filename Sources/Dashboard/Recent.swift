/// A value that many ask for at the same time: computed once, shared until something has happened or a moment has passed.
///
/// Where things happen all the time, a value that is always the newest is always waited for. With a patience, one that is not older than
/// that is given out at once, and the next one is read meanwhile: nobody waits while somebody asks now and then. What has just been done by
/// hand is waited for all the same.
actor Recent<Value: Sendable> {
    /// A value, and what whoever shows it may say of it.
    struct Reading: Sendable {
        var value: Value
        /// Everything up to this version is in it.
        var version: Int64
        fileprivate var began: ContinuousClock.Instant
        fileprivate var ended: ContinuousClock.Instant

        fileprivate var took: Duration { ended - began }
    }

    private let lifetime: Duration
    /// At least so long passes from one computation's start to the next one's, however much happens.
    private let spacing: Duration
    private let refresh: Duration
    private let patience: Duration
    private let version: @Sendable () -> Int64
    private let required: @Sendable () -> Int64
    private let load: @Sendable () async throws -> Value
    private var latest: Reading?
    private var started: ContinuousClock.Instant?
    /// One that has not begun to read: whoever comes now is content with what it will find.
    private var coming: Task<Reading, any Error>?
    /// The last one that has begun, and what it was sure to see.
    private var running: (version: Int64, task: Task<Reading, any Error>)?

    /// What costs much is shared for longer: reading it takes at most a twentieth of the time, up to ``most``.
    private static var factor: Int { 20 }
    private static var most: Duration { .seconds(3) }

    /// - Parameters:
    ///   - refresh: how old a value is when the next one is read behind it; nil is as soon as `spacing` lets it.
    ///   - patience: for how long after its reading began a value of an older version is still given out; for longer where that took long.
    ///   - version: grows with everything that happens.
    ///   - required: the version that no patience goes without.
    init(
        for lifetime: Duration, spacing: Duration = .milliseconds(250), refresh: Duration? = nil, patience: Duration = .zero,
        version: @escaping @Sendable () -> Int64 = { 0 }, required: @escaping @Sendable () -> Int64 = { 0 },
        _ load: @escaping @Sendable () async throws -> Value
    ) {
        self.lifetime = lifetime
        self.spacing = spacing
        self.refresh = refresh ?? spacing
        self.patience = patience
        self.version = version
        self.required = required
        self.load = load
    }

    func get() async throws -> Value { try await reading().value }

    func reading() async throws -> Reading {
        if let latest {
            let age = ContinuousClock.now - latest.began
            if latest.ended + lifetime > .now, latest.version >= version() { return latest }
            if age < patience(with: latest), latest.version >= required() {
                if coming == nil, running == nil, age >= refresh { coming = Task { try await self.next() } }
                return latest
            }
        }
        // With patience, what is being read is not too old either.
        if let running, running.version >= (patience == .zero ? version() : required()) { return try await running.task.value }
        if let coming { return try await coming.value }
        // Not the caller's child: whoever asked first may go away while others wait.
        let task = Task { try await self.next() }
        coming = task
        return try await task.value
    }

    private func patience(with reading: Reading) -> Duration {
        patience == .zero ? .zero : max(patience, min(reading.took * Self.factor, Self.most))
    }

    private func next() async throws -> Reading {
        if let started, started + spacing > .now { try? await Task.sleep(until: started + spacing) }
        let version = version()
        running = coming.map { (version, $0) }
        coming = nil
        let began = ContinuousClock.now
        started = began
        defer { if running?.version == version { running = nil } }
        let reading = Reading(value: try await load(), version: version, began: began, ended: .now)
        if latest.map({ $0.version <= version }) ?? true { latest = reading }
        return reading
    }
}

/// What pages read, by a key: fifty open pages of one run are one look at the ledger for each change.
actor SharedReads {
    private var reads: [String: (read: any Sendable, used: ContinuousClock.Instant, kept: Duration)] = [:]
    private var swept = ContinuousClock.now
    private let version: @Sendable () -> Int64
    private let required: @Sendable (String?) -> Int64
    private let lifetime: Duration
    private let patience: Duration
    /// More keys than pages that are open at a time.
    private static let limit = 100
    /// What nobody has asked for meanwhile is not kept: a page of a list can be a megabyte.
    private static let rest = Duration.seconds(5)

    /// - Parameters:
    ///   - required: the version that no patience goes without, of what is about a run, or about many.
    init(
        lifetime: Duration = .milliseconds(500), patience: Duration = .seconds(1), version: @escaping @Sendable () -> Int64,
        required: @escaping @Sendable (String?) -> Int64
    ) {
        self.lifetime = lifetime
        self.patience = patience
        self.version = version
        self.required = required
    }

    /// - Parameters:
    ///   - key: says all that `load` depends on.
    ///   - run: which run it is about; nil is many. What happens to a run is on its page at once.
    ///   - moment: for what changes slowly and costs much: is given out for so long, whatever happens.
    func get<Value: Sendable>(
        _ key: String, of run: String? = nil, for moment: Duration? = nil, _ load: @escaping @Sendable () async throws -> Value
    ) async throws -> Recent<Value>.Reading {
        try await read(key, run, moment, load).reading()
    }

    private func read<Value: Sendable>(
        _ key: String, _ run: String?, _ moment: Duration?, _ load: @escaping @Sendable () async throws -> Value
    ) -> Recent<Value> {
        sweep()
        if let known = reads[key]?.read as? Recent<Value> {
            reads[key]?.used = .now
            return known
        }
        let fresh =
            moment.map { Recent(for: lifetime, refresh: $0 / 2, patience: $0, version: version, load) }
            ?? Recent(for: lifetime, patience: patience, version: version, required: { [required] in required(run) }, load)
        reads[key] = (fresh, .now, max(Self.rest, moment ?? .zero))
        return fresh
    }

    private func sweep() {
        let now = ContinuousClock.now
        if swept + .seconds(1) < now {
            swept = now
            reads = reads.filter { $0.value.used + $0.value.kept > now }
        }
        guard reads.count >= Self.limit else { return }
        let old = reads.sorted { $0.value.used < $1.value.used }.prefix(Self.limit / 2).map(\.key)
        for key in old { reads[key] = nil }
    }
}
