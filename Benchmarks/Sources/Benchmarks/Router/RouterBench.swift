import ArgumentParser
import Foundation
import Stack

/// The router as it is delivered, a process of its own, between a broker and a ledger on disk.
struct RouterBench: AsyncParsableCommand {
    enum Part: String, CaseIterable, ExpressibleByArgument {
        case events, work, turnaround, waiting
    }

    static let configuration = CommandConfiguration(
        commandName: "router",
        abstract: "The router process with simulated workers, beside the bare broker.",
    )

    @Option(help: ArgumentHelp("What to measure.", valueName: "part"))
    var part: [Part] = Part.allCases

    @Option(help: "The checkout that the router's Python files come from.")
    var checkout = ProcessInfo.processInfo.environment["DCM_CHECKOUT"] ?? FileManager.default.currentDirectoryPath

    @Option(help: "The dcm-router to measure; the release build of the checkout unless given.")
    var router: String?

    @Option(help: "How many events a round has.")
    var count = 1000

    @Option(help: "How many rounds; each has every run once, and the medians count.")
    var rounds = 3

    @Option(help: ArgumentHelp("How many workers are simulated.", valueName: "workers"))
    var workers = [2, 64]

    @Option(help: "Seconds that each run with the bare broker takes.")
    var seconds = 3

    @Option(help: "How many jobs wait when the router's memory is looked at.")
    var waiting = 100_000

    func validate() throws {
        guard count > 0, rounds > 0, seconds > 0, waiting >= 10, workers.allSatisfy({ (1...1000).contains($0) }) else {
            throw ValidationError("Counts, rounds and seconds are at least 1, waiting jobs at least 10, workers 1 to 1000.")
        }
        guard FileManager.default.isExecutableFile(atPath: program.executable) else {
            throw ValidationError("There is no router at \(program.executable): swift build -c release --product dcm-router")
        }
    }

    private var program: RouterProgram {
        RouterProgram(
            executable: router ?? "\(checkout)/.build/release/dcm-router", pythonPackage: "\(checkout)/python",
            python: ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3")
    }

    func run() async throws {
        print("## Router\n\n\(Host.description)\n")
        let work = part.filter { $0 != .waiting }
        if !work.isEmpty {
            try await RouterSite.with(program) { site in
                try await site.startRouter()
                for part in work {
                    switch part {
                    case .events: print(try await RouterEvents(site: site, bench: self).table())
                    case .work: print(try await RouterWork(site: site, bench: self).table())
                    case .turnaround: print(try await RouterTurnaround(site: site, bench: self).table())
                    case .waiting: continue
                    }
                    print()
                }
            }
        }
        guard part.contains(.waiting) else { return }
        try await RouterSite.with(program) { site in
            print("\(try await RouterMemory(site: site, jobs: waiting).table())\n")
        }
    }
}
