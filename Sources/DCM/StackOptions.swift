import ArgumentParser
import Foundation
import Stack

/// What is needed to start a stack; `up` and `demo` hand it on to `supervise`.
struct StackOptions: ParsableArguments {
    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("Worker processes (default: as last time, 2 at first).", valueName: "N"))
    var workers: Int?

    @Option(help: ArgumentHelp("The folder of dcm-ingest, dcm-router, dcm-worker and dcm-monitor.", valueName: "DIR"))
    var bin: String?

    var home: StackHome { location.home }

    var executables: URL { bin.map { URL(fileURLWithPath: $0).standardizedFileURL } ?? Checkout.executables }

    func validate() throws {
        if let workers, !(0...256).contains(workers) {
            throw ValidationError("--workers is \(workers); it has to be a number from 0 to 256.")
        }
    }

    /// Starts the stack, or adds to it what is missing.
    ///
    /// - Parameter defaults: settings of the lowest rank, below both `.env` files.
    func start(defaults: [String: String] = [:]) async throws -> Endpoints {
        let home = home
        let environment = ProcessInfo.processInfo.environment
        let settings = try StackSettings(
            environment: environment,
            home: home.folder,
            checkout: Checkout.folder,
            defaults: defaults,
        )
        var arguments = ["supervise", "--home", home.folder.path, "--bin", executables.path]
        for (name, value) in defaults.sorted(by: { $0.key < $1.key }) { arguments += ["--default", "\(name)=\(value)"] }
        let daemon = Command(
            name: "supervisor",
            executable: Checkout.program.path,
            arguments: arguments,
            environment: environment.merging(Checkout.folder.map { ["DCM_CHECKOUT": $0.path] } ?? [:]) { $1 },
            logFile: home.logFile("supervisor"),
        )
        say("Starting the stack in \(home.folder.path)")
        return try await StackClient(home: home).up(workers: workers, daemon: daemon, settings: settings, say: say)
    }
}

/// A line for the person at the terminal, at once.
@Sendable func say(_ line: String) {
    print(line)
    fflush(nil)
}
