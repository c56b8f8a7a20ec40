import AMQP
import Jobs

/// What the router keeps in memory while more and more jobs wait, and no worker takes one.
struct RouterMemory {
    let site: RouterSite
    let jobs: Int

    func table() async throws -> MarkdownTable {
        var table = MarkdownTable(
            "jobs that wait", "hints in the queue", "router's memory", "its peak", "events/s", "router's processor time an event")
        try await site.startRouter()
        append("0", 0, nil, to: &table)
        let steps = [jobs / 10, jobs / 4, jobs / 2, jobs * 3 / 4, jobs].map { $0 / RouterSite.jobsPerStudy }
        for (before, runs) in zip([0] + steps, steps) {
            let stopwatch = Stopwatch()
            let processor = site.routerSeconds
            try await site.publishEvents(runs - before, level: .study)
            try await site.waitForRuns(runs, within: .seconds(1800))
            let seconds = stopwatch.stop().seconds
            append(
                "\(runs * RouterSite.jobsPerStudy)", try await waitForHints(runs),
                (Double(runs - before) / seconds, (site.routerSeconds - processor) / Double(runs - before)), to: &table)
        }
        await site.stopRouter()
        try await site.startRouter()
        append("the same, after a restart", try await site.client.inspect(RouterSite.queue).messages, nil, to: &table)
        return table
    }

    private func append(_ name: String, _ hints: Int, _ events: (rate: Double, cost: Double)?, to table: inout MarkdownTable) {
        let memory = site.routerMemory
        table.append(
            name, "\(hints)", mebibytes(memory?.resident), mebibytes(memory?.peak), events?.rate.fraction(0) ?? "",
            events.map { "\(($0.cost * 1000).fraction(2)) ms" } ?? "")
    }

    /// Every export is ready.
    private func waitForHints(_ count: Int) async throws -> Int {
        var hints = 0
        for _ in 0..<600 {
            hints = try await site.client.inspect(RouterSite.queue).messages
            if hints >= count { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        return hints
    }

    private func mebibytes(_ value: Double?) -> String { "\((value ?? .nan).fraction(0)) MiB" }
}
