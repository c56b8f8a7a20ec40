import ArgumentParser
import Foundation
import Glibc
import Stack

struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "logs", abstract: "Shows the logs of a stack, or of one of its services.")

    @OptionGroup var location: HomeOptions

    @Argument(help: "broker, orthanc, ingest, router, monitor, worker-1 ..., supervisor; all without one.")
    var service: String?

    @Flag(name: .shortAndLong, help: "Go on with what is written from now on.")
    var follow = false

    @Option(name: [.customShort("n"), .long], help: "Last lines of each.")
    var lines = 40

    func run() throws {
        let logs = location.home.logs
        let present = ((try? FileManager.default.contentsOfDirectory(atPath: logs.path)) ?? [])
            .filter { $0.hasSuffix(".log") }.map { String($0.dropLast(4)) }.sorted()
        let names = service.map { name in present.filter { $0 == name || $0.hasPrefix("\(name)-") } } ?? present
        guard !names.isEmpty else {
            let known = present.isEmpty ? "there are no logs yet" : "there are: \(present.joined(separator: ", "))"
            throw ValidationError("No log of \(service ?? "any service") in \(logs.path); \(known).")
        }
        let files = names.map { logs.appendingPathComponent("\($0).log").path }
        let arguments = ["tail", "-n", "\(lines)"] + (follow ? ["-F"] : []) + files
        execvp("tail", arguments.map { strdup($0) } + [nil])
        throw StackError(.cannotStart, "The program tail could not be started: \(String(cString: strerror(errno))).")
    }
}
