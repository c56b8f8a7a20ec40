import ArgumentParser
import Foundation
import Stack

struct ServiceNewCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Makes the folder of a first service that runs as it is, with tests.",
    )

    @Argument(help: "What the service is called.")
    var name: String

    @Option(
        name: [.customShort("p"), .customLong("path")], help: ArgumentHelp("The folder to make (default: ./<name>).", valueName: "DIR"))
    var path: String?

    @OptionGroup var location: HomeOptions

    func run() async throws {
        let template = try ServiceTemplate(name: name)
        let folder = URL(fileURLWithPath: path ?? name).standardizedFileURL
        try template.write(to: folder)
        say("Made \(folder.path):")
        for file in template.files.keys.sorted() { say("  \(file)") }
        say(
            """

            Next:
              ./dcm service test \(name) STUDY -p \(folder.path)\(location.suffix)    (a folder of DICOM files, or an id of Orthanc)
              ./dcm service install \(name) -p \(folder.path)\(location.suffix)
            It runs for the next study. After a change: install it again with --replace.
            """)
    }
}
