import Foundation
import Stack

/// The C program, one process a run.
struct RawClient {
    private let executable: String
    private let environment: [String: String]

    init(url: String) throws {
        let program = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        executable = program.deletingLastPathComponent().appendingPathComponent("RawRabbitMQ").path
        guard FileManager.default.isExecutableFile(atPath: executable) else {
            throw BenchmarkError("The program \(executable) is not built: call `swift build -c release --package-path Benchmarks`.")
        }
        environment = Command.plainEnvironment.merging(["AMQP_URL": url]) { $1 }
    }

    /// Runs a command that measures; main.c describes them.
    func measure(_ arguments: String...) throws -> Run {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = environment
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0, let run = Run(text) else {
            throw BenchmarkError("RawRabbitMQ \(arguments.joined(separator: " ")) failed (status \(process.terminationStatus)).")
        }
        return run
    }

    /// Runs `serve` on a queue while `body` runs.
    func serving(_ queue: String, _ body: () async throws -> Void) async throws {
        let process = Process()
        let (input, output) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = ["serve", queue]
        process.environment = environment
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        defer {
            try? input.fileHandleForWriting.close()
            process.waitUntilExit()
        }
        // One line, once it consumes.
        guard !output.fileHandleForReading.availableData.isEmpty else { throw BenchmarkError("RawRabbitMQ serve \(queue) failed.") }
        try await body()
    }
}

struct BenchmarkError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

extension Run {
    /// Reads `seconds=1.2 user=0.1 …`.
    fileprivate init?(_ line: String) {
        var values: [Substring: Double] = [:]
        for field in line.split(whereSeparator: \.isWhitespace) {
            let parts = field.split(separator: "=")
            if parts.count == 2 { values[parts[0]] = Double(parts[1]) }
        }
        guard let seconds = values["seconds"], let user = values["user"], let system = values["system"] else { return nil }
        self.init(seconds: seconds, processorSeconds: user + system, median: values["p50"], percentile99: values["p99"])
    }
}
