import ArgumentParser
import Foundation
import Jobs
import Registry
import Stack

struct ServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Looks after the services of a stack.", subcommands: [ServiceCheckCommand.self])
}

/// Reads the settings of all services as the router does, and says what is wrong with them.
struct ServiceCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Validates the settings of every service.",
        discussion: "Reads the registry of a stack, or any folder that --registry names. Ends with status 1 when there are errors.",
    )

    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("A registry folder (default: the stack's, else the checkout's).", valueName: "DIR"))
    var registry: String?

    func run() async throws {
        let folder = try folder()
        let catalog = ServiceCatalog.load(registry: folder, settings: folder.appendingPathComponent("settings.json"))
        say("Services in \(folder.path)")
        for service in catalog.services {
            say("\n\(service.name)\(service.hasErrors ? "  (has errors)" : "")")
            for entry in service.entries { say("  \(Self.describe(entry))") }
            for entry in service.disabled { say("  \(entry.name): disabled") }
            for problem in service.problems { say("  \(problem)") }
        }
        if let failure = catalog.failure { say("\nNo run may start any job: \(failure.text)") }
        let errors = catalog.problems.count { $0.severity == .error }
        say("\n\(errors) errors, \(catalog.problems.count - errors) warnings.")
        if errors > 0 { throw ExitCode.failure }
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

    private static func describe(_ entry: CatalogEntry) -> String {
        let definition = entry.definition
        let after = entry.dependsOn.isEmpty ? "" : ", after \(entry.dependsOn.joined(separator: ", "))"
        let timeout = definition.timeout.seconds.map { "\($0) s" } ?? "none"
        return
            "\(entry.name): \(definition.stage.rawValue)\(after), \(definition.entry), channel \(definition.channel), priority \(definition.priority.name), timeout \(timeout)"
    }
}
