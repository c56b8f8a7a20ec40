import ArgumentParser
import Foundation
import Jobs
import Registry
import Stack

struct ServiceRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Removes a service from a stack, running or not.",
        discussion: """
            With -b its files are kept in DIR/<name>, from where 'install <name> -p DIR/<name>' brings it back. Refused when other services \
            depend on it. Jobs of it that have not begun yet fail as broken-service.
            """,
    )

    @Argument(help: "The service.")
    var name: String

    @Option(name: [.customShort("b"), .customLong("backup")], help: ArgumentHelp("Where to keep its files.", valueName: "DIR"))
    var backup: String?

    @OptionGroup var options: ServiceOptions

    @Flag(name: .customLong("dry-run"), help: "Says what would happen, and changes nothing.")
    var dryRun = false

    @Flag(help: "Removes it although other services depend on it.")
    var force = false

    func run() async throws {
        let places = try options.places()
        let installer = ServiceInstaller(places.trees)
        let entries = installer.jobs(of: name)
        let jobs = Set(entries.map(\.name))
        for entry in entries where entry.stage == .pre && !entry.isDisabled {
            say("Note: \(entry.name) is a pre-service: without it later runs start with the images as they are.")
        }
        if dryRun {
            let dependents = try installer.dependents(of: name)
            say("\(dependents.isEmpty || force ? "Would remove" : "Would be refused") (nothing is changed): \(name)")
            for line in dependents { say("  \(line)") }
            await warnAboutRuns(jobs, places)
            if !dependents.isEmpty, !force { throw ExitCode.failure }
            return
        }
        await warnAboutRuns(jobs, places)
        try await installer.remove(name, backup: backup.map { URL(fileURLWithPath: $0).standardizedFileURL }, force: force)
        say("Removed \(name)" + (backup.map { "; its files are in \($0)/\(name)" } ?? ""))
    }

    /// As far as the monitor can be asked.
    private func warnAboutRuns(_ jobs: Set<String>, _ places: ServicePlaces) async {
        guard let home = places.home, (try? StackClient(home: home).isRunning) == true,
            let endpoints = try? Endpoints.read(home)
        else { return }
        let api = MonitorAPI(base: endpoints.monitor, token: endpoints.monitorToken)
        do {
            let waiting = try await api.runs(waitingFor: jobs)
            guard !waiting.isEmpty else { return }
            let shown = waiting.prefix(5).joined(separator: ", ") + (waiting.count > 5 ? ", ..." : "")
            say("Note: jobs of it have not ended in \(waiting.count) active runs (\(shown)).")
            say("      Those that have not begun fail as broken-service.")
        } catch {
            say("Note: the monitor could not be asked whether runs still need it (\(error)).")
        }
    }
}

extension MonitorAPI {
    /// Active runs, the newest hundred at most, in which a job of one of these names has not ended.
    fileprivate func runs(waitingFor names: Set<String>) async throws -> [String] {
        let ended: Set<String> = ["succeeded", "failed", "cancelled", "skipped", "dead"]
        var found: [String] = []
        for summary in try await recentRuns(state: "active") {
            let jobs = try await run(summary.id).jobs ?? []
            if jobs.contains(where: { names.contains($0.name) && !ended.contains($0.state) }) { found.append(summary.id) }
        }
        return found
    }
}

struct ServiceBackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Copies services out of a stack, into the shape that install takes.",
    )

    @Argument(help: "The services.")
    var names: [String] = []

    @Flag(help: "All of them.")
    var all = false

    @Option(name: [.customShort("b"), .customLong("backup")], help: ArgumentHelp("Gets a folder for each.", valueName: "DIR"))
    var backup: String

    @OptionGroup var options: ServiceOptions

    @Flag(help: "Puts the copy in the place of one that is there already.")
    var replace = false

    func validate() throws {
        guard all != !names.isEmpty else { throw ValidationError("Name the services to copy, or --all.") }
    }

    func run() async throws {
        let trees = try options.places().trees
        let installer = ServiceInstaller(trees)
        let folder = URL(fileURLWithPath: backup).standardizedFileURL
        for name in all ? ServiceInventory(trees).items.map(\.name) : names {
            try await installer.backup(name, to: folder, replace: replace)
            say("Copied \(name) to \(folder.appendingPathComponent(name).path)")
        }
    }
}
