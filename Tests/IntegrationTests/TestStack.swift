import Foundation
import Stack
import Testing

/// A whole stack of its own, started with the launcher's own command: private broker, Orthanc, four services, two workers.
///
/// Starting takes some ten seconds, so that a suite shares one.
struct TestStack: Sendable {
    let home: URL
    let endpoints: Endpoints

    /// Starts a stack, runs `body`, and stops exactly that stack, whatever happens. The folder is kept when something failed.
    static func with(
        services: URL? = nil, environment: [String: String] = [:], _ body: (TestStack) async throws -> Void
    ) async throws {
        let home = FileManager.default.temporaryDirectory.appending(path: "dcm-test-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        if let services {
            for folder in ["registry", "modules"] {
                try FileManager.default.copyItem(at: services.appending(path: folder), to: home.appending(path: folder))
            }
        }
        do {
            let stack = try await start(home, environment)
            try await body(stack)
        } catch {
            _ = try? await tool(["down", "--home", home.path])
            Issue.record("The stack's files are kept in \(home.path).")
            throw error
        }
        try await tool(["down", "--home", home.path])
        try FileManager.default.removeItem(at: home)
    }

    private static func start(_ home: URL, _ environment: [String: String]) async throws -> TestStack {
        let settings = ["EVENTS": "study", "ORTHANC_STABLE_AGE": "1", "CALLBACK_TIMEOUT": "2"].merging(environment) { $1 }
        try await tool(["up", "--home", home.path, "--workers", "2", "--bin", products.path], settings, limit: .seconds(240))
        return TestStack(home: home, endpoints: try Endpoints.read(StackHome(path: home.path)))
    }

    /// Runs the command line tool to its end.
    @discardableResult
    static func tool(_ arguments: [String], _ environment: [String: String] = [:], limit: Duration = .seconds(180)) async throws -> String {
        let log = FileManager.default.temporaryDirectory.appending(path: "dcm-tool-\(UUID().uuidString).log")
        defer { try? FileManager.default.removeItem(at: log) }
        let command = Command(
            name: "dcm-tool \(arguments[0])", executable: products.appending(path: "dcm-tool").path, arguments: arguments,
            environment: ProcessInfo.processInfo.environment.merging(["DCM_CHECKOUT": checkout.path]) { $1 }.merging(environment) { $1 },
            logFile: log)
        let process = try ManagedProcess(command)
        let exit = try await until("\(command.name) has ended", limit: limit) { process.exit }
        let output = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
        guard exit == .status(0) else { throw TestFailure("\(command.name) ended with \(exit):\n\(output)") }
        return output
    }

    /// Where the executables of this build are: beside the test runner.
    static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    static let checkout = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
}

struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Asks again and again until there is an answer. The limit only says when to give up.
///
/// - Parameter show: what to add to the failure.
func until<Value>(
    _ what: String, limit: Duration = .seconds(60), _ answer: () async throws -> Value?, orShow show: () async -> String? = { nil }
) async throws -> Value {
    let deadline = ContinuousClock.now + limit
    while true {
        if let value = try await answer() { return value }
        guard ContinuousClock.now < deadline else {
            throw TestFailure(["After \(limit): not \(what).", await show()].compactMap(\.self).joined(separator: " "))
        }
        try await Task.sleep(for: .milliseconds(50))
    }
}
