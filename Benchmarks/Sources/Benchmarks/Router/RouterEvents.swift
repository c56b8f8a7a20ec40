import Jobs

/// How fast events become runs.
struct RouterEvents {
    let site: RouterSite
    let bench: RouterBench

    func table() async throws -> MarkdownTable {
        var rates: [ResourceLevel: [Double]] = [:]
        var costs: [ResourceLevel: [Double]] = [:]
        let levels: [ResourceLevel] = [.series, .study]
        for _ in 0..<bench.rounds {
            for level in levels {
                let known = try await site.runs()
                let stopwatch = Stopwatch()
                let processor = site.routerSeconds
                try await site.publishEvents(bench.count, level: level)
                try await site.waitForRuns(known + bench.count)
                rates[level, default: []].append(Double(bench.count) / stopwatch.stop().seconds)
                costs[level, default: []].append((site.routerSeconds - processor) / Double(bench.count))
            }
        }
        var table = MarkdownTable("events into runs, from their publishing on", "events/s", "router's processor time an event")
        for (level, name) in zip(levels, ["nobody to ask, the run has no job", "one callback, the run has two jobs"]) {
            table.append(
                name, (rates[level] ?? []).median.fraction(0), "\(((costs[level] ?? []).median * 1000).fraction(2)) ms")
        }
        // What is left over would be in the way of what follows.
        let studies = bench.count * bench.rounds
        _ = try await SimulatedWorkers(client: site.client, count: 16).work { try await site.waitForRuns(studies, .succeeded) }
        return table
    }
}
