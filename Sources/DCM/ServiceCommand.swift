import ArgumentParser

struct ServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Looks after the services of a stack.", subcommands: [ServiceCheckCommand.self])
}
