import ArgumentParser
import Dispatch
import Foundation
import Glibc
import Jobs
import Registry
import Stack
import Synchronization
import Workbench

/// Which services are looked at, and with which interpreters.
struct BenchOptions: ParsableArguments {
    @OptionGroup var services: ServiceOptions

    @Option(
        name: [.customShort("p"), .customLong("path")],
        help: ArgumentHelp("A folder with registry/ and module/ that is not installed, and is called as its service.", valueName: "DIR"))
    var package: String?

    @Option(help: ArgumentHelp("The pipeline's own settings (default: settings.json in the registry).", valueName: "FILE"))
    var settings: String?

    func validate() throws {
        guard package == nil || services.registry == nil && services.modules == nil && settings == nil else {
            throw ValidationError("--path names a service on its own: leave out --registry, --modules and --settings.")
        }
    }

    private var location: HomeOptions { services.location }

    /// The service of `--path`.
    var packageName: String? { package.map { ServiceOptions.url($0).lastPathComponent } }

    /// Where the services that are looked at come from, for people.
    func place(_ bench: Bench) -> String {
        guard let package else { return bench.registry.path }
        let around = FileSystem.exists(location.home.registry) ? location.home.registry.path : "the services beside it"
        return "\(ServiceOptions.url(package).path), with \(around)"
    }

    /// - Parameter folder: private; for the bench's DATA and LOGS, and for the two trees of a service that is not installed.
    func bench(in folder: URL, withOrthanc: Bool = false, importLimit: Duration = .seconds(300)) throws -> (bench: Bench, settings: URL) {
        let trees = try package.map { try self.trees(of: ServiceOptions.url($0), in: folder) } ?? services.places(orCheckout: true).trees
        let home = location.home
        let isStack = FileSystem.exists(home.registry)
        var variables = try StackSettings(
            environment: ProcessInfo.processInfo.environment, home: home.folder, checkout: Checkout.folder
        ).values
        if withOrthanc {
            let endpoints = try stackEndpoints()
            variables["ORTHANC_REST_URL"] = endpoints.orthanc
            variables["ORTHANC_REST_USERNAME"] = endpoints.orthancUser
            variables["ORTHANC_REST_PASSWORD"] = endpoints.orthancPassword
        } else {
            // A service that stores what it makes would store it.
            for name in variables.keys where name.hasPrefix("ORTHANC_") { variables[name] = nil }
        }
        guard let library = Checkout.pythonLibrary else {
            throw StackError(.notFound, "The Python package dcm_processor was not found: set PYTHONHOST_PATH to the folder that holds it.")
        }
        let environments =
            variables["ENVIRONMENTS"].flatMap { $0.isEmpty ? nil : ServiceOptions.url($0) }
            ?? (isStack ? home.environments : folder.appending(path: "environments"))
        return (
            Bench(
                registry: trees.registry,
                modules: trees.modules,
                python: variables["PYTHON"].flatMap { $0.isEmpty ? nil : $0 } ?? Checkout.python,
                library: library,
                variables: variables,
                environments: environments,
                folder: folder,
                importLimit: importLimit,
                callbackLimit: .seconds(variables["CALLBACK_TIMEOUT"].flatMap(Double.init) ?? 10)
            ),
            settings.map(ServiceOptions.url) ?? trees.settings
        )
    }

    func stackEndpoints() throws -> Endpoints {
        guard let data = try? Data(contentsOf: location.home.endpointsFile) else {
            throw StackError(
                .notFound,
                "No stack has run in \(location.home.folder.path): './dcm up\(location.suffix)' starts one. A folder of images needs none.")
        }
        return try JSONDecoder().decode(Endpoints.self, from: data)
    }

    /// Two folders in which the service stands as if it were installed: in the stack, or beside the packages that stand beside it.
    private func trees(of package: URL, in folder: URL) throws -> ServiceTrees {
        guard FileSystem.exists(package.appending(path: "registry/settings.json")) else {
            throw StackError(
                .notFound, "\(package.path) holds no service: registry/settings.json is not there. './dcm service new' makes one.")
        }
        let trees = ServiceTrees(registry: folder.appending(path: "registry"), modules: folder.appending(path: "modules"))
        for tree in [trees.registry, trees.modules] { try FileSystem.makeFolder(tree) }
        func link(_ source: URL, into tree: URL, as name: String) throws {
            let place = tree.appending(path: name)
            guard FileSystem.exists(source), !FileSystem.exists(place) else { return }
            try FileManager.default.createSymbolicLink(at: place, withDestinationURL: source)
        }
        try link(package.appending(path: "registry"), into: trees.registry, as: package.lastPathComponent)
        try link(package.appending(path: "module"), into: trees.modules, as: package.lastPathComponent)
        let home = location.home
        if FileSystem.exists(home.registry) {
            for name in Self.names(in: home.registry) { try link(home.registry.appending(path: name), into: trees.registry, as: name) }
            for name in Self.names(in: home.modules) { try link(home.modules.appending(path: name), into: trees.modules, as: name) }
        } else {
            let beside = package.deletingLastPathComponent()
            for name in Self.names(in: beside) where FileSystem.exists(beside.appending(path: "\(name)/registry/settings.json")) {
                try link(beside.appending(path: "\(name)/registry"), into: trees.registry, as: name)
                try link(beside.appending(path: "\(name)/module"), into: trees.modules, as: name)
            }
        }
        if !FileSystem.exists(trees.settings) { try Data("{}".utf8).write(to: trees.settings) }
        return trees
    }

    private static func names(in folder: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { !$0.hasPrefix(".") }
    }

    /// What a command that is interrupted still has to do lives as long as the command.
    private static let interruptions = Mutex<[any DispatchSourceSignal]>([])

    /// A folder that only this user can look into.
    /// - Parameter keep: leaves it there when the command is interrupted; else it goes then, with the images in it.
    static func privateFolder(keep: Bool = false) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dcm-trial-\(Secret.generate(length: 12))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        guard !keep else { return folder }
        interruptions.withLock { interruptions in
            for number in [SIGINT, SIGTERM, SIGHUP] {
                signal(number, SIG_IGN)
                let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
                source.setEventHandler {
                    // A job may be writing into it at this moment: its host ends with this process.
                    for _ in 0..<3 { FileSystem.remove(folder) }
                    Glibc.exit(128 + number)
                }
                source.resume()
                interruptions.append(source)
            }
        }
        return folder
    }
}
