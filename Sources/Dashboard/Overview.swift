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
    /// Those that are nearly full.
    var fullDisks: [DiskSpace]

    /// - Parameter folders: by name; their disks are looked at.
    static func read(
        _ ledger: LedgerReader, _ journal: IngestJournalReader, folders: [(name: String, url: URL)] = []
    ) async throws -> Overview {
        let now = Date()
        return Overview(
            totals: try await ledger.totals(),
            channels: try await ledger.channels(at: now),
            workers: try await ledger.workers(),
            services: try await ledger.services(),
            sources: try await journal.sources(),
            accounts: try await journal.accounts(),
            pending: try await journal.pending(limit: 50),
            pipeline: try await ledger.pipelineState(),
            fullDisks: DiskSpace.of(folders).filter(\.isShort)
        )
    }

    /// Jobs of the channel that a worker could take.
    func queued(_ channel: LedgerChannel) -> Int { (channel.counts[.ready] ?? 0) + (channel.counts[.dispatched] ?? 0) }

    /// Workers of the channel that are there and drained.
    func drained(_ channel: String, at now: Date) -> [String] {
        workers.filter { $0.presence(at: now) == .draining && $0.isDrained && $0.channels.contains(channel) }.map(\.id).sorted()
    }

    /// Since when jobs of the channel have waited without a worker that could take one; nil when none waits or one is there.
    func unservedSince(_ channel: LedgerChannel) -> Date? {
        guard channel.workers == 0, let oldest = channel.oldestQueuedAt else { return nil }
        // The last one to go may have gone after the job came.
        let left = workers.lazy.filter { $0.channels.contains(channel.name) }.map(\.seenAt).max()
        return max(oldest, left ?? oldest)
    }
}

/// How full the disk is that a folder lies on.
struct DiskSpace: Sendable, Hashable {
    /// The folders' names: DATA, LOGS, STATE.
    var names: [String]
    /// Bytes.
    var free: Int64
    var size: Int64

    /// Below two gigabytes and below a twentieth: jobs will soon fail for want of room.
    var isShort: Bool { free < 2_000_000_000 && free < size / 20 || free < 200_000_000 }

    /// Folders on one disk share their line; what cannot be looked at is left out.
    static func of(_ folders: [(name: String, url: URL)]) -> [DiskSpace] {
        var disks: [(number: Int, space: DiskSpace)] = []
        for folder in folders {
            guard let facts = try? FileManager.default.attributesOfFileSystem(forPath: folder.url.path),
                let free = facts[.systemFreeSize] as? NSNumber, let size = facts[.systemSize] as? NSNumber,
                let number = facts[.systemNumber] as? NSNumber
            else { continue }
            if let known = disks.firstIndex(where: { $0.number == number.intValue }) {
                disks[known].space.names.append(folder.name)
            } else {
                disks.append((number.intValue, DiskSpace(names: [folder.name], free: free.int64Value, size: size.int64Value)))
            }
        }
        return disks.map(\.space)
    }
}

extension IngestSource {
    /// Ingest reports every ten seconds.
    private static let silence = 45.0
    /// More changes than a busy hospital makes while ingest looks once.
    private static let longLag: Int64 = 5000

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
        case .following:
            if let error { return "\(server): \(error.text)" }
            guard lag >= Self.longLag else { return nil }
            return "Ingest is \(Display.number(Int(clamping: lag))) changes behind the change log of \(server): new images are seen late."
        case .unavailable: return "New images from \(server) are not seen: \(error?.text ?? "it does not answer as it should")"
        case .blocked: return "Events of \(server) wait: \(error?.text ?? "the broker does not take them")"
        }
    }
}
