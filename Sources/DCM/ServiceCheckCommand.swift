import ArgumentParser
import Foundation
import Jobs
import PythonHost
import Registry
import Stack
import Workbench

/// Reads the settings of all services as the router does, imports what they name, and says what is wrong with them.
struct ServiceCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Says what is wrong with services: settings, callbacks, workers; and in which order their jobs run.",
        discussion: """
            Reads the registry of a stack, or any folder that --registry names, and changes nothing there. Callbacks and worker functions are \
            imported in the hosts of production, and not called. Ends with status 1 when there are errors, or with --strict when there are \
            warnings.
            """,
    )

    @Argument(help: "The service, or one of its jobs (default: all).")
    var name: String?

    @OptionGroup var options: BenchOptions

    @Flag(help: "Prints one JSON document for programs.")
    var json = false

    @Flag(help: "Warnings count as errors.")
    var strict = false

    @Flag(help: "Looks at the settings only.")
    var noImports = false

    @Flag(help: "Builds no environment for a requirements.txt: workers whose environment is not there are not imported.")
    var noEnvironments = false

    @Option(help: ArgumentHelp("How long one import may take.", valueName: "SECONDS"))
    var timeout = 60.0

    func validate() throws {
        guard (0.1...3600).contains(timeout) else { throw ValidationError("--timeout is \(timeout); it has to be 0.1 to 3600 seconds.") }
        try options.validate()
    }

    func run() async throws {
        let folder = try BenchOptions.privateFolder()
        defer { FileSystem.remove(folder) }
        let (bench, settings) = try options.bench(in: folder, importLimit: .seconds(timeout))
        var catalog = ServiceCatalog.load(registry: bench.registry, settings: settings)
        let name = name ?? options.packageName
        guard !CatalogReport(catalog, of: name).isEmpty || name == nil else {
            let known = catalog.services.map(\.name).joined(separator: ", ")
            throw StackError(
                .notFound, "There is no service or job \(name ?? "") in \(options.place(bench)): \(known.isEmpty ? "none at all" : known).")
        }
        var findings: [ImportFinding] = []
        var failure: String?
        if !noImports {
            let isQuiet = json
            let imports = ServiceImports(bench: bench, buildsEnvironments: !noEnvironments) { if !isQuiet { say($0) } }
            do {
                findings = try await imports.run(catalog.entries.filter { name == nil || $0.service == name || $0.name == name })
            } catch {
                // What is wrong with the settings is told all the same.
                failure = "\(error)"
            }
            catalog.problems += findings.compactMap(\.problem)
        }
        let report = CatalogReport(catalog, of: name)
        if json {
            var document = report.json.object ?? [:]
            document["imports"] = noImports || failure != nil ? .null : .array(findings.map(\.json))
            document["importFailure"] = failure.map(JSONValue.string) ?? .null
            if failure != nil { document["ok"] = false }
            document["graph"] = CatalogGraph(catalog).json
            say(JSONValue.object(document).text)
        } else {
            say("Services in \(options.place(bench))\n\n\(CatalogGraph(catalog).text)\n\n\(Self.summary(of: findings))\(report.text)")
        }
        if let failure, !json { say("\nNothing could be imported: \(failure)") }
        if failure != nil || report.errors > 0 || strict && report.warnings > 0 { throw ExitCode.failure }
    }

    /// What was not imported, and how much was.
    private static func summary(of findings: [ImportFinding]) -> String {
        guard !findings.isEmpty else { return "" }
        let good = findings.count { $0.outcome == .imported }
        var lines = ["\(good) of \(findings.count) callbacks and workers are there and can be called."]
        for finding in findings {
            guard case .untried(let reason) = finding.outcome else { continue }
            lines.append("  \(finding.entry.name): \(finding.name) was not tried: \(reason).")
        }
        return lines.joined(separator: "\n") + "\n\n"
    }
}
