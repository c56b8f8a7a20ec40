import Bootstrap
import Foundation
import JobStore
import Logging
import Orthanc
import ServiceLifecycle

/// Turns what becomes stable in Orthanc into events for the router, and never gives up.
struct IngestService: Service {
    let client: OrthancClient
    let configuration: IngestConfiguration
    let journal: IngestJournal
    let publisher: any EventPublishing
    let ledger: LedgerEventLookup
    let logger: Logger
    /// Called after each round that found Orthanc in order.
    var onFollowing: @Sendable () -> Void = {}

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var follower = SourceFollower(
                client: client, configuration: configuration, journal: journal, publisher: publisher, ledger: ledger,
                logger: logger)
            while !Task.isCancelled {
                guard let pause = try? await follower.round() else { return }
                if follower.isFollowing { onFollowing() }
                try? await Task.sleep(for: pause)
            }
        }
    }
}
