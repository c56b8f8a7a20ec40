import ArgumentParser
import Foundation
import Stack

struct JobCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "job", abstract: "Asks about a job of a running stack.", subcommands: [JobExplainCommand.self])
}

struct JobExplainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Says why a job is not running, why it ran, or why it never will.",
    )

    @OptionGroup var location: HomeOptions

    @Argument(help: ArgumentHelp("The job's id: run and position, as the monitor shows it.", valueName: "JOB"))
    var job: String

    func run() async throws {
        let job = try await MonitorAPI(location).job(job)
        say("\(job.name): \(job.state)\n\(job.explanation?.sentence ?? job.reason?.text ?? "")")
        for subject in job.explanation?.subjects ?? [] where subject.id != subject.name {
            say("  \(subject.kind) \(subject.name): \(subject.id)")
        }
    }
}

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Asks about a run of a running stack.", subcommands: [RunShowCommand.self])
}

struct RunShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Lists the jobs of a run, with the reason for each that has not succeeded.",
    )

    @OptionGroup var location: HomeOptions

    @Argument(help: ArgumentHelp("The run's id.", valueName: "RUN"))
    var run: String

    func run() async throws {
        let run = try await MonitorAPI(location).run(run)
        say("Run \(run.id), \(run.level) \(run.resourceId): \(run.state)\(run.reason.map { " (\($0.text))" } ?? "")")
        var table = TextTable(["JOB", "NAME", "STATE", "WHY"])
        for job in run.jobs ?? [] {
            table.add([job.id, job.name, job.state, job.explanation?.sentence ?? ""])
        }
        say(table.description)
    }
}

extension MonitorAPI {
    fileprivate init(_ location: HomeOptions) throws {
        guard let endpoints = try? Endpoints.read(location.home) else {
            throw StackError(
                .notFound, "No stack runs in \(location.home.folder.path); './dcm up\(location.suffix)' starts it, --home names another.")
        }
        self.init(base: endpoints.monitor, token: endpoints.monitorToken)
    }
}
