import ArgumentParser
import Foundation
import Jobs
import Logging
import Orthanc
import Stack

/// The export of a series from a real Orthanc, beside curl fetching the same files and `cp` copying them.
///
/// Ours also asks for each MD5, computes it, and waits for the disk in the end; the others do none of it.
struct ExportBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "The export of a series, beside curl --parallel and cp.",
    )

    @Option(help: "How many rounds; each has every run once, and the medians count.")
    var rounds = 7

    @Option(help: "Connections to Orthanc, ours and curl's.")
    var connections = 8

    func validate() throws {
        guard rounds > 0, (1...32).contains(connections) else {
            throw ValidationError("Rounds are at least 1, connections 1 to 32.")
        }
    }

    func run() async throws {
        print("## Export\n\n\(Host.description)\n")
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)", directoryHint: .isDirectory)
        defer { try? FileManager.default.removeItem(at: folder) }
        let orthanc = try await PrivateOrthanc.start(in: folder.appending(path: "orthanc"))
        do {
            try await measure(ExportSamples(instances: 300, edge: 512), orthanc, folder)
            try await measure(ExportSamples(instances: 2000, edge: 128), orthanc, folder)
        } catch {
            await orthanc.stop()
            throw error
        }
        await orthanc.stop()
    }

    private func measure(_ samples: ExportSamples, _ orthanc: PrivateOrthanc, _ folder: URL) async throws {
        let series = try await samples.store(in: orthanc)
        var configuration = OrthancClient.Configuration()
        configuration.parallelism = connections
        let client = OrthancClient(
            endpoint: try OrthancEndpoint(url: orthanc.url, user: orthanc.user, password: orthanc.password), configuration: configuration)
        let instances = try await client.instances(ofSeries: try client.identifier(series))
        let bytes = Double(instances.reduce(0) { $0 + $1.fileSize })
        let curl = try CurlProgram(instances.map(\.id.rawValue), orthanc, connections: connections, folder: folder)
        let export = InstanceExport(client: client, logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() })

        var ours: [Double] = []
        var processor: [Double] = []
        var curls: [Double] = []
        var copies: [Double] = []
        var ratios: [Double] = []
        for _ in 0..<rounds {
            let target = folder.appending(path: "ours")
            let watch = Stopwatch()
            let summary = try await export.run(level: .series, resourceID: series, series: [series], into: "ours", of: folder)
            let run = watch.stop()
            guard summary.files == instances.count, summary.unverified == 0 else {
                throw BenchmarkError("The export is not complete: \(summary)")
            }
            let reference = try curl.run()
            let copy = try Self.timed { try FileProgram.run("/bin/cp", ["-r", target.path, folder.appending(path: "copy").path]) }
            for name in ["ours", "copy"] { try FileManager.default.removeItem(at: folder.appending(path: name)) }
            ours.append(run.seconds)
            processor.append(run.processorSeconds)
            curls.append(reference)
            copies.append(copy)
            ratios.append(reference / run.seconds)
        }
        let title = "\(instances.count) instances, \((bytes / 1e6).fraction(0)) MB, \(connections) connections"
        var table = MarkdownTable(title, "s", "MB/s", "to curl", "client CPU s")
        func row(_ name: String, _ seconds: [Double], _ ratio: String, _ processor: String = "") {
            table.append(name, seconds.median.fraction(3), (bytes / 1e6 / seconds.median).fraction(0), ratio, processor)
        }
        row("export, MD5 checked, on the disk", ours, ratios.median.percent, processor.median.fraction(2))
        row("`curl --parallel`", curls, "100 %")
        row("`cp` of the files", copies, "")
        print("\(table)\n")
    }

    private static func timed(_ body: () throws -> Void) rethrows -> Double {
        let began = ContinuousClock.now
        try body()
        return (ContinuousClock.now - began).inSeconds
    }
}

/// A program that is waited for.
enum FileProgram {
    static func run(_ program: String, _ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw BenchmarkError("\(program) ended with status \(process.terminationStatus).") }
    }
}

/// curl, which fetches every instance into a folder of its own.
private struct CurlProgram {
    private let configuration: URL
    private let output: URL
    private let connections: Int

    init(_ instances: [String], _ orthanc: PrivateOrthanc, connections: Int, folder: URL) throws {
        configuration = folder.appending(path: "curl.conf")
        output = folder.appending(path: "curl", directoryHint: .isDirectory)
        self.connections = connections
        // One password for all URLs: curl --parallel takes it from the command line only, so it is in the URLs' file.
        var text = "user = \"\(orthanc.user):\(orthanc.password)\"\n"
        for instance in instances {
            text += "url = \"\(orthanc.url)/instances/\(instance)/file\"\noutput = \"\(output.path)/\(instance).dcm\"\n"
        }
        try Data(text.utf8).write(to: configuration)
    }

    /// - Returns: seconds.
    func run() throws -> Double {
        try FileManager.default.createDirectory(at: output, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: output) }
        let began = ContinuousClock.now
        try FileProgram.run(
            "/usr/bin/curl", ["--silent", "--fail", "--parallel", "--parallel-max", "\(connections)", "--config", configuration.path])
        return (ContinuousClock.now - began).inSeconds
    }
}
