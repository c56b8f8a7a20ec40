/// How long one message takes to its confirm, and one request to its reply, with nothing else under way.
struct AMQPLatency {
    let swift: SwiftClient
    let raw: RawClient
    let bench: AMQPBench

    func table() async throws -> MarkdownTable {
        let count = 2000
        let (messages, size) = ("\(count)", "\(bench.size)")
        var rows: [(name: String, runs: [Run])] = [
            "publish until its confirm, C", "publish until its confirm, ours", "call, C, answered by C", "call, ours, answered by C",
            "call, ours, answered by ours",
        ].map { ($0, []) }
        for _ in 0..<bench.rounds {
            rows[0].runs.append(try await raw.measure("confirm", "bench", messages, size))
            rows[1].runs.append(try await swift.confirmLatency(count))
            _ = try await swift.consume(2 * count, prefetch: bench.window, ackEvery: 1)
            try await raw.serving("bench") {
                rows[2].runs.append(try await raw.measure("call", "bench", messages, size))
                rows[3].runs.append(try await swift.callLatency(count))
            }
            rows[4].runs.append(try await swift.serving { try await swift.callLatency(count) })
        }
        var table = MarkdownTable("one at a time, \(bench.size) bytes", "p50 ms", "p99 ms", "client µs each")
        for row in rows {
            table.append(
                row.name,
                (row.runs.compactMap(\.median).median * 1000).fraction(3),
                (row.runs.compactMap(\.percentile99).median * 1000).fraction(3),
                (row.runs.map(\.processorSeconds).median / Double(count) * 1e6).fraction(1),
            )
        }
        return table
    }
}
