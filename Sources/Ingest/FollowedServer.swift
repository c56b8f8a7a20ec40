import Foundation
import JobStore
import Jobs
import Logging
import Orthanc
import Synchronization

/// One Orthanc server, for those who want something of its follower. Everything goes the way of the change log: one resource at a time,
/// with the journal, the filters and the broker's confirm.
final class FollowedServer: Sendable {
    /// The server's name in the configuration and on its events.
    let name: String
    private let client: OrthancClient
    private let configuration: IngestConfiguration
    private let journal: IngestJournal
    private let publisher: any EventPublishing
    private let ledger: LedgerEventLookup?
    private let logger: Logger
    private let mailbox = SourceMailbox()
    private let pacer: Pacer
    private let following = Mutex(false)

    init(
        client: OrthancClient, configuration: IngestConfiguration, journal: IngestJournal, publisher: any EventPublishing,
        ledger: LedgerEventLookup?, logger: Logger
    ) {
        name = client.endpoint.name
        self.client = client
        self.configuration = configuration
        self.journal = journal
        self.publisher = publisher
        self.ledger = ledger
        self.logger = logger
        pacer = Pacer(perSecond: configuration.submitRate)
    }

    /// Whether the last round found Orthanc and the broker in order.
    var isFollowing: Bool { following.withLock { $0 } }

    /// Looks at the change log at once. Costs nothing; may be called as often as somebody likes.
    func wake() { mailbox.wake() }

    /// Gives a resource its event, whatever `EVENTS` says of its level, and returns when the broker has confirmed it.
    ///
    /// - Parameters:
    ///   - replay: a name for one more event of a state that has had its event, which makes a new run. The same name again is the same run.
    ///   - isBulk: one of many: they are spread over time, `SUBMIT_RATE` a second.
    /// - Throws: `CancellationError` alone.
    func submit(_ level: ResourceLevel, _ id: OrthancID, replay: String? = nil, isBulk: Bool = false) async throws -> Submission {
        if isBulk { try await pacer.wait() }
        return try await mailbox.submit(level, id, replay: replay)
    }

    /// One page of what Orthanc has.
    ///
    /// - Parameters:
    ///   - updatedSince: only what was updated then or later, on our clock.
    ///   - offset: 0, then ``ResourcePage/next``. A page may be empty and not the last.
    /// - Throws: ``OrthancError``, `CancellationError`.
    func resources(_ level: ResourceLevel, updatedSince: Date?, offset: Int) async throws -> ResourcePage {
        let limit = configuration.sweepPageSize
        let page = try await client.summaries(level, since: offset, limit: limit)
        var cutoff = ""
        if let updatedSince {
            guard let now = OrthancTime.date(try await client.now()) else {
                throw OrthancError(.badResponse, server: name, path: "/tools/now", message: "the answer is not a time")
            }
            cutoff = OrthancTime.text(updatedSince.addingTimeInterval(now.timeIntervalSinceNow))
        }
        return ResourcePage(ids: page.filter { $0.lastUpdate >= cutoff }.map(\.id), next: page.isEmpty ? nil : offset + limit)
    }

    /// Follows until the task is cancelled.
    func run(onFollowing: @Sendable () -> Void) async {
        defer {
            following.withLock { $0 = false }
            mailbox.close()
        }
        var follower = SourceFollower(
            client: client, configuration: configuration, journal: journal, publisher: publisher, ledger: ledger, mailbox: mailbox,
            logger: logger)
        while !Task.isCancelled {
            guard let pause = try? await follower.round() else { return }
            following.withLock { $0 = follower.isFollowing }
            if follower.isFollowing { onFollowing() }
            guard (try? await follower.rest(for: pause)) != nil else { return }
        }
    }
}

/// Spreads calls over time.
final class Pacer: Sendable {
    private let interval: Duration
    private let next = Mutex(ContinuousClock.now)

    init(perSecond: Double) {
        interval = .seconds(1 / perSecond)
    }

    func wait() async throws {
        let turn = next.withLock { next in
            let turn = max(next, .now)
            next = turn + interval
            return turn
        }
        try await Task.sleep(until: turn, clock: .continuous)
    }
}
