import ArgumentParser
import Foundation
import Stack

/// What a first start does before router and workers: `./dcm up` does it by itself, containers with this.
struct ServiceFillCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fill",
        abstract: "Gives folders that are empty the bundled services that SERVICES names; changes nothing in others.",
        shouldDisplay: false,
    )

    @OptionGroup var options: ServiceOptions

    func run() async throws {
        let trees = try options.places().trees
        guard let bundled = Checkout.bundled else {
            throw StackError(.notFound, "No bundled services are found: BUNDLED_SERVICES names their folder.")
        }
        let setting = ProcessInfo.processInfo.environment[BundledServices.variable].flatMap { $0.isEmpty ? nil : $0 }
        let pipeline = bundled.folder.deletingLastPathComponent().appendingPathComponent("registry/settings.json")
        if let installed = try bundled.fill(trees, setting: setting, pipeline: pipeline) {
            say("Installed \(installed.isEmpty ? "no service" : installed.joined(separator: ", ")) into \(trees.registry.path)")
        } else {
            say("\(trees.registry.path) and \(trees.modules.path) keep what they have")
        }
    }
}
