import Foundation
import Stack

/// RQ from PyPI in an environment of its own, and a redis of the system's.
struct RQEnvironment {
    /// The interpreter that has RQ.
    var python: String
    var redis: String

    /// Makes the environment unless it is there.
    ///
    /// - Parameters:
    ///   - version: RQ's.
    ///   - folder: where environments are kept, one for each version.
    static func prepare(version: String, python: String, in folder: URL) async throws -> RQEnvironment {
        let redis = ["/usr/bin", "/usr/local/bin"].map { "\($0)/redis-server" }.first(where: FileManager.default.isExecutableFile)
        guard let redis else {
            throw BenchmarkError("RQ needs a redis-server: apt-get install --no-install-recommends redis-server")
        }
        let environment = folder.appending(path: "rq-\(version)")
        let own = environment.appending(path: "bin/python").path
        if !FileManager.default.fileExists(atPath: environment.appending(path: "complete").path) {
            print("Installing RQ \(version) from PyPI into \(environment.path)\n")
            try? FileManager.default.removeItem(at: environment)
            try await call(python, ["-m", "venv", environment.path])
            try await call(own, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "rq==\(version)", "redis"])
            try Data().write(to: environment.appending(path: "complete"))
        }
        return RQEnvironment(python: own, redis: redis)
    }

    private static func call(_ program: String, _ arguments: [String]) async throws {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        let status = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        guard status == 0 else {
            throw BenchmarkError("\(program) \(arguments.joined(separator: " ")) failed with status \(status).")
        }
    }
}
