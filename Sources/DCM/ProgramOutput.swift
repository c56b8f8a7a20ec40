import Foundation
import Stack

/// A program that is run to its end for what it says.
enum ProgramOutput {
    static func of(
        _ program: String, _ arguments: [String], limit: Duration = .seconds(30)
    ) async throws -> (exit: ProcessExit, output: String) {
        let log = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-\(Secret.generate(length: 12)).log")
        defer { FileSystem.remove(log) }
        let name = URL(fileURLWithPath: program).lastPathComponent
        let process = try ManagedProcess(
            Command(name: name, executable: program, arguments: arguments, environment: Command.plainEnvironment, logFile: log))
        do {
            let late = StackError(.timedOut, "\(name) was not ready after \(limit).")
            let exit = try await poll(for: limit, every: .milliseconds(10), orThrow: late) { process.exit }
            return (exit, (try? String(contentsOf: log, encoding: .utf8)) ?? "")
        } catch {
            _ = await process.kill()
            throw error
        }
    }
}
