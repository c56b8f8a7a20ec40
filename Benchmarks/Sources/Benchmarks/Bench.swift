import ArgumentParser

@main
struct Bench: AsyncParsableCommand {
    /// One file and one line here for each measurement.
    private static let measurements: [any AsyncParsableCommand.Type] = [
        AMQPBench.self,
        ExportBench.self,
        LedgerBench.self,
        MonitorBench.self,
        RouterBench.self,
        WorkerBench.self,
    ]

    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "The measured comparisons. Without a subcommand: all of them, one after another.",
        subcommands: measurements,
    )

    func run() async throws {
        for measurement in Self.measurements {
            guard var command = try measurement.parseAsRoot([]) as? any AsyncParsableCommand else { continue }
            try await command.run()
        }
    }
}
