import Foundation
import Jobs
import Pipeline

/// The attempts that this worker has in hand, and what may be done with them. Decides only; whoever asks acts.
struct AttemptTable: Sendable {
    struct Key: Sendable, Hashable {
        var job: JobID
        var attempt: Int
    }

    /// Why we ended an attempt ourselves.
    enum Stop: Sendable, Hashable {
        /// A person or a rule wants it ended.
        case cancelled
        /// The lease is no longer ours: somebody else may run the job by now.
        case lost
        /// This worker ends.
        case shutdown
    }

    typealias Cancel = @Sendable () -> Void

    private enum Phase: Sendable {
        case claiming
        case running(token: Int)
        case reporting(token: Int)

        var token: Int? {
            switch self {
            case .claiming: nil
            case .running(let token), .reporting(let token): token
            }
        }
    }

    private struct Entry: Sendable {
        var phase = Phase.claiming
        var stop: Stop?
        var progress: RenewMessage.Progress?
        var cancel: Cancel?
        var lease: Lease?
    }

    private var entries: [Key: Entry] = [:]
    /// No new jobs are started: this worker ends.
    private(set) var isDraining = false
    /// No new hints are taken until an operator says otherwise.
    private(set) var isDrained = false
    /// Nobody waits for a broker any more.
    private(set) var isAbandoned = false

    var isEmpty: Bool { entries.isEmpty }

    /// Takes up a hint.
    /// - Returns: false when the attempt is in hand already: the hint is a copy.
    mutating func begin(_ key: Key) -> Bool {
        guard entries[key] == nil else { return false }
        entries[key] = Entry()
        return true
    }

    /// The claim was granted.
    /// - Returns: false when the worker is about to end and should hand the job back without starting it.
    mutating func grant(_ key: Key, token: Int, lease: Lease? = nil) -> Bool {
        entries[key]?.lease = lease
        entries[key]?.phase = isDraining ? .reporting(token: token) : .running(token: token)
        entries[key]?.cancel = nil
        return !isDraining
    }

    mutating func progress(_ key: Key, _ progress: RenewMessage.Progress) {
        entries[key]?.progress = progress
    }

    func progress(of key: Key) -> RenewMessage.Progress? { entries[key]?.progress }

    /// The attempt has ended and is to be reported; its lease is kept until that is done.
    /// - Returns: why we ended it, nil when it ended by itself.
    mutating func report(_ key: Key) -> Stop? {
        guard let entry = entries[key], let token = entry.phase.token else { return nil }
        entries[key]?.phase = .reporting(token: token)
        entries[key]?.cancel = nil
        return entry.stop
    }

    /// What ends the step that the attempt is in: the job itself, or a claim or a report that waits for a broker that is away.
    mutating func endable(_ key: Key, by cancel: @escaping Cancel) {
        entries[key]?.cancel = cancel
        // Somebody may have wanted it between the start and now.
        if entries[key]?.stop != nil, case .running = entries[key]?.phase { cancel() }
    }

    mutating func end(_ key: Key) {
        entries[key] = nil
    }

    // MARK: Stopping

    /// - Parameter token: nil for whatever token is current.
    /// - Returns: what ends the attempt; nil when there is nothing to end (any more).
    mutating func stop(_ key: Key, token: Int?, because stop: Stop) -> Cancel? {
        guard let entry = entries[key], case .running(let current) = entry.phase, token == nil || token == current, entry.stop == nil else {
            return nil
        }
        entries[key]?.stop = stop
        return entry.cancel
    }

    /// Control messages and answers to renewals name job and token.
    mutating func stop(_ job: JobID, token: Int, because stop: Stop) -> [Cancel] {
        keys(of: job).compactMap { self.stop($0, token: token, because: stop) }
    }

    /// What the answer to a renewal asks for. What is lost is not reported, so that comes before a wish to cancel.
    mutating func stop(_ reply: RenewReply) -> [Cancel] {
        reply.lost.flatMap { stop($0.job, token: $0.token, because: .lost) }
            + reply.cancel.flatMap { stop($0.job, token: $0.token, because: .cancelled) }
    }

    mutating func drain() {
        isDraining = true
    }

    /// - Returns: false when it was so before.
    mutating func setDrained(_ isDrained: Bool) -> Bool {
        defer { self.isDrained = isDrained }
        return self.isDrained != isDrained
    }

    /// What heartbeats say.
    var state: WorkerInfo.State { isDraining || isDrained ? .draining : .running }

    mutating func stopAll() -> [Cancel] {
        entries.keys.compactMap { stop($0, token: nil, because: .shutdown) }
    }

    /// - Returns: what ends everything that still waits for anything.
    mutating func abandon() -> [Cancel] {
        isAbandoned = true
        return entries.values.compactMap(\.cancel)
    }

    // MARK: Leases

    /// What to renew: attempts whose result has not been confirmed yet are still ours.
    var leases: [RenewMessage.Lease] {
        entries.compactMap { key, entry in
            entry.phase.token.map { RenewMessage.Lease(job: key.job, attempt: key.attempt, token: $0, progress: entry.progress) }
        }
    }

    /// The router has answered a renewal of the leases that were `sent` at `asked`.
    mutating func renewed(_ sent: [RenewMessage.Lease], _ reply: RenewReply, since asked: ContinuousClock.Instant) {
        for lease in sent where !reply.lost.contains(.init(job: lease.job, token: lease.token)) {
            guard let entry = entries[Key(job: lease.job, attempt: lease.attempt)], entry.phase.token == lease.token else { continue }
            entry.lease?.renew(since: asked)
        }
    }

    private func keys(of job: JobID) -> [Key] { entries.keys.filter { $0.job == job } }
}
