import Jobs

/// How fast workers that do nothing get through their jobs.
struct RouterWork {
    let site: RouterSite
    let bench: RouterBench

    func table() async throws -> MarkdownTable {
        var table = MarkdownTable(
            "workers", "jobs/s", "claim, median", "claim, 99 %", "router's processor time a job", "bare calls/s", "bare call, median",
            "bare publishes/s", "bare call + publish/s", "jobs of it")
        for workers in bench.workers {
            var rates: [Double] = []
            var costs: [Double] = []
            var claims: [Double] = []
            var bare: [BareBroker.Rates] = []
            for _ in 0..<bench.rounds {
                let done = try await site.runs(.succeeded)
                let known = try await site.runs()
                try await site.publishEvents(bench.count, level: .study)
                try await site.waitForRuns(known + bench.count)
                let jobs = Double(bench.count * RouterSite.jobsPerStudy)
                let stopwatch = Stopwatch()
                let processor = site.routerSeconds
                claims += try await SimulatedWorkers(client: site.client, count: workers).work {
                    try await site.waitForRuns(done + bench.count, .succeeded)
                }
                rates.append(jobs / stopwatch.stop().seconds)
                costs.append((site.routerSeconds - processor) / jobs)
                bare.append(try await BareBroker(broker: site.broker, seconds: bench.seconds).rates(parallel: workers))
            }
            let claim = claims.sorted()
            let both = bare.map { Double($0.count.both) / $0.both.seconds }.median
            table.append(
                "\(workers)", rates.median.fraction(0), ms(claim[claim.count / 2]), ms(claim[claim.count * 99 / 100]), ms(costs.median),
                bare.map { Double($0.count.calls) / $0.calls.seconds }.median.fraction(0), ms(bare.compactMap(\.calls.median).median),
                bare.map { Double($0.count.publishes) / $0.publishes.seconds }.median.fraction(0), both.fraction(0),
                (rates.median / both).percent)
        }
        return table
    }

    private func ms(_ seconds: Double) -> String { "\((seconds * 1000).fraction(2)) ms" }
}
