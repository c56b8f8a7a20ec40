import ArgumentParser

/// What `./dcm` runs after it has installed and built.
@main
struct DCMTool: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dcm",
        abstract: "Starts, watches and steers a DCM Processor.",
        subcommands: [
            DemoCommand.self,
            UpCommand.self,
            DownCommand.self,
            StatusCommand.self,
            LogsCommand.self,
            ServiceCommand.self,
            RunCommand.self,
            JobCommand.self,
            SubmitCommand.self,
            UserCommand.self,
            TokenCommand.self,
            SuperviseCommand.self,
        ],
    )
}
