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
    func measure(_ arguments: String...) async throws -> Run {
        let process = try start(arguments)
        defer { FileSystem.remove(process.command.logFile) }
        while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
        let output = try String(contentsOf: process.command.logFile, encoding: .utf8)
        guard process.exit == .status(0), let run = Run(output) else {
            throw BenchmarkError("RawRabbitMQ \(arguments.joined(separator: " ")) failed: \(output)")
        }
        return run
    }

    /// Runs `serve` on a queue while `body` runs.
    func serving(_ queue: String, _ body: () async throws -> Void) async throws {
        let process = try start(["serve", queue])
        defer { FileSystem.remove(process.command.logFile) }
        let result: Result<Void, any Error>
        do {
            try await poll(for: .seconds(10), orThrow: StackError(.timedOut, "RawRabbitMQ serve \(queue) does not consume.")) {
                try String(contentsOf: process.command.logFile, encoding: .utf8).hasPrefix("ready") ? true : nil
            }
            result = .success(try await body())
        } catch {
            result = .failure(error)
        }
        await process.terminate(grace: .seconds(5))
        try result.get()
    }

    private func start(_ arguments: [String]) throws -> ManagedProcess {
        let output = FileManager.default.temporaryDirectory.appendingPathComponent("bench-\(UUID().uuidString).out")
        return try ManagedProcess(
            Command(name: "RawRabbitMQ", executable: executable, arguments: arguments, environment: environment, logFile: output)
        )
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
