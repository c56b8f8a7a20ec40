import ArgumentParser
import Foundation
import Stack

/// Our AMQP client beside a C program that uses librabbitmq directly, on one private broker.
struct AMQPBench: AsyncParsableCommand {
    enum Part: String, CaseIterable, ExpressibleByArgument {
        case throughput, latency, memory
    }

    static let configuration = CommandConfiguration(
        commandName: "amqp",
        abstract: "The AMQP client beside librabbitmq used directly from C, on a broker of its own.",
    )

    @Option(help: ArgumentHelp("What to measure.", valueName: "part"))
    var part: [Part] = Part.allCases

    @Option(help: "How many messages a run of publishing or consuming moves.")
    var count = 100_000

    @Option(help: "How many rounds; each has every run once, and the medians count.")
    var rounds = 5

    @Option(help: "The body's size in bytes.")
    var size = 1024

    @Option(help: "Unconfirmed messages while publishing, and the prefetch while consuming.")
    var window = 256

    @Option(help: "How many messages go through while memory is watched.")
    var memoryCount = 1_000_000

    func validate() throws {
        guard count > 0, rounds > 0, size > 0, memoryCount > 0, (1...65535).contains(window) else {
            throw ValidationError("Counts, rounds and sizes are at least 1, the window is at most 65535.")
        }
    }

    func run() async throws {
        report("## AMQP client\n\n\(Host.description)\n")
        try await PrivateBroker.withTemporary("bench") { try await measure($0) }
    }

    private func measure(_ broker: PrivateBroker) async throws {
        let swift = SwiftClient(url: broker.amqpURL, queue: "bench", size: size, window: window)
        let raw = try RawClient(url: broker.amqpURL)
        try await swift.declare()
        for part in part {
            switch part {
            case .throughput:
                report(try await AMQPThroughput(swift: swift, raw: raw, broker: broker, bench: self).table().description + "\n")
            case .latency:
                report(try await AMQPLatency(swift: swift, raw: raw, bench: self).table().description + "\n")
            case .memory:
                report(try await AMQPMemory(swift: swift, bench: self).table().description + "\n")
            }
        }
    }

    /// At once, into a file or a pipe too: `print` would keep it until the end.
    private func report(_ text: String) {
        FileHandle.standardOutput.write(Data((text + "\n").utf8))
    }
}
