import ArgumentParser

struct ServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service",
        abstract: "Looks after the services of a stack.",
        subcommands: [
            ServiceNewCommand.self,
            ServiceCheckCommand.self,
            ServiceTestCommand.self,
            ServiceInstallCommand.self,
            ServiceRemoveCommand.self,
            ServiceBackupCommand.self,
            ServiceListCommand.self,
            ServiceFillCommand.self,
        ],
    )
}
