import Foundation
import JobStore
import Jobs

/// What ended, bar by bar of the overview's charts.
///
/// What ended is counted where it ends, in the ledger, and a bar that is over stays as it is: it is read once. So a look at a week costs
/// its last bars, however often somebody looks, and adding up a hundred thousand rows is left to the monitor's start.
actor EndedBars {
    struct Activity: Sendable {
        /// Span by span.
        var runs: [EndedSpan]
        /// All spans added up.
        var jobs: [EndedSpan]

        /// How many jobs of the service ended in each state.
        func states(of service: String) -> [JobState: Int] {
            jobs.reduce(into: [:]) { states, span in
                guard span.service == service, let state = JobState(rawValue: span.state) else { return }
                states[state, default: 0] += span.durations.count
            }
        }
    }

    private struct Bar {
        var runs: [EndedSpan] = []
        var jobs: [EndedSpan] = []
    }

    private let ledger: LedgerReader
    /// Bars that are over, by range and beginning.
    private var settled: [ChartRange: [Int: Bar]] = [:]

    /// What ended is committed a moment after the time that it bears.
    static let margin = 120.0

    init(ledger: LedgerReader) { self.ledger = ledger }

    /// So that the first who looks does not wait for a week's rows. Without a ledger there is nothing to read, and nothing to wait for later.
    func prepare() async {
        for range in ChartRange.allCases { _ = try? await activity(range, at: Date()) }
    }

    func activity(_ range: ChartRange, at now: Date) async throws -> Activity {
        let (count, length) = range.bars
        let first = Int(range.start(at: now).timeIntervalSince1970)
        let all = stride(from: first, to: first + count * length, by: length)
        var bars = (settled[range] ?? [:]).filter { $0.key >= first }
        if let missing = all.first(where: { bars[$0] == nil }) {
            let start = Date(timeIntervalSince1970: Double(missing))
            async let runs = ledger.ended(.run, since: start, spans: length)
            async let jobs = ledger.ended(.job, since: start, spans: length)
            let (newRuns, newJobs) = try await (runs, jobs)
            for at in all where at >= missing { bars[at] = Bar() }
            for span in newRuns { bars[Int(span.at.timeIntervalSince1970)]?.runs.append(span) }
            for span in newJobs { bars[Int(span.at.timeIntervalSince1970)]?.jobs.append(span) }
            settled[range] = bars.filter { Double($0.key + length) + Self.margin <= now.timeIntervalSince1970 }
        }
        var sums: [[String]: EndedSpan] = [:]
        for span in all.lazy.compactMap({ bars[$0] }).flatMap(\.jobs) {
            let key = [span.service, span.name, span.state]
            if sums[key] == nil { sums[key] = span } else { sums[key]?.durations.add(span.durations) }
        }
        return Activity(runs: all.compactMap { bars[$0] }.flatMap(\.runs), jobs: Array(sums.values))
    }
}

extension SharedReads {
    /// What ended, for all who look: a bar of three hours does not grow while one looks.
    func ended(_ range: ChartRange, _ bars: EndedBars, at now: Date) async throws -> Recent<EndedBars.Activity>.Reading {
        try await get("ended \(range) \(range.start(at: now))", for: range.patience) { try await bars.activity(range, at: Date()) }
    }
}
