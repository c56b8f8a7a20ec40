import Foundation
import Testing

@testable import Dashboard

/// Schemathesis makes up thousands of requests from the OpenAPI document, fitting ones and wrong ones, and looks whether every answer is what the
/// document says. `./dcm test` installs it and sets SCHEMATHESIS; without it this is skipped.
@Suite(.timeLimit(.minutes(3)), .enabled(if: ProcessInfo.processInfo.environment["SCHEMATHESIS"] != nil))
struct ContractTests {
    @Test("Whatever the document allows or forbids, the answers are those it describes")
    func schemathesis() async throws {
        let program = try #require(ProcessInfo.processInfo.environment["SCHEMATHESIS"])
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 10)
        try await RunningDashboard.serving(sample, token: "contract") { dashboard in
            let (status, output) = try await run(
                program,
                [
                    "run", "http://127.0.0.1:\(dashboard.port)/api/v1/openapi.json", "-H", "Authorization: Bearer contract",
                    "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                    // A stream does not end.
                    "--exclude-path", "/api/v1/stream",
                    "--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--max-time", "25", "--generation-deterministic",
                    "--suppress-health-check", "all", "--request-timeout", "10", "--warnings", "off", "--no-color",
                ], in: sample.folder)
            #expect(status == 0, "\(output)")
            #expect(output.contains("Tested"), "\(output.suffix(2000))")
        }
    }

    private func run(_ program: String, _ arguments: [String], in folder: URL) async throws -> (status: Int32, output: String) {
        let file = folder.appending(path: "schemathesis.txt")
        try Data().write(to: file)
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        // Where it keeps what it found before.
        process.currentDirectoryURL = folder
        let output = try FileHandle(forWritingTo: file)
        process.standardOutput = output
        process.standardError = output
        let (ends, end) = AsyncStream<Int32>.makeStream()
        process.terminationHandler = { process in
            end.yield(process.terminationStatus)
            end.finish()
        }
        try process.run()
        var status: Int32 = -1
        for await code in ends { status = code }
        return (status, String(decoding: try Data(contentsOf: file), as: UTF8.self))
    }
}
