import ArgumentParser
import Foundation
import Stack

/// Which services are meant: a stack's, or any two folders.
struct ServiceOptions: ParsableArguments {
    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("The registry folder of a stack that was started otherwise; goes with --modules.", valueName: "DIR"))
    var registry: String?

    @Option(help: ArgumentHelp("The modules folder that belongs to it.", valueName: "DIR"))
    var modules: String?

    func validate() throws {
        guard (registry == nil) == (modules == nil) else {
            throw ValidationError("--registry and --modules go together: a service has a folder in each.")
        }
        guard registry == nil || location.path == nil else {
            throw ValidationError("--home names both folders already: leave out --registry and --modules, or --home.")
        }
    }

    /// The folders that are named, else those of the environment (in containers), else those of the stack.
    func places() throws -> ServicePlaces {
        if let registry, let modules {
            return ServicePlaces(trees: ServiceTrees(registry: url(registry), modules: url(modules)), home: nil)
        }
        if location.path == nil, let registry = variable("REGISTRY"), let modules = variable("MODULES") {
            let base = variable("BASEDIR") ?? ""
            let settings = variable("SETTINGS").map(url)
            return ServicePlaces(
                trees: ServiceTrees(registry: url(base + registry), modules: url(base + modules), settings: settings), home: nil)
        }
        let home = location.home
        guard FileSystem.exists(home.registry), FileSystem.exists(home.modules) else {
            throw StackError(
                .notFound,
                "There are no services in \(home.folder.path): './dcm up\(location.suffix)' makes a stack there. "
                    + "--home names another stack, --registry with --modules any two folders.",
            )
        }
        return ServicePlaces(trees: ServiceTrees(home), home: home)
    }

    private func variable(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    private func url(_ path: String) -> URL { URL(fileURLWithPath: (path as NSString).expandingTildeInPath).standardizedFileURL }
}

struct ServicePlaces: Sendable {
    let trees: ServiceTrees
    /// The stack, when one is meant.
    let home: StackHome?
}

extension Checkout {
    /// The folder of the services that come with this version: `BUNDLED_SERVICES`, else the checkout's.
    static var bundled: BundledServices? {
        BundledServices(
            ProcessInfo.processInfo.environment["BUNDLED_SERVICES"].flatMap { $0.isEmpty ? nil : URL(fileURLWithPath: $0) }
                ?? folder?.appendingPathComponent("services"))
    }

    /// The folder of the Python package `dcm_processor`.
    static var pythonLibrary: URL? {
        ProcessInfo.processInfo.environment["PYTHONHOST_PATH"].flatMap { $0.isEmpty ? nil : URL(fileURLWithPath: $0) }
            ?? folder?.appendingPathComponent("python")
    }

    static var python: String {
        ProcessInfo.processInfo.environment["PYTHON"].flatMap { $0.isEmpty ? nil : $0 } ?? "/usr/bin/python3"
    }
}
