import Foundation
import JobStore
import Jobs

/// Everything that is counted, read together: what the overview, the metrics and the head of each page show.
struct Overview: Sendable {
    var totals: LedgerTotals
    var channels: [LedgerChannel]
    var workers: [LedgerWorker]
    var services: [LedgerService]
    /// How it goes with each Orthanc server.
    var sources: [IngestSource]
    /// What became of everything that each of them has.
    var accounts: [IngestAccount]
    /// What waits for its event, the oldest first, some of it.
    var pending: [IngestPending]
    /// How the router sees the broker.
    var pipeline: LedgerPipelineState

    static func read(_ ledger: LedgerReader, _ journal: IngestJournalReader) async throws -> Overview {
        let now = Date()
        return Overview(
            totals: try await ledger.totals(at: now),
            channels: try await ledger.channels(at: now),
            workers: try await ledger.workers(),
            services: try await ledger.services(at: now),
            sources: try await journal.sources(),
            accounts: try await journal.accounts(),
            pending: try await journal.pending(limit: 50),
            pipeline: try await ledger.pipelineState()
        )
    }

    /// Jobs of the channel that a worker could take.
    func queued(_ channel: LedgerChannel) -> Int { (channel.counts[.ready] ?? 0) + (channel.counts[.dispatched] ?? 0) }

    /// Since when jobs of the channel have waited without a worker that could take one; nil when none waits or one is there.
    func unservedSince(_ channel: LedgerChannel) -> Date? {
        guard channel.workers == 0, let oldest = channel.oldestQueuedAt else { return nil }
        // The last one to go may have gone after the job came.
        let left = workers.lazy.filter { $0.channels.contains(channel.name) }.map(\.seenAt).max()
        return max(oldest, left ?? oldest)
    }
}

extension IngestSource {
    /// Ingest reports every ten seconds.
    private static let silence = 45.0

    private func isSilent(at now: Date) -> Bool { now.timeIntervalSince(checkedAt) > Self.silence }

    /// Whether ingest follows the server's change log; an ingest that has died says so no more.
    func isFollowed(at now: Date) -> Bool { state == .following && !isSilent(at: now) }

    /// What people should know about this server, if anything.
    func trouble(at now: Date) -> String? {
        if isSilent(at: now) {
            return "Ingest says nothing of server \(server) for \(Display.duration(now.timeIntervalSince(checkedAt))): is it running?"
        }
        switch state {
        case .starting: return nil
        // It follows, yet something on the way could not be read.
        case .following: return error.map { "\(server): \($0.text)" }
        case .unavailable: return "New images from \(server) are not seen: \(error?.text ?? "it does not answer as it should")"
        case .blocked: return "Events of \(server) wait: \(error?.text ?? "the broker does not take them")"
        }
    }
}
