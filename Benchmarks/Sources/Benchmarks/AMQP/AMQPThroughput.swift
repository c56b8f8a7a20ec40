import Stack

/// How many messages a second go out with confirms and come in with acks, and what each costs the client's processor.
struct AMQPThroughput {
    let swift: SwiftClient
    let raw: RawClient
    let broker: PrivateBroker
    let bench: AMQPBench

    private struct Row {
        let name: String
        /// The row that this one is compared with.
        let baseline: Int
        let run: () async throws -> Run
        var runs: [Run] = []
        var brokerSeconds: [Double] = []

        init(_ name: String, baseline: Int, run: @escaping () async throws -> Run) {
            self.name = name
            self.baseline = baseline
            self.run = run
        }
    }

    func table() async throws -> MarkdownTable {
        let (count, window) = (bench.count, bench.window)
        let many = max(1, window / 4)
        let (messages, prefetch) = ("\(count)", "\(window)")
        var publishing = [
            Row("publish, C, a call a message", baseline: 0) {
                try await raw.measure("publish", "bench", messages, "\(bench.size)", prefetch)
            },
            Row("publish, ours, batches", baseline: 0) { try await swift.publishBatches(count) },
            Row("publish, ours, a call a message (\(window) tasks)", baseline: 0) { try await swift.publishOneByOne(count) },
            Row("publish, C, many encoded into one send", baseline: 0) {
                try await raw.measure("publish-bulk", "bench", messages, "\(bench.size)", prefetch)
            },
        ]
        var consuming = [
            Row("consume, C, ack each", baseline: 0) { try await raw.measure("consume", "bench", messages, prefetch, "1") },
            Row("consume, ours, ack each", baseline: 0) { try await swift.consume(count, prefetch: window, ackEvery: 1) },
            Row("consume, C, `multiple` every \(many)", baseline: 2) {
                try await raw.measure("consume", "bench", messages, prefetch, "\(many)")
            },
            Row("consume, ours, `multiple` every \(many)", baseline: 2) {
                try await swift.consume(count, prefetch: window, ackEvery: many)
            },
        ]
        for round in 0..<bench.rounds {
            // What one publishes, another consumes; the pairs and their order change from round to round.
            for turn in publishing.indices {
                let publisher = (turn + round) % publishing.count
                try await measure(&publishing[publisher])
                try await measure(&consuming[(turn + 2 * round) % consuming.count])
            }
        }
        var table = MarkdownTable(
            "\(bench.size)-byte persistent messages, window and prefetch \(window)", "messages/s", "to C", "client µs/message", "to C",
            "client busy", "broker µs/message",
        )
        for rows in [publishing, consuming] {
            for row in rows { append(row, comparedWith: rows[row.baseline], to: &table) }
        }
        return table
    }

    private func measure(_ row: inout Row) async throws {
        let before = brokerSeconds
        row.runs.append(try await row.run())
        row.brokerSeconds.append(brokerSeconds - before)
    }

    private var brokerSeconds: Double {
        broker.pid.flatMap(ProcessUsage.processorSeconds(of:)) ?? .nan
    }

    private func append(_ row: Row, comparedWith baseline: Row, to table: inout MarkdownTable) {
        let count = Double(bench.count)
        table.append(
            row.name,
            (count / row.runs.map(\.seconds).median).fraction(0),
            // Each round's own ratio: what else the machine did then slowed both down.
            zip(baseline.runs, row.runs).map { $0.seconds / $1.seconds }.median.percent,
            (row.runs.map(\.processorSeconds).median / count * 1e6).fraction(1),
            zip(baseline.runs, row.runs).map { $1.processorSeconds / $0.processorSeconds }.median.percent,
            row.runs.map { $0.processorSeconds / $0.seconds }.median.percent,
            (row.brokerSeconds.median / count * 1e6).fraction(1),
        )
    }
}
