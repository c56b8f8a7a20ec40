import Synchronization

/// Whether memory stays flat while messages go out and come in for a long time.
struct AMQPMemory {
    let swift: SwiftClient
    let bench: AMQPBench

    func table() async throws -> MarkdownTable {
        let step = max(1, bench.memoryCount / 10)
        let samples = Mutex<[(messages: Int, resident: Double)]>([(0, ProcessUsage.residentMebibytes)])
        let stopwatch = Stopwatch()
        try await swift.stream(bench.memoryCount, prefetch: bench.window, step: step) { messages in
            let resident = ProcessUsage.residentMebibytes
            samples.withLock { $0.append((messages, resident)) }
        }
        let run = stopwatch.stop()
        var table = MarkdownTable("messages published and consumed at once", "resident MiB")
        for sample in samples.withLock(\.self) { table.append("\(sample.messages)", sample.resident.fraction(1)) }
        table.append("all of them, a second", (Double(bench.memoryCount) / run.seconds).fraction(0))
        return table
    }
}
