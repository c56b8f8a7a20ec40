import ArgumentParser
import Foundation
import Stack

/// Which services are meant: a stack's, or any two folders.
struct ServiceOptions: ParsableArguments {
    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("The registry folder of a stack that was started otherwise.", valueName: "DIR"))
    var registry: String?

    @Option(help: ArgumentHelp("The modules folder that belongs to it (default: modules beside it).", valueName: "DIR"))
    var modules: String?

    func validate() throws {
        guard modules == nil || registry != nil else {
            throw ValidationError("--modules goes with --registry: a service has a folder in each.")
        }
        guard registry == nil || location.path == nil else {
            throw ValidationError("--home names both folders already: leave out --registry and --modules, or --home.")
        }
    }

    /// The folders that are named, else those of the environment (in containers), else those of the stack.
    ///
    /// - Parameter orCheckout: takes the checkout's when there is no stack.
    func places(orCheckout: Bool = false) throws -> ServicePlaces {
        if let registry {
            let registry = Self.url(registry)
            guard FileSystem.exists(registry) else { throw StackError(.notFound, "There is no registry at \(registry.path).") }
            let modules = modules.map(Self.url) ?? registry.deletingLastPathComponent().appending(path: "modules")
            return ServicePlaces(trees: ServiceTrees(registry: registry, modules: modules), home: nil)
        }
        if location.path == nil, let registry = variable("REGISTRY"), let modules = variable("MODULES") {
            let base = variable("BASEDIR") ?? ""
            let trees = ServiceTrees(
                registry: Self.url(base + registry), modules: Self.url(base + modules), settings: variable("SETTINGS").map(Self.url))
            return ServicePlaces(trees: trees, home: nil)
        }
        let home = location.home
        if FileSystem.exists(home.registry), FileSystem.exists(home.modules) { return ServicePlaces(trees: ServiceTrees(home), home: home) }
        if orCheckout, let checkout = Checkout.folder, FileSystem.exists(checkout.appending(path: "registry")) {
            let trees = ServiceTrees(registry: checkout.appending(path: "registry"), modules: checkout.appending(path: "modules"))
            return ServicePlaces(trees: trees, home: nil)
        }
        throw StackError(
            .notFound,
            "There are no services in \(home.folder.path): './dcm up\(location.suffix)' makes a stack there. "
                + "--home names another stack, --registry with --modules any two folders.",
        )
    }

    private func variable(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    static func url(_ path: String) -> URL { URL(fileURLWithPath: (path as NSString).expandingTildeInPath).standardizedFileURL }
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
