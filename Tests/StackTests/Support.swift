import Foundation
import Glibc
import Logging
import Stack
import Synchronization
import Testing

func withTemporaryFolder<Value>(_ body: (URL) async throws -> Value) async throws -> Value {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-\(Secret.generate(length: 12))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder)
}

/// Whether a process runs: one that has ended and was not reaped by its parent yet does not.
func isAlive(_ pid: pid_t) -> Bool {
    guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let end = stat.lastIndex(of: ")") else {
        return false
    }
    return stat[end...].split(separator: " ").dropFirst().first.map { !["Z", "X"].contains($0) } ?? false
}

/// A shell script as a command, with the script's name as its own.
func shell(_ script: String, name: String = "child", in folder: URL, environment: [String: String] = [:]) -> Command {
    Command(
        name: name,
        executable: "/bin/sh",
        arguments: ["-c", script],
        environment: Command.plainEnvironment.merging(environment) { $1 },
        logFile: folder.appendingPathComponent("\(name).log"),
    )
}

/// A child that runs until it is told to stop, and nothing else.
let idle = "trap 'exit 0' TERM; while :; do sleep 0.05; done"

func eventually<Value>(
    _ what: String,
    within limit: Duration = .seconds(60),
    _ condition: () async throws -> Value?,
) async throws -> Value {
    try await poll(for: limit, every: .milliseconds(10), orThrow: StackError(.timedOut, "This did not happen: \(what)"), until: condition)
}

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
