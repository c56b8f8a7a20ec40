import Foundation
import Stack

/// The sample patients as python/demo/sample_studies.py has written them.
struct SampleStudies: Sendable {
    struct Patient: Decodable, Sendable {
        let label: String
        let folder: String
        let instances: Int
        /// Orthanc's id.
        let patient: String
        let studies: [Study]
    }

    struct Study: Decodable, Sendable {
        let id: String
        let title: String
        let instances: Int
        let series: [String]
    }

    private struct Manifest: Decodable { let patients: [Patient] }

    let patients: [Patient]
    private let folder: URL

    /// Writes the images of one demo into the stack's cache; those of earlier demos are removed.
    static func write(for home: StackHome) async throws -> SampleStudies {
        guard let checkout = Checkout.folder else {
            throw StackError(.notFound, "The source tree with python/demo was not found; start the demo with ./dcm demo.")
        }
        let folder = home.cache.appendingPathComponent("sample")
        FileSystem.remove(folder)
        try FileSystem.makeFolder(home.cache)
        let command = Command(
            name: "sample_studies.py",
            executable: ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3",
            arguments: [
                checkout.appendingPathComponent("python/demo/sample_studies.py").path, folder.path, "--cache", home.cache.path,
            ],
            environment: ProcessInfo.processInfo.environment,
            logFile: home.logFile("demo"),
        )
        try await run(command, within: .seconds(300))
        let manifest = try JSONDecoder().decode(
            Manifest.self,
            from: Data(contentsOf: folder.appendingPathComponent("studies.json")),
        )
        if manifest.patients.count == 1 {
            say("Without Debian's package invesalius-examples there is no head CT: one patient only.")
        }
        return SampleStudies(patients: manifest.patients, folder: folder)
    }

    /// C-STORE of all images of a patient, over one association.
    func send(_ patient: Patient, to endpoints: Endpoints) async throws {
        let command = Command(
            name: "storescu",
            executable: try FileSystem.program("storescu"),
            arguments: [
                "-aet", "DCMDEMO", "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", "\(endpoints.orthancDicomPort)",
                folder.appendingPathComponent(patient.folder).path,
            ],
            environment: Command.plainEnvironment,
            logFile: URL(fileURLWithPath: endpoints.logs).appendingPathComponent("demo.log"),
        )
        try await Self.run(command, within: .seconds(300))
    }

    private static func run(_ command: Command, within limit: Duration) async throws {
        let process = try ManagedProcess(command)
        let failure = StackError(
            .timedOut,
            "\(command.name) was not done after \(limit.components.seconds) s.",
            logFile: command.logFile,
            logStart: process.logStart,
        )
        let exit = try await poll(for: limit, every: .milliseconds(20), orThrow: failure) { process.exit }
        guard exit == .status(0) else {
            throw StackError(.exited, "\(command.name) failed (\(exit)).", logFile: command.logFile, logStart: process.logStart)
        }
    }
}
