import JobStore
import Jobs
import Logging
import ServiceLifecycle
import Synchronization

/// Counters and histograms since the monitor's start, for `/metrics`.
///
/// Follows the ledger fact by fact, so that a scrape reads memory and no table, however large the ledger is.
final class Durations: Sendable {
    struct Values: Sendable {
        /// By service and state.
        var jobs: [[String]: Histogram] = [:]
        /// By channel and priority.
        var waits: [[String]: Histogram] = [:]
        /// By level and state.
        var runs: [[String]: Histogram] = [:]
        /// By service and reason.
        var failures: [[String]: Int] = [:]

        /// A registry with more services than anybody has must not make a scrape endless.
        fileprivate static let limit = 2000
    }

    private let ledger: LedgerReader
    private let feed: FactFeed
    private let logger: Logger
    private let values = Mutex(Values())

    init(ledger: LedgerReader, feed: FactFeed, logger: Logger) {
        self.ledger = ledger
        self.feed = feed
        self.logger = logger
    }

    var current: Values { values.withLock { $0 } }

    func run() async {
        var position: Int64?
        for await _ in feed.watch(isOwn: true).cancelOnGracefulShutdown() {
            do {
                var last = position ?? 0
                // What was before is nobody's increase.
                if position == nil { last = try await ledger.latestFact() }
                position = last
                while case let moments = try await ledger.moments(after: last), moments.last > last {
                    last = moments.last
                    position = last
                    values.withLock { $0.add(moments) }
                }
            } catch is CancellationError {
                return
            } catch {
                logger.debug("The ledger cannot be read for durations", metadata: ["error": "\(error)"])
            }
        }
    }
}

extension Durations.Values {
    mutating func add(_ moments: LedgerMoments) {
        for end in moments.jobEnds {
            let service = Display.service(end.service)
            if let seconds = end.seconds { Self.add(max(0, seconds), to: &jobs, [service, end.state], .work) }
            if ["failed", "dead", "retrying"].contains(end.state), failures.count < Self.limit || failures[[service, end.reason]] != nil {
                failures[[service, end.reason], default: 0] += 1
            }
        }
        for start in moments.jobStarts { Self.add(start.waited, to: &waits, [start.channel, start.priority.name], .wait) }
        for end in moments.runEnds { Self.add(end.seconds, to: &runs, [end.level, end.state], .work) }
    }

    private static func add(_ seconds: Double, to histograms: inout [[String]: Histogram], _ labels: [String], _ empty: Histogram) {
        guard histograms.count < limit || histograms[labels] != nil else { return }
        histograms[labels, default: empty].add(seconds)
    }
}
