import ArgumentParser
import Foundation
import Stack

/// What a first start does before router and workers: `./dcm up` does it by itself, containers with this.
struct ServiceFillCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fill",
        abstract: "Gives empty folders the bundled services that SERVICES names, and makes the file of ANONYMIZER_KEY_FILE.",
        shouldDisplay: false,
    )

    @OptionGroup var options: ServiceOptions

    func run() async throws {
        let trees = try options.places().trees
        let environment = ProcessInfo.processInfo.environment
        if let key = environment["ANONYMIZER_KEY_FILE"], !key.isEmpty { try SecretFile.generate(URL(fileURLWithPath: key)) }
        guard let bundled = Checkout.bundled else {
            throw StackError(.notFound, "No bundled services are found: BUNDLED_SERVICES names their folder.")
        }
        let setting = environment[BundledServices.variable].flatMap { $0.isEmpty ? nil : $0 }
        let pipeline = bundled.folder.deletingLastPathComponent().appendingPathComponent("registry/settings.json")
        if let installed = try bundled.fill(trees, setting: setting, pipeline: pipeline) {
            say("Installed \(installed.isEmpty ? "no service" : installed.joined(separator: ", ")) into \(trees.registry.path)")
        } else {
            say("\(trees.registry.path) and \(trees.modules.path) keep what they have")
        }
    }
}
