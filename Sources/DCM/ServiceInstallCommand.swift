import ArgumentParser
import Foundation
import Jobs
import Stack

struct ServiceInstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install",
        abstract: "Installs a service into a stack, running or not.",
        discussion: """
            -p takes a folder with registry/ and module/ (or modules/), an archive of one (.zip, .tar.gz, .tgz, .tar), or the URL of a git \
            repository (https://host/name.git#branch:folder). Without -p it is one of the bundled services.

            Everything is looked at before anything changes. Router and workers see the service as a whole, at the next event or job; \
            nothing has to be restarted.
            """,
    )

    @Argument(help: "What the service is called: the name of its folders, and the first part of its dotted names.")
    var name: String

    @Option(name: [.customShort("p"), .customLong("path")], help: ArgumentHelp("Where it comes from.", valueName: "FOLDER|ARCHIVE|URL"))
    var path: String?

    @OptionGroup var options: ServiceOptions

    @Flag(name: .customLong("dry-run"), help: "Says what would happen, and changes nothing.")
    var dryRun = false

    @Flag(help: "Puts it in the place of the service of that name.")
    var replace = false

    @Flag(help: "Installs it although its settings have errors.")
    var force = false

    @Option(help: ArgumentHelp("What an archive may unpack to (default: 1G).", valueName: "BYTES"))
    var limit: String?

    func run() async throws {
        try ServiceName.check(name)
        let trees = try options.places().trees
        let bytes = limit.map { ByteCount.parse($0) } ?? 1 << 30
        guard let bytes else { throw StackError(.badSetting, "--limit is '\(limit ?? "")'; it has to be a size such as 500M or 4G.") }
        if let path {
            let source = try PackageSource.parse(path)
            let fetcher = PackageFetcher(python: Checkout.python, library: Checkout.pythonLibrary, limit: bytes)
            try await fetcher.with(source, name: name) { try await install($0, from: source.text, into: trees) }
        } else {
            guard let bundled = Checkout.bundled else {
                throw StackError(.notFound, "No bundled services are found here: -p names a folder, an archive or a git URL.")
            }
            try await install(bundled.package(name), from: "bundled", into: trees)
        }
    }

    private func install(_ package: ServicePackage, from source: String, into trees: ServiceTrees) async throws {
        let installer = ServiceInstaller(trees)
        try await checkModuleName()
        if dryRun {
            let plan = try installer.plan(name, package, source: source, replace: replace)
            let isRefused = !plan.refusals.isEmpty || !force && !plan.errors.isEmpty
            say("\(isRefused ? "Would be refused" : "Would install") (nothing is changed): \(plan.text(listing: true))")
            if isRefused { throw ExitCode.failure }
        } else {
            let plan = try await installer.install(name, package, source: source, replace: replace, force: force)
            say("Installed \(plan.text(listing: false))")
        }
    }

    /// `json` or `numpy` in the workers' path would be imported in the place of Python's own.
    private func checkModuleName() async throws {
        let question = "import importlib.util, sys; sys.exit(3 if importlib.util.find_spec(sys.argv[1]) else 0)"
        let answer = try? await ProgramOutput.of(Checkout.python, ["-I", "-c", question, name])
        guard answer?.exit == .status(3) else { return }
        throw StackError(
            .badSetting,
            "'\(name)' cannot be the name of a service: \(Checkout.python) has a module of that name, which services would no longer find. "
                + "Choose another one.",
        )
    }
}
