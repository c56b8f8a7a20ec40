import ArgumentParser
import Foundation
import Stack

/// The router and two workers as they are delivered, beside RQ with two workers, which forks a process for each job too.
struct WorkerBench: AsyncParsableCommand {
    enum Part: String, CaseIterable, ExpressibleByArgument {
        case throughput, gaps, idle, memory
    }

    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Two workers with a process for each job, beside RQ.",
    )

    @Option(help: ArgumentHelp("What to measure.", valueName: "part"))
    var part: [Part] = Part.allCases

    @Option(help: "The checkout that the programs and the Python files come from.")
    var checkout = ProcessInfo.processInfo.environment["DCM_CHECKOUT"] ?? FileManager.default.currentDirectoryPath

    @Option(help: "The folder of the dcm-router and dcm-worker to measure; the release build of the checkout unless given.")
    var programs: String?

    @Option(help: "The version of RQ.")
    var rq = "2.12.0"

    @Option(help: "How many studies of six jobs a run has.")
    var studies = 200

    @Option(help: "How many jobs without parents a run has.")
    var jobs = 1000

    @Option(help: "How many studies run one at a time.")
    var single = 60

    @Option(help: "How many rounds; each has every run once, and the medians count.")
    var rounds = 3

    @Option(help: ArgumentHelp("Jobs at a time in each of our two workers.", valueName: "slots"))
    var slots = [1, 4]

    @Option(help: "How many jobs have run when the memory is looked at last.")
    var long = 10_000

    @Flag(help: "Ours alone, without RQ.")
    var alone = false

    func validate() throws {
        guard studies >= 10, jobs >= 50, single > 0, rounds > 0, long >= 1000, slots.allSatisfy({ (1...256).contains($0) }) else {
            throw ValidationError("At least 10 studies, 50 jobs, 1 single study, 1 round, 1000 jobs for the memory; slots 1 to 256.")
        }
        for program in ["dcm-router", "dcm-worker"] where !FileManager.default.isExecutableFile(atPath: "\(folder)/\(program)") {
            throw ValidationError("There is no \(program) in \(folder): swift build -c release --product \(program)")
        }
    }

    private var folder: String { programs ?? "\(checkout)/.build/release" }
    private var python: String { ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3" }
    private var files: String { "\(checkout)/Benchmarks/Python" }

    func run() async throws {
        print("## Worker\n\n\(Host.description)\n")
        let program = RouterProgram(executable: "\(folder)/dcm-router", pythonPackage: "\(checkout)/python", python: python)
        if alone { return try await measure(program, beside: nil) }
        let environment = try await RQEnvironment.prepare(
            version: rq, python: python, in: URL(filePath: "\(checkout)/Benchmarks/.build"))
        try await RQWorkers.with(environment, jobs: files) { try await measure(program, beside: $0) }
    }

    private func measure(_ program: RouterProgram, beside other: RQWorkers?) async throws {
        try await RouterSite.with(
            program,
            registry: { registry, folder in
                try OurWorkers.makeRegistry(registry, stamps: folder.appending(path: "stamps"))
            }
        ) { site in
            try await site.startRouter()
            let ours = slots.map { slots in
                OurWorkers(
                    site: site, worker: "\(folder)/dcm-worker", modules: files,
                    stamps: JobStamps(file: site.folder.appending(path: "stamps")), slots: slots)
            }
            let report = WorkerReport(bench: self, ours: ours, other: other)
            if part.contains(.throughput) { try await report.throughput() }
            if part.contains(.gaps) { try await report.gaps() }
            if part.contains(.idle) { try await report.idle() }
            if part.contains(.memory) { try await report.memory() }
            print("Load after: \(Host.load)\n")
        }
    }
}
