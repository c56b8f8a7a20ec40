import AMQP
import Jobs
import Pipeline

/// How long a worker that has nothing else to do waits from a result to the hint of the job that follows it.
struct RouterTurnaround {
    let site: RouterSite
    let bench: RouterBench

    func table() async throws -> MarkdownTable {
        let samples = try await samples(min(bench.count, 300))
        let turnaround = Stopwatch().stop(samples: samples)
        let hop = try await BareBroker(broker: site.broker, seconds: bench.seconds).hop()
        var table = MarkdownTable("one at a time", "median", "99 %")
        table.append("from publishing a result to the hint of the next job", ms(turnaround.median), ms(turnaround.percentile99))
        table.append("bare: from publishing one persistent message to its delivery", ms(hop.median), ms(hop.percentile99))
        return table
    }

    @concurrent
    private func samples(_ count: Int) async throws -> [Double] {
        let worker = SimulatedWorkers(client: site.client)
        return try await site.client.consume(RouterSite.queue, prefetch: 2) { deliveries in
            var samples: [Double] = []
            var reported: ContinuousClock.Instant?
            try await site.publishEvents(1, level: .study)
            for await delivery in deliveries {
                let hint = try delivery.decode(HintMessage.self, type: HintMessage.type)
                if hint.job.index == 1, let reported { samples.append((ContinuousClock.now - reported).inSeconds) }
                if case .go(let order) = try await worker.claim(hint) {
                    reported = .now
                    try await worker.report(order)
                }
                delivery.ack()
                guard samples.count < count else { break }
                if hint.job.index == 1 { try await site.publishEvents(1, level: .study) }
            }
            return samples
        }
    }

    private func ms(_ seconds: Double?) -> String { "\(((seconds ?? .nan) * 1000).fraction(1)) ms" }
}
