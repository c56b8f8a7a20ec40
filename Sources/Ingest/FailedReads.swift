import Orthanc

/// How often Orthanc could not give one resource, and when it is asked for it again. A value without input or output.
struct FailedReads: Sendable {
    private let limit: Int
    /// Between two attempts after the limit, doubled from one to the next.
    private let pause: Duration
    private(set) var count = 0
    private var retryAt: ContinuousClock.Instant?
    /// The newest entry of the change log for which it was tried.
    private var entry: Int64 = 0
    private var lastError: OrthancError?
    private var isTold = false

    /// - Parameters:
    ///   - limit: attempts after which it no longer holds up the others.
    ///   - pause: before the first attempt after that.
    init(limit: Int, pause: Duration) {
        self.limit = limit
        self.pause = pause
    }

    /// Whether another resource might be given although this one was not.
    static func mayConcernOneResource(_ error: OrthancError) -> Bool {
        [.serverFailure, .badResponse, .timedOut, .interrupted, .notFound].contains(error.code)
    }

    var isGivenUp: Bool { count >= limit }

    mutating func fail(_ error: OrthancError, entry: Int64?, now: ContinuousClock.Instant) {
        count += 1
        lastError = error
        self.entry = max(self.entry, entry ?? 0)
        if isGivenUp { retryAt = now + pause * (1 << min(count - limit, 4)) }
    }

    /// Whether it is not yet time to try again. An entry of the change log that is new is a reason to try at once.
    func isLeftAlone(entry: Int64?, now: ContinuousClock.Instant) -> Bool {
        guard let retryAt, now < retryAt else { return false }
        return entry.map { $0 <= self.entry } ?? true
    }

    /// - Returns: the last error once it has been given up; nil from the second call on.
    mutating func takeUntold() -> OrthancError? {
        guard isGivenUp, !isTold else { return nil }
        isTold = true
        return lastError
    }
}
