import ArgumentParser
import Foundation
import Jobs
import Registry
import Stack

/// Reads the settings of all services as the router does, and says what is wrong with them.
struct ServiceCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Validates the settings of every service.",
        discussion: """
            Reads the registry of a stack, or any folder that --registry names, and changes nothing. Ends with status 1 when there are \
            errors, or with --strict when there are warnings.
            """,
    )

    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("A registry folder (default: the stack's, else the checkout's).", valueName: "DIR"))
    var registry: String?

    @Option(help: ArgumentHelp("The pipeline's own settings (default: settings.json in the registry).", valueName: "FILE"))
    var settings: String?

    @Flag(help: "Prints one JSON document for programs.")
    var json = false

    @Flag(help: "Warnings count as errors.")
    var strict = false

    func run() async throws {
        let folder = try folder()
        let file = settings.map { URL(fileURLWithPath: $0).standardizedFileURL } ?? folder.appendingPathComponent("settings.json")
        let report = CatalogReport(ServiceCatalog.load(registry: folder, settings: file))
        if json {
            say(report.json.text)
        } else {
            say("Services in \(folder.path)\n\n\(report.text)")
        }
        if report.errors > 0 || strict && report.warnings > 0 { throw ExitCode.failure }
    }

    private func folder() throws -> URL {
        let candidates = [
            registry.map { URL(fileURLWithPath: $0).standardizedFileURL }, location.home.registry,
            Checkout.folder?.appendingPathComponent("registry"),
        ].compactMap(\.self)
        guard let folder = registry == nil ? candidates.first(where: FileSystem.exists) : candidates.first, FileSystem.exists(folder) else {
            throw StackError(
                .notFound, "There is no registry at \(candidates.map(\.path).joined(separator: " or ")). Name one with --registry.")
        }
        return folder
    }
}
